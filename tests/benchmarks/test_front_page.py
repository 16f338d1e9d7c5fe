"""The README's table: every confidence on the same rows, and its cost beside answering alone."""

from __future__ import annotations

import numpy as np

from benchmarks import common
from benchmarks.quality import front_page, front_page_tables
from benchmarks.quality.proper_scores import Readings
from confide.records import Record

NAMES = ("logprob_sum", "portable", "stack", "reader")


def result(*names: str, **kept: common.Json | None) -> common.Json:
    sources = {name: {"auroc": {"value": 0.75, "low": 0.5, "high": 1.0}} for name in names}
    promised = {name: {"share": 0.25, "wrong": 0.125} for name in names} | kept
    cell = {"sources": sources, "kept": promised, "accuracy": 0.5, "n": 1600, "train": 2000, "calibration": 1200}
    return {"cell": cell, "promise": {"max_risk": 0.2, "level": 0.95}}


ENGINES: common.Json = {
    "reading_cost": {"loads": {front_page_tables.LOAD: {"times": {"reading": {"value": 1.25}}}}},
}
LLAMA_CPP: common.Json = {"answer_ms": 200.0, "second_ms": 100.0}


def lines(found: common.Json) -> list[str]:
    return front_page_tables.summary_table(found, ENGINES, LLAMA_CPP).splitlines()


def test_a_line_says_what_a_confidence_keeps_and_what_it_costs() -> None:
    head, _, free, portable, stack, reader = lines(result(*NAMES))
    assert "kept at a promised risk of 20%" in head
    assert free.endswith(" | 0.750 [0.500, 1.000] | 25.0%, 12.5% wrong | 1.0 |")
    assert [line.split(" | ")[-1] for line in (portable, stack, reader)] == ["1.0 |", "1.2 |", "1.5 |"]


def test_a_goal_that_the_rows_do_not_show_keeps_none() -> None:
    found = result(*NAMES, stack=None, reader={"share": 0.0, "wrong": None})
    assert [line.split(" | ")[2] for line in lines(found)[3:6]] == ["25.0%, 12.5% wrong", "none", "none"]


def readings(n: int, right: np.ndarray, sure: np.ndarray) -> Readings:
    records = [Record(id=f"r{i}", question=f"question {i}", correct=bool(right[i])) for i in range(n)]
    return Readings(records, {"reader": sure})


def test_what_is_kept_is_counted_on_test_rows_by_a_policy_of_the_others() -> None:
    draw = np.random.default_rng(0)
    sure = draw.random(2000)
    right = draw.random(2000) < sure
    held, tested = (readings(1000, right[part], sure[part]) for part in (slice(1000), slice(1000, 2000)))
    found = front_page.promise(held, tested, "reader")
    assert found is not None
    assert 0.3 < found["share"] < 0.7
    assert 0.1 < found["wrong"] < 0.25
    many = Readings([record.model_copy(update={"entity": "one"}) for record in tested.records[:500]], {})
    crowded = Readings(
        [*many.records, *tested.records[500:]], {"reader": np.where(np.arange(1000) < 500, 1.0, sure[1000:])}
    )
    counted_once = front_page.promise(held, crowded, "reader")
    assert counted_once is not None
    assert abs(counted_once["share"] - found["share"]) < 0.06
    none = readings(1000, ~right[:1000] & (sure[:1000] > 0.5), sure[:1000])
    assert front_page.promise(none, tested, "reader") is None
