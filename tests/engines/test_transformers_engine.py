"""The engine: padding, shared prefixes and staging change no answer; readings are the same however they come."""

from __future__ import annotations

import pytest
import torch

from confide.engines.transformers.prefixes import first_difference, group_batches, prefix_groups
from confide.engines.transformers.token_scores import token_scores
from confide.engines.transformers.transformers_engine import FIRST_STAGE, TransformersEngine
from confide.errors import ConfideError
from confide.records import Message, Record
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
    alone = [tiny.generate([p], 12)[0][0] for p in asked]
    together = tiny.generate(asked, 12)[0]
    assert tiny.share_prefixes(asked) == [0] * len(asked)
    assert len(tiny.shared_prefix(asked)[0]) > 20
    shared = tiny.generate(asked, 12)[0]
    for one, two, three in zip(alone, together, shared, strict=True):
        assert one.ids == two.ids == three.ids
        assert one.logprobs == pytest.approx(three.logprobs, abs=1e-4)
        assert one.entropies == pytest.approx(three.entropies, abs=1e-4)


def test_answers_equal_plain_generate() -> None:
    tiny = engine()
    asked = prompts(tiny)
    tiny.share_prefixes(asked)
    for prompt, answer in zip(asked, tiny.generate(asked, 12)[0], strict=True):
        plain = tiny.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=tiny.end_ids,
            pad_token_id=tiny.turn_end,
        )[0, len(prompt):].tolist()  # fmt: skip
        assert answer.ids == [token for token in plain if token not in tiny.end_ids]


def test_staging_and_keeping_write_the_same_answers() -> None:
    tiny = engine()
    asked = prompts(tiny)
    staged = tiny.generate(asked, FIRST_STAGE + 5)[0]
    kept = tiny.generate(asked, FIRST_STAGE + 5, keep=True)[0]
    assert [c.ids for c in staged] == [c.ids for c in kept]
    assert any(len(c.ids) > FIRST_STAGE for c in staged)


@pytest.mark.parametrize("shared", [True, False])
def test_a_reading_is_the_same_from_generation_and_from_given_answers(shared: bool) -> None:
    tiny = engine()
    asked = prompts(tiny)
    if shared:
        tiny.share_prefixes(asked)
    rows = torch.randn(3, 32)
    completions, _, kept = tiny.generate(asked, 9, layers=[1, 2], keep=True)
    assert kept is not None
    forced, measured = tiny.forced(asked, [c.ids for c in completions], layers=[1, 2], measure=True)
    with torch.no_grad():
        torch.testing.assert_close(
            tiny.read(kept, rows, layers=[1, 2]), tiny.read(forced, rows, layers=[1, 2]), atol=1e-4, rtol=1e-4
        )
        again = tiny.read(kept, rows)
    torch.testing.assert_close(again, tiny.read(forced, rows), atol=1e-4, rtol=1e-4)
    for layer in (1, 2):
        assert kept.states[layer].shape == (len(asked), 4, 32)
        torch.testing.assert_close(kept.states[layer], forced.states[layer], atol=1e-4, rtol=1e-4)
    for written, read in zip(completions, measured, strict=True):
        assert written.logprobs == pytest.approx(read.logprobs, abs=1e-3)


def test_samples_are_seeded_and_come_beside_the_greedy_answer() -> None:
    tiny = engine()
    asked = prompts(tiny)
    greedy, sampled, _ = tiny.generate(asked, 8, samples=3, seed=5)
    again = tiny.generate(asked, 8, samples=3, seed=5)[1]
    other = tiny.generate(asked, 8, samples=3, seed=6)[1]
    ids = [[s.ids for s in group] for group in sampled]
    assert ids == [[s.ids for s in group] for group in again]
    assert ids != [[s.ids for s in group] for group in other]
    assert [c.ids for c in greedy] == [c.ids for c in tiny.generate(asked, 8)[0]]


def test_prompts_are_grouped_by_how_they_start() -> None:
    first, second = [1] * 20, [2] * 30
    prompts = [[*first, 5, 6], [*second, 7], [*first, 8], [9, 9, 9], [*second, 3, 4], [4, 4], [7, 8, 9]]
    groups, prefixes = prefix_groups(prompts)
    assert groups[0] == groups[2]
    assert groups[1] == groups[4]
    assert len({groups[0], groups[1], groups[3]}) == 3
    assert prefixes[groups[0]] == first
    assert prefixes[groups[1]] == second
    assert prefixes[groups[3]] == []
    assert groups[3] == groups[5] == groups[6]  # alone, so batched together


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    tiny = engine(context=64)
    with pytest.raises(ConfideError, match="does not fit the context of 64"):
        tiny.generate([[5] * 80], 4)


def test_a_prompt_with_several_answers_runs_once_and_reads_the_same() -> None:
    tiny = engine()
    asked = prompts(tiny)
    tiny.share_prefixes(asked)
    rows = [0, 1, 0, 2, 1, 0]
    answers = [[5, 6], [7], [8, 9, 10], [], [11], [12, 13]]
    fed: list[int] = []
    handle = tiny.model.base_model.register_forward_pre_hook(
        lambda _m, _a, kwargs: fed.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    together, measured = tiny.forced([asked[r] for r in rows], answers, layers=[2], measure=True)
    handle.remove()
    assert fed == [3, 6]  # three prompts, then six answers
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        alone, (single,) = tiny.forced([asked[row]], [answer], layers=[2], measure=True)
        torch.testing.assert_close(together.states[2][place], alone.states[2][0], atol=1e-4, rtol=1e-4)
        assert measured[place].logprobs == pytest.approx(single.logprobs, abs=1e-4)
        assert measured[place].end_logprob == pytest.approx(single.end_logprob, abs=1e-4)


def test_token_scores_are_those_of_a_plain_softmax() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 50) * 20, torch.randint(40, (7,))
    logprobs, entropies = token_scores(logits, targets, [41, 42])
    allowed = [i for i in range(50) if i not in (41, 42)]
    plain = torch.distributions.Categorical(logits=logits[:, allowed].double())
    torch.testing.assert_close(entropies.double(), plain.entropy(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logprobs.double(), plain.log_prob(targets), atol=1e-5, rtol=1e-4)
    certain = torch.full((1, 5), -torch.inf)
    certain[0, 2] = 3.0
    assert [float(v) for v in token_scores(certain, torch.tensor([2]))] == [0.0, 0.0]


def test_spans_take_ids_as_written_unless_another_model_wrote_them() -> None:
    tiny = engine()
    messages = [Message(role="user", content="Which?")]
    ids = [*tiny.encode_answer("Fran"), *tiny.encode_answer("ce")]
    own = Record(id="1", messages=messages, answer="France", answer_ids=ids, model="tiny")
    assert tiny.spans(own) == (tiny.encode(messages), ids)
    assert tiny.spans(own.model_copy(update={"answer_ids": []}))[1] == tiny.encode_answer("France")
    other = own.model_copy(update={"model": "big"})
    assert tiny.spans(other)[1] == ids  # the same text: the ids mean the same here
    assert tiny.spans(other.model_copy(update={"answer_ids": [5, 9999]}))[1] == tiny.encode_answer("France")


def test_batches_stay_within_groups_and_hold_every_row_once() -> None:
    batches = group_batches([0, 1, 0, 1, 1, 0], [3, 1, 2, 5, 0, 1], 2)
    assert batches == [[5, 2], [0], [4, 1], [3]]


def test_words_that_start_alike_are_told_apart() -> None:
    assert first_difference([7, 1, 2], [7, 3]) == (1, 3)
    assert first_difference([1], [3]) == (1, 3)
