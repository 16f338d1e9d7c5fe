"""What a checkpoint's generation settings hold neither crashes a run nor changes an answer: greedy means greedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from confide.engines.transformers.transformers_engine import TransformersEngine
from tiny_model import tiny_model

SETTINGS: list[dict[str, Any]] = [
    {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
    {"repetition_penalty": 1.8},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_beams": 2, "num_return_sequences": 2},
    {"min_length": 30},
    {"min_new_tokens": 8},
    {"max_length": 3},
    {"max_time": 0.0},
    {"forced_eos_token_id": 2},
    {"forced_bos_token_id": 5},
    {"suppress_tokens": list(range(5, 200))},
    {"begin_suppress_tokens": list(range(5, 200))},
    {"bad_words_ids": [[i] for i in range(5, 200)]},
    {"sequence_bias": [[[i], -50.0] for i in range(5, 100)]},
    {"stop_strings": ["a", "e"]},
    {"typical_p": 0.1, "do_sample": True},
    {"exponential_decay_length_penalty": [0, 5.0]},
    {"guidance_scale": 3.0},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"prompt_lookup_num_tokens": 3},
    {"cache_implementation": "static"},
    {"use_cache": False},
    {"return_dict_in_generate": False, "output_logits": False},
    {"output_scores": True, "output_hidden_states": True, "output_attentions": True},
    {"pad_token_id": None, "bos_token_id": 7},
]


def asked(engine: TransformersEngine) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": text}]) for text in ("Which country is it?", "red green blue")]


@torch.no_grad()
def likeliest(engine: TransformersEngine, prompt: list[int], room: int) -> list[int]:
    """The likeliest token, step by step, by plain passes."""
    ids = list(prompt)
    for _ in range(room):
        token = int(engine.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token in engine.end_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "+".join(settings))
def test_answers_are_the_likeliest_tokens_whatever_the_settings(settings: dict[str, Any]) -> None:
    model, tokenizer = tiny_model()
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    before = model.generation_config.to_dict()
    engine = TransformersEngine(model.float(), tokenizer, "tiny")
    prompts = asked(engine)
    wanted = [likeliest(engine, prompt, 7) for prompt in prompts]
    assert [c.ids for c in engine.answer(prompts, 7)] == wanted
    assert [c.ids for c in engine.answer_and_close(prompts, 7).completions] == wanted
    plain = TransformersEngine(*tiny_model(), "tiny")
    for one, other in zip(engine.sample(prompts, 7, 3), plain.sample(prompts, 7, 3), strict=True):
        assert [c.ids for c in one] == [c.ids for c in other]
    for one, other in zip(engine.answer(prompts, 7), plain.answer(prompts, 7), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert model.generation_config.to_dict() == before


def test_the_tokens_that_end_an_answer_are_still_the_checkpoints_own() -> None:
    model, tokenizer = tiny_model()
    plain = TransformersEngine(model, tokenizer, "tiny")
    (prompt, _) = asked(plain)
    third = plain.answer([prompt], 7)[0].ids[2]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, third]
    (answer,) = TransformersEngine(model, tokenizer, "tiny").answer([prompt], 7)
    assert (len(answer.ids), answer.finish, answer.closed_by) == (2, "stop", third)


def test_legacy_settings_in_the_models_own_configuration_do_not_crash() -> None:
    model, tokenizer = tiny_model()
    prompts = asked(TransformersEngine(model, tokenizer, "tiny"))
    wanted = [c.ids for c in TransformersEngine(model, tokenizer, "tiny").answer(prompts, 7)]
    for name, value in {"temperature": 0.5, "num_beams": 3, "repetition_penalty": 1.5}.items():
        setattr(model.config, name, value)
    assert [c.ids for c in TransformersEngine(model, tokenizer, "tiny").answer(prompts, 7)] == wanted
