"""Every way of measuring gives what a plain forward pass of the model gives, whatever the architecture does to logits.

The reference is the model's own forward over one unpadded sequence, with no cache, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from architectures import ARCHITECTURES, architecture
from confide.engines.engine import Completion
from confide.engines.options import choose_options
from confide.engines.transformers.forward import sliding_windows
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.report_tokens import token_ids

every_architecture = pytest.mark.parametrize("name", list(ARCHITECTURES))
CLOSE = {"atol": 2e-4, "rtol": 2e-4}
QUESTIONS = ["Which country is the city in?", "Which?", "red green blue yellow red green, which of them is it?"]


def engine_of(name: str) -> TransformersEngine:
    return TransformersEngine(*architecture(name), name)


def prompts_of(engine: TransformersEngine) -> list[list[int]]:
    head = [{"role": "user", "content": "Which country is the city in? red"}, {"role": "assistant", "content": "blue"}]
    return [engine.encode([*head, {"role": "user", "content": question}]) for question in QUESTIONS]


@torch.no_grad()
def plain(engine: TransformersEngine, ids: Sequence[int]) -> Tensor:
    """The model's own log-probabilities [length, vocabulary] after each token of one sequence."""
    logits: Tensor = engine.model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits.double().log_softmax(-1)


def expected(
    engine: TransformersEngine, prompt: list[int], answer: list[int]
) -> tuple[list[float], list[float], Tensor]:
    """Log-probabilities and entropies of an answer's tokens, and the distribution of the token after it."""
    rows = plain(engine, prompt + answer)[len(prompt) - 1 :]
    logprobs = [float(row[token]) for row, token in zip(rows, answer, strict=False)]
    entropies = [float(-(row.exp() * row).sum()) for row in rows[: len(answer)]]
    return logprobs, entropies, rows[len(answer)]


def check(engine: TransformersEngine, prompt: list[int], completion: Completion) -> None:
    logprobs, entropies, end = expected(engine, prompt, completion.ids)
    np.testing.assert_allclose(completion.logprobs, logprobs, **CLOSE)
    np.testing.assert_allclose(completion.entropies, entropies, **CLOSE)
    if completion.finish == "stop":
        closed_by = engine.turn_end if completion.closed_by is None else completion.closed_by
        assert completion.end_logprob == pytest.approx(float(end[closed_by]), abs=2e-4)


@every_architecture
def test_generated_sampled_and_given_answers_are_measured_alike(name: str) -> None:
    engine = engine_of(name)
    prompts = prompts_of(engine)
    answers = [[5, 6, 7], [], [9, 10, 11, 12, 13, 14]]
    for shared in (False, True):
        if shared:
            engine.forward.share_prefixes(prompts)
            assert sum(map(len, prompts)) - engine.tokens_read(prompts) > 10 * len(prompts)
        written = engine.answer(prompts, 7)
        closed = engine.answer_and_close(prompts, 7).completions
        sampled = [samples[1] for samples in engine.sample(prompts, 7, 2, seed=1)]
        given = engine.closed(prompts, answers, measure=True).completions
        assert [c.ids for c in written] == [c.ids for c in closed]
        for completions in (written, closed, sampled, given):
            for prompt, completion in zip(prompts, completions, strict=True):
                check(engine, prompt, completion)


@every_architecture
def test_next_tokens_and_options(name: str) -> None:
    engine = engine_of(name)
    prompts, tails = prompts_of(engine), [[5, 6, 7], [], [9]]
    for float32 in (False, True):
        following = engine.next_tokens(prompts, [20, 30], tails, float32=float32)
        for row, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
            end = expected(engine, prompt, tail)[2]
            np.testing.assert_allclose(following.logprobs[row], end[[20, 30]], **CLOSE)
            end[[20, 30]] = -torch.inf
            assert following.rival[row] == pytest.approx(float(end.max()), abs=2e-4)
    options = ["France", "Germany, Japan"]
    (choice,) = choose_options(engine, prompts[:1], [options])
    for mean, option in zip(choice.option_logprobs, options, strict=True):
        logprobs = expected(engine, prompts[0], engine.encode_answer(option))[0]
        assert mean == pytest.approx(sum(logprobs) / len(logprobs), abs=2e-4)


@every_architecture
def test_states_of_a_closed_answer(name: str) -> None:
    engine = engine_of(name)
    prompts, answers = prompts_of(engine), [[5, 6, 7], [8], [9, 10, 11, 12]]
    closed = engine.closed(prompts, answers, layers=[1, engine.depth - 1])
    states = closed.states()
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids = [*prompt, *answer, engine.turn_end]
        with torch.no_grad():
            out = engine.model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        for place, layer in enumerate([1, engine.depth - 1]):
            hidden = out.hidden_states[layer][0].float()
            n, end = len(prompt), len(prompt) + len(answer)
            wanted = [hidden[n - 1], hidden[n:end].mean(0), hidden[end - 1], hidden[end]]
            np.testing.assert_allclose(states[row, place], torch.stack(wanted).numpy(), atol=2e-2, rtol=5e-3)


@every_architecture
def test_a_written_verdict_is_measured_by_the_models_own_logits(name: str) -> None:
    model, tokenizer = architecture(name)
    add_to(model, tokenizer)
    engine = TransformersEngine(model, tokenizer, name)
    ids = token_ids(tokenizer)
    _write_rows(engine, [ids.cn, ids.un])
    prompts = prompts_of(engine)
    written = [
        (p, c) for p, c in zip(prompts, engine.answer_and_report(prompts, 40), strict=True) if c.finish == "stop"
    ]
    assert written
    for prompt, completion in written:
        end = expected(engine, prompt, completion.ids)[2]
        assert completion.report_logit == pytest.approx(float(end[ids.cn] - end[ids.un]), abs=2e-4)
    following = engine.next_tokens(prompts, [ids.cn, ids.un], [[5], [6, 7], []], float32=True).logprobs
    for row, (prompt, tail) in enumerate(zip(prompts, [[5], [6, 7], []], strict=True)):
        end = plain(engine, prompt + tail)[-1]
        z = float(end[ids.cn] - end[ids.un])
        assert following[row, 0] - following[row, 1] == pytest.approx(z, abs=2e-4)


def test_a_model_whose_layers_cannot_be_read_again_is_refused_at_the_start() -> None:
    from transformers import Llama4TextConfig, MambaConfig, Qwen3NextConfig

    for kind in (Llama4TextConfig, MambaConfig, Qwen3NextConfig):
        with pytest.raises(ConfideError, match=f"{kind.model_type} has layers .* cannot run here"):
            sliding_windows(kind(num_hidden_layers=4))


def test_a_model_that_makes_its_logits_elsewhere_is_refused_not_misread() -> None:
    engine = engine_of("Llama")
    engine.closed([[5, 6]], [[7]])
    body = engine.model.model
    engine.model.forward = lambda **inputs: SimpleNamespace(logits=engine.model.lm_head(inputs["input_ids"] * 1.0))
    with pytest.raises(ConfideError, match="LlamaForCausalLM makes its logits in a way"):
        engine.forward.logits(torch.zeros(348, 32)[:32])
    assert "forward" not in vars(body)


def _write_rows(engine: TransformersEngine, ids: Sequence[int]) -> None:
    """Give tokens output rows that differ; the mean rows that they start with are equal."""
    torch.manual_seed(3)
    weight: Any = engine.model.get_output_embeddings().weight
    with torch.no_grad():
        weight[list(ids)] = torch.randn(len(ids), weight.shape[1])
