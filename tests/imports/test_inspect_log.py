"""Logs that inspect_ai 0.3.285 wrote, without their events: a whole run, and one that failed on its last sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.imports import import_log

DATA = Path(__file__).parent / "data"
WHOLE, FAILED = DATA / "inspect_log.json", DATA / "inspect_failed_log.json"


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object], source: Path = WHOLE) -> Path:
    data = json.loads(source.read_text())
    change(data)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(data))
    return path


def test_every_sample_is_a_record() -> None:
    found = import_log(WHOLE)
    records = found.records("log")
    assert (found.tool, found.label, found.labels) == ("inspect_ai", "match", ["match", "includes"])
    assert [record.id for record in records] == [f"c{number}" for number in range(6)]
    assert [record.correct for record in records] == [True, False, False, True, True, False]
    third = records[2]
    assert (third.question, third.answer, third.reference) == (
        "In which country is Cusco?", "Peru, in the Andes", "Peru",
    )  # fmt: skip
    assert third.logprobs == [-0.1, -0.2]
    assert [turn.role for turn in third.messages] == ["user"]


def test_another_scorer_may_say_what_is_right() -> None:
    assert sum(bool(record.correct) for record in import_log(WHOLE, label="includes").records("log")) == 4


def test_of_a_run_that_failed_the_finished_samples_are_taken() -> None:
    found = import_log(FAILED)
    assert found.left_out == {"the run failed on it": 1}
    assert len(found.records("log")) == 5


def test_a_run_that_failed_before_its_first_sample_says_so(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda data: data.pop("samples"), FAILED)
    with pytest.raises(ConfideError, match="has no samples; the run ended with error"):
        import_log(path)


def test_epochs_of_a_sample_belong_together(tmp_path: Path) -> None:
    def twice(data: dict[str, Any]) -> None:
        data["samples"] += [sample | {"epoch": 2} for sample in data["samples"]]

    records = import_log(changed(tmp_path, twice)).records("log")
    assert [record.id for record in records[::6]] == ["c0-1", "c0-2"]
    assert len({record.cluster for record in records}) == 6


@pytest.mark.parametrize(("value", "correct"), [("C", True), ("I", False), ("N", False), ("P", None), (1.0, True)])
def test_grades_in_letters_and_numbers(tmp_path: Path, value: object, correct: bool | None) -> None:
    def grade(data: dict[str, Any]) -> None:
        data["samples"][0]["scores"]["match"]["value"] = value

    assert import_log(changed(tmp_path, grade)).records("log")[0].correct is correct


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["samples"][1]["scores"]["match"].update(value=0.3), "sample c1: match is 0.3"),
        (lambda data: data["samples"][1].pop("output"), "sample c1 is no sample"),
        (lambda data: data["samples"][1].update(id="c0"), "duplicate"),
    ],
)
def test_a_bad_sample_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    with pytest.raises(ConfideError, match=said):
        import_log(changed(tmp_path, change)).records("log")


def test_an_answer_that_was_cut_or_is_missing(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["samples"][0]["output"]["choices"][0]["stop_reason"] = "max_tokens"
        data["samples"][1]["output"]["choices"] = []

    found = import_log(changed(tmp_path, change))
    assert found.left_out == {"no answer": 1}
    assert found.records("log")[0].finish == "length"
