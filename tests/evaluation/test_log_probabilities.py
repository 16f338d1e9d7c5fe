"""A source in log space is ranked by its own values and judged as the probability that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from confide.evaluation import evaluate
from confide.evaluation.record_columns import select
from confide.methods.scoring import score
from confide.records import Record
from confide.report.page import render
from confide.sources import LOG_SPACE

N = 400


def rows(scale: float, name: str = "logprob_sum") -> list[Record]:
    """Right answers are likelier; ``scale`` is how long the answers are."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(N):
        right = bool(rng.random() < 0.5)
        c = -scale * float(rng.uniform(0.2, 0.5) if right else rng.uniform(0.5, 1.0))
        value = c if name in LOG_SPACE else float(np.exp(c))
        confidence = {name: value, "answer_only": float(rng.random()), "stack": float(rng.random())}
        split = ("validation", "test")[i % 2]
        out.append(
            Record(
                id=str(i), split=split, correct=right, confidence=confidence, logprobs=[c / 4] * 4, consistency=0.5,
                **({} if right else {"error_kind": "digit"}),
            )
        )  # fmt: skip
    return out


def numbers(entry: Any, path: str = "") -> dict[str, float]:
    """Every number in a part of results.json by its path."""
    if isinstance(entry, dict):
        return {p: v for key, value in entry.items() for p, v in numbers(value, f"{path}/{key}").items()}
    return {path: entry} if isinstance(entry, int | float) else {}


def test_long_answers_rank_perfectly() -> None:
    entry = evaluate(rows(2000), resamples=20)["estimators"]["logprob_sum"]
    assert entry["auroc"]["value"] == 1.0
    assert entry["distinct"] == N / 2
    assert entry["aurc"]["value"] < 0.2


def test_every_figure_is_that_of_the_probability() -> None:
    logs, shares = (evaluate(rows(4, name), resamples=50) for name in ("logprob_sum", "plain"))
    ours, plain = logs["estimators"]["logprob_sum"], shares["estimators"]["plain"]
    assert numbers(ours) == pytest.approx(numbers(plain))
    assert ours["brier"]["value"] == pytest.approx(plain["brier"]["value"])
    means = logs["error_kinds"]["kinds"]["digit"]["confidence"]["logprob_sum"]
    assert means["value"] == pytest.approx(shares["error_kinds"]["kinds"]["digit"]["confidence"]["plain"]["value"])
    assert logs["controls"]["outside_unit_interval"]["sources"] == {}


def test_rows_know_both_scales() -> None:
    some = select(rows(4))
    told = some.probability("logprob_sum")
    assert told is not None
    assert told == pytest.approx(np.exp(some.confidence("logprob_sum")))
    assert some.probability("stack") == pytest.approx(some.confidence("stack"))


@pytest.mark.parametrize("scale", [4, 2000])
def test_the_page_shows_it(scale: float) -> None:
    records = rows(scale)
    html = render(evaluate(records, resamples=20), records)
    assert "confidence of logprob_sum, in nats" in html


def test_calibrated_copies_and_floors_are_probabilities() -> None:
    for row in (scored := score(rows(2000), ["logprob_sum", "shuffled"], calibrated=True)):
        assert (row.confidence["logprob_sum"] or 0) < -300
    told = {name: [r.confidence.get(name) for r in scored] for name in ("logprob_sum_calibrated", "shuffled")}
    assert all(0 <= v <= 1 for v in [*told["logprob_sum_calibrated"], *told["shuffled"]] if v is not None)
    found = evaluate(scored, resamples=10)["estimators"]["logprob_sum_calibrated"]
    assert found["auroc"]["value"] > 0.99
    assert found["brier"]["value"] < 0.05
