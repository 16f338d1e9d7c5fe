"""Trajectories: where steps end, which are stopped, and what that saves, by examples worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.inside.early_stop import by_share, right_so_far, within
from benchmarks.inside.step_sources import aggregates, free_signals, running_mean, step_records, steps_left
from benchmarks.inside.stopping import Stops, compared, escalated, lowest, scheduled, stop, threshold
from benchmarks.inside.trajectories import Trajectories, step_ends
from confide.errors import ConfideError
from confide.records import Message, Record


def answered(id: str, correct: bool, lines: int) -> Record:
    """An answer of so many lines of three tokens, a line break among them but for the last line."""
    text = "\n".join(["1=", *["2="] * (lines - 1)])
    starts = [at for line in range(lines) for at in (3 * line, 3 * line + 1, 3 * line + 2)][: 3 * lines - 1]
    return Record(
        id=id, messages=[Message(role="user", content="1" + " +1" * lines)], answer=text, correct=correct,
        answer_ids=list(range(len(starts))), token_starts=starts, logprobs=[-0.1 * (i + 1) for i in range(len(starts))],
        entropies=[0.5] * len(starts), end_logprob=-0.01,
    )  # fmt: skip


@pytest.fixture
def found() -> Trajectories:
    records = [answered("a", True, 3), answered("b", False, 2)]
    return Trajectories(
        records,
        answer=np.array([0, 0, 0, 0, 1, 1, 1]),
        place=np.array([0, 1, 2, 3, 0, 1, 2]),
        tokens=np.array([0, 3, 6, 8, 0, 3, 5]),
        states=np.zeros((7, 1, 1), np.float16),
    )


def test_a_line_ends_with_the_token_that_breaks_it() -> None:
    assert step_ends(answered("a", True, 3)) == [3, 6, 8]
    joined = Record(id="b", answer="1=\n2=", answer_ids=[1, 2, 3], token_starts=[0, 1, 4])  # "=\n2" is one token
    assert step_ends(joined) == [2, 3]
    assert step_ends(Record(id="c", answer="12", answer_ids=[1, 2], token_starts=[0, 1])) == [2]


def test_an_answer_stops_where_it_first_falls_below(found: Trajectories) -> None:
    values = np.array([-9.0, 1.0, -2.0, -5.0, 0.0, -1.5, 3.0])
    at = scheduled(found, from_prompt=False)
    assert at.tolist() == [False, True, True, False, False, True, False]
    assert lowest(found, values, at).tolist() == [-2.0, -1.5]
    stops = stop(found, values, at, -1.6)
    assert (stops.stopped.tolist(), stops.tokens.tolist()) == ([True, False], [6, 5])
    early = stop(found, values, scheduled(found, from_prompt=True), -1.6)
    assert (early.stopped.tolist(), early.tokens.tolist()) == ([True, False], [0, 5])


def test_what_is_right_so_far_knows_the_first_wrong_step(found: Trajectories) -> None:
    found.records[1] = found.records[1].model_copy(update={"first_error": 0})
    assert right_so_far(found).tolist() == pytest.approx([1, 4 / 3, 5 / 3, 2, 1, 0, 0])


def test_the_threshold_stops_no_larger_share_of_right_ones_than_shown() -> None:
    scores = np.arange(1000.0)
    stopped = np.sum(scores < threshold(scores, 0.05))
    assert binom.cdf(stopped, 1000, 0.05) <= 0.05 < binom.cdf(stopped + 1, 1000, 0.05)
    with pytest.raises(ConfideError, match="need at least 59 independent fine rows"):
        threshold(scores[:10], 0.05)


def test_a_threshold_keeps_its_promise_on_fresh_rows() -> None:
    draw = np.random.default_rng(0)
    broken = [np.mean(draw.normal(size=20_000) < threshold(draw.normal(size=500), 0.1)) > 0.1 for _ in range(200)]
    assert np.mean(broken) <= 0.08


def test_stopped_answers_are_escalated_first() -> None:
    end = np.array([0.9, 0.1, 0.5, 0.3])
    assert escalated(end, 0.5).tolist() == [False, True, False, True]
    assert escalated(end, 0.5, np.array([True, False, False, False])).tolist() == [True, True, False, False]


def test_savings_are_paired_with_deciding_at_the_end() -> None:
    right, tokens = np.array([True, True, False, False]), np.array([10, 10, 10, 10])
    stops = Stops(np.array([False, False, False, True]), np.array([10, 10, 10, 2]))
    told = compared(right, tokens, stops, np.array([0.9, 0.8, 0.1, 0.2]), 0.5, 1.0, seed=0)
    assert (told["stopped"], told["stopped_of_right"], told["stopped_of_wrong"]) == (0.25, 0.0, 0.5)
    assert told["saved"]["value"] == pytest.approx(0.2)
    assert told["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    bad = compared(right, tokens, Stops(np.array([True, False, False, False]), tokens), np.zeros(4), 0.25, 1.0, seed=0)
    assert bad["accuracy"]["early"]["value"] == 0.5


def test_aggregates_run_along_each_answer(found: Trajectories) -> None:
    made = aggregates(found, np.array([0.0, 2.0, -1.0, 1.0, 3.0, 1.0, 2.0]))
    assert made["minimum"].tolist() == [0.0, 0.0, -1.0, -1.0, 3.0, 1.0, 1.0]
    assert made["mean"].tolist() == [0.0, 1.0, pytest.approx(1 / 3), 0.5, 3.0, 2.0, 2.0]
    assert made["product"][0] == pytest.approx(np.log(0.5))
    assert made["product"][4] == pytest.approx(-np.log1p(np.exp(-3.0)))


def test_means_run_over_step_ends_alone(found: Trajectories) -> None:
    states = np.array([[9.0], [1.0], [2.0], [6.0], [9.0], [4.0], [6.0]], np.float32)
    assert running_mean(found, states)[:, 0].tolist() == [9.0, 1.0, 1.5, 3.0, 9.0, 4.0, 5.0]


def test_free_signals_are_of_the_step_and_of_all_so_far(found: Trajectories) -> None:
    free = free_signals(found)
    assert free[2, :7] == pytest.approx([-1.5, -0.5, -0.6, -2.1, -0.35, -0.6, 2])
    assert free[0, :7].tolist() == [0.0] * 7
    assert steps_left(found).tolist() == [3, 2, 1, 0, 2, 1, 0]


def test_a_step_is_an_answer_behind_what_was_written(found: Trajectories) -> None:
    step = step_records(found)[2]
    assert (step.id, step.answer, step.reasoning_ids, step.answer_ids) == ("a#step 2", "2=", [0, 1, 2], [3, 4, 5])
    assert step.end_logprob == pytest.approx(-0.7)
    assert step_records(found)[3].end_logprob == -0.01


def test_correlation_counts_problems_whose_value_moves(found: Trajectories) -> None:
    flat = {name: np.zeros(7) for name in ("step_sum", "step_mean", "step_min", "sum", "mean", "min", "portable")}
    values = flat | {
        "free_learned": np.zeros(7),
        "reading of means": np.zeros(7),
        "place": np.arange(7.0),
        "reading": -np.arange(7.0),
    }
    told = within(found, values, {"a": [0.9, 0.5, 0.1], "b": [0.5, 0.5]}, seed=0)
    assert told["problems"] == 1
    assert told["sources"]["reading"]["value"] == pytest.approx(1.0)
    assert told["sources"]["place"]["value"] == pytest.approx(-1.0)
    assert told["sources"]["sum"]["value"] == 0.0


def test_the_share_seen_counts_steps(found: Trajectories) -> None:
    values = np.array([0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 1.0])
    told = by_share(found, values, np.arange(7), seed=0)
    assert [one["value"] for one in told] == [0.5, 0.5, 0.5, 0.5, 1.0]
