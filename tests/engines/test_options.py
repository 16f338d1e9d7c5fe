"""Choice by likelihood: the same numbers as one option at a time, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch

from confide.engines.options import choose_options
from confide.engines.transformers.transformers_engine import TransformersEngine
from tiny_model import tiny_model

OPTIONS = [["France", "Berlin is the capital"], ["a", "the river runs", "no"], ["yes", "no", "the sea", "Oslo"]]


def engine() -> TransformersEngine:
    model, tokenizer = tiny_model(context=256)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def prompts(tiny: TransformersEngine) -> list[list[int]]:
    return [
        tiny.encode([{"role": "user", "content": text}]) for text in ("Which?", "Which one is it?", "Why is it so?")
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_each_option_has_the_mean_log_probability_of_its_tokens(shared: bool) -> None:
    tiny = engine()
    asked = prompts(tiny)
    if shared:
        tiny.forward.share_prefixes(asked)
    found = choose_options(tiny, asked, OPTIONS)
    for prompt, texts, choice in zip(asked, OPTIONS, found, strict=True):
        means = []
        for text in texts:
            answer = tiny.encode_answer(text)
            with torch.no_grad():
                logits = tiny.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            values = [float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)]
            means.append(sum(values) / len(values))
        assert choice.option_logprobs == pytest.approx(means, abs=1e-3)
        assert choice.index == max(range(len(means)), key=means.__getitem__)
        assert choice.completion.text == texts[choice.index]
        assert choice.completion.ids == tiny.encode_answer(choice.completion.text)
        assert len(choice.completion.logprobs) == len(choice.completion.entropies) == len(choice.completion.ids)


def test_the_first_of_equal_options_is_taken() -> None:
    tiny = engine()
    assert choose_options(tiny, prompts(tiny)[:1], [["Oslo", "Oslo"]])[0].index == 0
