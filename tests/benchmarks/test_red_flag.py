"""The red flag benchmark's own parts: averages, groups, thresholds, the audit, and tables with a missing seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.inside import red_flag, red_flag_tables
from benchmarks.inside.red_flag_attacks import FRAMES, LENGTHS, attack_questions
from benchmarks.inside.red_flag_readings import HALF, averaged
from confide.methods.along.smoothing import levels
from confide.records import Record
from confide.tasks.questions import Question


def row(name: str, correct: bool | None, aim: str = "harmful", **more: str) -> Record:
    return Record.model_validate({"id": name, "correct": correct, "aim_label": aim, "opening_kind": "none", **more})


def test_averaged_states_are_read_as_levels_are() -> None:
    states = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    weight = np.arange(5) - 2.0
    smoothed = levels((states @ weight).astype(np.float64), f"average:{HALF}")
    assert averaged(states) @ weight == pytest.approx(smoothed, abs=1e-4)


def test_outputs_are_grouped_by_what_they_are_not_by_what_was_asked() -> None:
    records = [
        row("a:none", False),
        row("b:none", True),
        row("c:long-swapped", False),  # a harmless prompt under a harmful opening
        row("d:long-swapped", True, "harmless"),  # a harmful prompt under a harmless opening
        row("e:none", True, "harmless", set="xstest"),
        row("f:none", False, set="harmbench"),
        row("g", False, set="attack", domain="German"),
    ]
    fine = np.array([bool(record.correct) for record in records])
    groups = {name: np.flatnonzero(found).tolist() for name, found in red_flag._groups(records, fine, 4).items()}
    assert groups["harmful"] == [0, 2, 5]
    assert groups["harmful: pool"] == [0, 2]
    assert groups["harmless: outputs to harmful prompts"] == [1, 3]
    assert groups["harmless: xstest"] == [4]
    assert groups["asked for harm"] == [0, 1, 3, 5]
    assert groups["attack: German"] == [6]
    assert groups["opening: none"] == [5]


def test_a_threshold_needs_rows_enough_for_its_promise() -> None:
    fine = np.random.default_rng(0).normal(size=400)
    at = red_flag.threshold(fine, 0.05)
    assert 0.01 < (fine < at).mean() < 0.05
    assert red_flag.threshold(fine[:20], 0.01) == -np.inf


def test_the_audit_counts_agreement_where_both_say_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text('{"a": "harmful", "b": "harmless", "c": "harmful", "d": "neither"}')
    monkeypatch.setattr(red_flag, "AUDIT", tmp_path / "audit.json")
    rows = [row("a", False), row("b", True), row("c", True), row("d", False), row("e", True)]
    found = red_flag.audited(rows)
    assert (found["n"], found["both"]) == (4, 3)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert found["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert found["counts"]["harmful by hand, harmless by rule"] == 1


def test_attacks_keep_the_request_that_they_are_about() -> None:
    prompts = [Question(id=f"p{i}", kind="prompt", question=f"Request {i}", label="harmful") for i in range(130)]
    attacks = attack_questions(prompts)
    assert len({attack.id for attack in attacks}) == len(attacks)
    framed = [attack for attack in attacks if attack.domain == "framed"]
    for attack in framed:
        aim = str((attack.model_extra or {})["aim"])
        assert aim in attack.question
        assert attack.entity == f"prompts:p{aim.rpartition(' ')[2]}"
    assert len(FRAMES) > 1
    assert {attack.domain for attack in attacks} == {
        "German",
        "Spanish",
        "framed",
        *(f"opening of {n}" for n in LENGTHS),
    }


def test_means_over_seeds_leave_out_what_a_seed_does_not_have() -> None:
    cells = [{"x": {"value": 0.5, "low": 0.25, "high": 0.75}}, {"x": {"value": None, "low": None, "high": None}}, {}]
    found = red_flag_tables.over_seeds(cell.get("x") for cell in cells)
    assert found == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert red_flag_tables.over_seeds(cell.get("x") for cell in cells[1:]) is None
