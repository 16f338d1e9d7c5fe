"""Chat templates that refuse or drop turns: what can be folded is, and the rest is the request's fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from confide.engines.transformers.encoding import encode_chat
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.frozen.frozen_model import FrozenModel
from tiny_model import TEMPLATE, tiny_model, tiny_tokenizer
from upstreams import router

ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + ALTERNATE
)
STRICT = {
    "refuses": NO_SYSTEM + TEMPLATE,  # Gemma, Mistral
    "alternates": ALTERNATE + TEMPLATE,
    "drops": TEMPLATE.replace("messages %}", "messages if message['role'] != 'system' %}", 1),  # without a word
    "trims": NO_SYSTEM + TEMPLATE.replace("message['content']", "message['content'] | trim"),
}
every_template = pytest.mark.parametrize("kind", list(STRICT))


def tokenizer_of(kind: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = STRICT[kind]
    return tokenizer


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def shown(kind: str, *turns: tuple[str, str]) -> str:
    tokenizer = tokenizer_of(kind)
    return str(tokenizer.decode(encode_chat(tokenizer, chat(*turns))))


@every_template
def test_a_system_line_goes_to_the_first_user_turn(kind: str) -> None:
    said = shown(kind, ("system", "Answer briefly."), ("user", "Which?"), ("assistant", "Japan"), ("user", "And red?"))
    assert said == (
        "<|im_start|>user\nAnswer briefly.\n\nWhich?<|im_end|>\n<|im_start|>assistant\nJapan<|im_end|>\n"
        "<|im_start|>user\nAnd red?<|im_end|>\n<|im_start|>assistant\n"
    )


@every_template
def test_several_system_lines_and_one_alone(kind: str) -> None:
    late = shown(kind, ("user", "Which?"), ("assistant", "Japan"), ("system", "Be brief."), ("user", "And red?"))
    assert late.startswith("<|im_start|>user\nBe brief.\n\nWhich?<|im_end|>")
    assert shown(kind, ("system", "One."), ("system", "Two."), ("user", "Which?")).startswith(
        "<|im_start|>user\nOne.\n\nTwo.\n\nWhich?<|im_end|>"
    )
    assert shown(kind, ("system", "Alone.")) == "<|im_start|>user\nAlone.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("kind", ["refuses", "alternates", "trims"])
def test_neighbours_of_one_role_become_one_turn(kind: str) -> None:
    said = shown(kind, ("user", "Which?"), ("user", "Of red ones."), ("assistant", "Ja"), ("assistant", "pan"))
    assert said.startswith(
        "<|im_start|>user\nWhich?\n\nOf red ones.<|im_end|>\n<|im_start|>assistant\nJa\n\npan<|im_end|>"
    )


def test_what_a_template_takes_stays_as_it_is() -> None:
    tokenizer, turns = tiny_tokenizer(), chat(("system", "Brief."), ("user", "Which?"), ("user", "Red."))
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert encode_chat(tokenizer, turns) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["refuses", "alternates", "trims"])
def test_what_cannot_be_folded_is_refused_in_one_sentence(kind: str) -> None:
    with pytest.raises(ConfideError, match="chat template refuses this conversation: Conversation roles must"):
        encode_chat(tokenizer_of(kind), chat(("assistant", "Japan"), ("user", "Which?")))


def test_a_broken_template_is_a_sentence_too() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].missing.part }}"
    with pytest.raises(ConfideError, match=r"chat template refuses this conversation: .*missing"):
        encode_chat(tokenizer, chat(("user", "Which?")))


def test_a_refused_conversation_is_that_requests_fault_and_trips_no_breaker(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    tokenizer.chat_template = STRICT["refuses"]
    small = FrozenModel(TransformersEngine(model, tokenizer, "tiny"), CheckpointInfo(), "tiny")
    settings = {"small": {"model": "x", "max_tokens": 4}, "mode": "observe"}
    bad = {"messages": chat(("assistant", "Japan"), ("user", "Which?"))}
    with router(tmp_path, model=small, **settings) as running:
        for _ in range(8):  # more than a breaker takes
            response = running.post("/v1/chat/completions", bad)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (400, "rejected")
            assert "roles must alternate user/assistant" in error["message"]
        good = running.post("/v1/chat/completions", {"messages": chat(("system", "Brief."), ("user", "Which?"))})
        assert good.status_code == 200
        assert {row["error"] for row in running.rows()} == {"small: rejected", None}


def test_a_refused_conversation_does_not_take_its_neighbours_with_it(tmp_path: Path) -> None:
    import httpx

    model, tokenizer = tiny_model()
    tokenizer.chat_template = STRICT["refuses"]
    small = FrozenModel(TransformersEngine(model, tokenizer, "tiny"), CheckpointInfo(), "tiny")

    async def ask_all(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            turns = [chat(("user", "Which?")), chat(("assistant", "Japan"), ("user", "Which?"))] * 6
            replies = await asyncio.gather(*(client.post("/v1/chat/completions", json={"messages": t}) for t in turns))
            return [reply.status_code for reply in replies]

    with router(tmp_path, model=small, small={"model": "x", "max_tokens": 4}, mode="observe") as running:
        assert asyncio.run(ask_all(running.url)) == [200, 400] * 6
