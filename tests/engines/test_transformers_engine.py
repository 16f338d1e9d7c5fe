"""The engine: padding, shared prefixes and staging change no answer; readings are the same however they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from confide.engines.engine import Engine
from confide.engines.transformers.generation import FIRST_STAGE
from confide.engines.transformers.loading import freeze
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from tiny_model import tiny_model

QUESTIONS = [
    "Which country is the city in?",
    "Which?",
    "red green blue yellow red green, which of them is the country?",
    "Answer: France, Germany",
]


def engine(*, tied: bool = True, context: int = 256) -> TransformersEngine:
    model, tokenizer = tiny_model(tied=tied, context=context)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def prompts(of: TransformersEngine) -> list[list[int]]:
    head = [
        {"role": "system", "content": "Answer with the name only."},
        {"role": "user", "content": "Which country is the city in? red"},
        {"role": "assistant", "content": "France"},
    ]
    return [of.encode([*head, {"role": "user", "content": q}]) for q in QUESTIONS]


@pytest.mark.parametrize("tied", [True, False])
def test_batches_and_shared_prefixes_leave_answers_as_they_are(tied: bool) -> None:
    tiny = engine(tied=tied)
    asked = prompts(tiny)
    alone = [tiny.answer([p], 12)[0] for p in asked]
    together = tiny.answer(asked, 12)
    assert tiny.forward.share_prefixes(asked) == [0] * len(asked)
    assert len(tiny.forward.shared_prefix(asked)[0]) > 20
    shared = tiny.answer(asked, 12)
    for one, two, three in zip(alone, together, shared, strict=True):
        assert one.ids == two.ids == three.ids
        assert one.logprobs == pytest.approx(three.logprobs, abs=1e-4)
        assert one.entropies == pytest.approx(three.entropies, abs=1e-4)


def test_answers_equal_plain_generate() -> None:
    tiny = engine()
    asked = prompts(tiny)
    tiny.forward.share_prefixes(asked)
    for prompt, answer in zip(asked, tiny.answer(asked, 12), strict=True):
        plain = tiny.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=tiny.end_ids,
            pad_token_id=tiny.turn_end,
        )[0, len(prompt):].tolist()  # fmt: skip
        assert answer.ids == [token for token in plain if token not in tiny.end_ids]


def test_staging_and_keeping_write_the_same_answers() -> None:
    tiny = engine()
    asked = prompts(tiny)
    staged = tiny.answer(asked, FIRST_STAGE + 5)
    kept = tiny.answer_and_close(asked, FIRST_STAGE + 5).completions
    assert [c.ids for c in staged] == [c.ids for c in kept]
    assert any(len(c.ids) > FIRST_STAGE for c in staged)


@pytest.mark.parametrize("shared", [True, False])
def test_a_reading_is_the_same_from_generation_and_from_given_answers(shared: bool) -> None:
    tiny = engine()
    asked = prompts(tiny)
    if shared:
        tiny.forward.share_prefixes(asked)
    generated = tiny.answer_and_close(asked, 9, layers=[1, 2])
    given = tiny.closed(asked, [c.ids for c in generated.completions], layers=[1, 2], measure=True)
    states = generated.states()
    np.testing.assert_array_equal(generated.states(), states)  # reading them leaves nothing behind
    assert states.shape == (len(asked), 2, 4, 32)
    np.testing.assert_allclose(states.astype(float), given.states().astype(float), atol=2e-3, rtol=1e-3)
    for one, other in zip(generated.completions, given.completions, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


def test_confides_own_tokens_change_no_answer() -> None:
    plain, (model, tokenizer) = engine(), tiny_model()
    add_to(model, tokenizer)
    asked = prompts(plain)
    for one, other in zip(
        plain.answer(asked, 12), TransformersEngine(model.float(), tokenizer, "tiny").answer(asked, 12), strict=True
    ):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_samples_are_seeded_and_come_beside_the_greedy_answer() -> None:
    tiny = engine()
    asked = prompts(tiny)
    greedy = tiny.answer(asked, 8)
    sampled = tiny.sample(asked, 8, 3, seed=5)
    again = tiny.sample(asked, 8, 3, seed=5)
    other = tiny.sample(asked, 8, 3, seed=6)
    ids = [[s.ids for s in group] for group in sampled]
    assert ids == [[s.ids for s in group] for group in again]
    assert ids != [[s.ids for s in group] for group in other]
    assert [c.ids for c in greedy] == [c.ids for c in tiny.answer(asked, 8)]


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    tiny = engine(context=64)
    with pytest.raises(ConfideError, match="does not fit the context of 64"):
        tiny.answer([[5] * 80], 4)


def test_a_prompt_with_several_answers_runs_once_and_reads_the_same() -> None:
    tiny = engine()
    asked = prompts(tiny)
    tiny.forward.share_prefixes(asked)
    rows = [0, 1, 0, 2, 1, 0]
    answers = [[5, 6], [7], [8, 9, 10], [], [11], [12, 13]]
    fed: list[int] = []
    handle = tiny.forward.blocks[0].register_forward_pre_hook(lambda _, inputs: fed.append(len(inputs[0])))
    together = tiny.closed([asked[r] for r in rows], answers, layers=[2], measure=True)
    handle.remove()
    assert fed == [3, 6]  # three prompts, then six answers
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        alone = tiny.closed([asked[row]], [answer], layers=[2], measure=True)
        (single,) = alone.completions
        torch.testing.assert_close(together.captured[2][place], alone.captured[2][0], atol=1e-4, rtol=1e-4)
        assert together.completions[place].logprobs == pytest.approx(single.logprobs, abs=1e-4)
        assert together.completions[place].end_logprob == pytest.approx(single.end_logprob, abs=1e-4)


def test_an_engine_changes_nothing_about_the_model_and_freezing_is_a_step_of_its_own() -> None:
    model, tokenizer = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = model.generation_config.to_dict()
    engine: Engine = TransformersEngine(model, tokenizer)
    engine.answer([engine.encode([{"role": "user", "content": "Which?"}])], 3)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.generation_config.to_dict() == settings
    assert freeze(model) is model
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_next_tokens_are_those_of_a_plain_pass() -> None:
    tiny = engine()
    asked, tails = prompts(tiny), [[5], [], [7, 8], [9]]
    for rows in tiny.batches(asked):
        said = tiny.next_tokens([asked[i] for i in rows], [10, 11], [tails[i] for i in rows])
        for place, i in enumerate(rows):
            with torch.no_grad():
                plain = tiny.model(torch.tensor([asked[i] + tails[i]])).logits[0, -1].double().log_softmax(-1)
            assert said.logprobs[place].tolist() == pytest.approx(plain[[10, 11]].tolist(), abs=1e-4)
            plain[[10, 11]] = -torch.inf
            assert said.rival[place] == pytest.approx(float(plain.max()), abs=1e-4)
