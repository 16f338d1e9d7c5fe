"""Figures of runs on another machine stay, on the same rows alone."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.quality.trained_tokens import joined, name_of, pool_of
from benchmarks.quality.trained_tokens_tables import RIVALS
from scored_model import records


def cell(taught: str, source: str, value: float, stack: float = 0.9) -> dict[str, Any]:
    """A draw with one run, its rivals and one difference."""
    sources = {name: {"auroc": {"value": stack}} for name in RIVALS} | {source: {"auroc": {"value": value}}}
    differences = [{"a": source, "b": "stack", "value": value - stack}, {"a": "portable", "b": "stack", "value": 0.0}]
    routing = {name: {"apgr": 0.5} for name in sources}
    some = {"n": 1600, "sources": sources, "differences": differences, "routing": routing}
    return {"split": "standard", "seed": 1, "runs": {taught: {"rows": 2000}}, "sets": {"test": some}}


def test_joined_keeps_both_runs() -> None:
    found = joined(cell("adapter", "adapter", 0.91), cell("labels", "self_ref", 0.88))
    assert set(found["runs"]) == {"labels", "adapter"}
    test = found["sets"]["test"]
    assert {"self_ref", "adapter", *RIVALS} == set(test["sources"]) == set(test["routing"])
    assert [(one["a"], one["b"]) for one in test["differences"]] == [
        ("self_ref", "stack"),
        ("portable", "stack"),
        ("adapter", "stack"),
    ]


def test_joined_takes_the_newer_figure_of_a_run() -> None:
    found = joined(cell("labels", "self_ref", 0.91), cell("labels", "self_ref", 0.88))
    assert found["sets"]["test"]["sources"]["self_ref"]["auroc"]["value"] == 0.91
    assert next(one for one in found["sets"]["test"]["differences"])["value"] == pytest.approx(0.01)


def test_joined_refuses_other_rows() -> None:
    with pytest.raises(SystemExit, match="standard-1: logprob_sum was"):
        joined(cell("adapter", "adapter", 0.91, stack=0.8), cell("labels", "self_ref", 0.88))


def test_draws_of_other_records_are_other_draws() -> None:
    rows = [record.model_copy(update={"correct": True}) for record in records(4)]
    other = [*rows[:-1], rows[-1].model_copy(update={"answer": "another one"})]
    assert pool_of(rows) == pool_of(list(rows)) != pool_of(other)
    pools = ["", pool_of(rows), pool_of(other)]
    draws = [
        cell("labels", "self_ref", 0.88) | {"split": split, "seed": seed, "pool": pool}
        for split in ("standard", "answered-country")
        for seed in (0, 1)
        for pool in sorted(pools)
    ]
    assert [name_of(draw) for draw in draws] == sorted({name_of(draw) for draw in draws})
