"""A tiny model that has learned to think before it answers, in the ways in which chat templates let models think."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from transformers import AddedToken

from confide.engines.transformers.encoding import encode_chat
from tiny_model import TEMPLATE, tiny_model

QUESTIONS = ("Which country is the city in? red", "Which country is the city in? green")
ANSWERS = ("Japan", "Chile")
THOUGHT = "red green, so"

_START = "<|im_start|>assistant\n{% endif %}"
_SWITCH = _START.replace(
    "{% endif %}",
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
TEMPLATES = {
    "think": TEMPLATE.replace(_START, _SWITCH),  # as Qwen 3: it thinks unless told not to
    "opened": TEMPLATE.replace(_START, _START.replace("{% endif %}", "<think>\n{% endif %}")),  # as DeepSeek R1
    "bracket": "{# [THINK]…[/THINK] comes before an answer #}" + TEMPLATE,  # as Magistral
    "channel": "{# <|channel|>analysis<|message|>…<|channel|>final<|message|> #}" + TEMPLATE,  # as gpt-oss
}
TAGS = {
    "think": ("<think>", "</think>"),
    "opened": ("<think>", "</think>"),
    "bracket": ("[THINK]", "[/THINK]"),
    "channel": ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
}


def thinking_model(style: str) -> tuple[Any, Any]:
    """A model that thinks in one ``style`` of `TEMPLATES`, and its tokenizer: copies of what is trained once."""
    return copy.deepcopy(_trained(style))


@functools.cache
def _trained(style: str) -> tuple[Any, Any]:
    model, tokenizer = tiny_model(context=1024)
    special = [AddedToken(name, special=True) for name in ("<|channel|>", "<|message|>")]
    plain = [AddedToken(name, special=False) for name in ("<think>", "</think>", "[THINK]", "[/THINK]")]
    tokenizer.add_tokens([*special, *plain])
    tokenizer.chat_template = TEMPLATES[style]
    model.resize_token_embeddings(len(tokenizer))
    pairs = list(zip(QUESTIONS, ANSWERS, strict=True))
    rows = [_row(tokenizer, style, *pair, at_once) for pair in pairs for at_once in (False, True)]
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in rows])
    mask = (torch.arange(width)[None] < torch.tensor([[len(row)] for row, _ in rows])).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(300):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    return model.eval(), tokenizer


def _row(tokenizer: Any, style: str, question: str, answer: str, at_once: bool) -> tuple[list[int], list[int]]:
    """Token ids and labels of one conversation; ``at_once``: thinking is switched off."""
    how = {"enable_thinking": False} if at_once else {}
    asked = encode_chat(tokenizer, [{"role": "user", "content": question}], how)
    opening, closing = TAGS[style]
    opening = "" if style == "opened" else f"{opening}\n"
    thought = "" if at_once else f"{opening}{THOUGHT}\n{closing}\n\n"
    told = [*tokenizer(f"{thought}{answer}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return asked + told, [-100] * len(asked) + told
