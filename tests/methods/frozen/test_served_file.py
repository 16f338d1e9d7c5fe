"""What an exported ``reading.json`` may hold: one of an earlier version, or none, is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from answer_world import served_file, served_world
from confide.errors import ConfideError
from confide.methods.frozen.served_file import ServedFile


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("served") / "reading.json"
    data: dict[str, Any] = json.loads(served_file(path, served_world(), 100, 5, [1, 2, 3, 4]).read_text())
    assert ServedFile.load(path).model == data["model"]
    return data


def test_one_of_an_earlier_version_says_what_to_do(exported: dict[str, Any], tmp_path: Path) -> None:
    mixture = {"answers": {"given": {}, "openness": 0.1}, "options": False, "written": True}
    (tmp_path / "reading.json").write_text(json.dumps(exported | {"mixture": mixture}))
    with pytest.raises(ConfideError, match="comes from an earlier version of confide: train again"):
        ServedFile.load(tmp_path / "reading.json")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("mixture", []),
        ("mixture", 3),
        ("mixture", {"signals": []}),
        ("mixture", {"signals": {"kinds": [], "history": [], "text": []}}),
        ("reading", []),
    ],
    ids=str,
)
def test_what_is_none_is_refused_in_one_sentence(
    exported: dict[str, Any], tmp_path: Path, part: str, value: Any
) -> None:
    (tmp_path / "reading.json").write_text(json.dumps(exported | {part: value}))
    with pytest.raises(ConfideError, match=r"reading\.json (is not what|comes from)") as told:
        ServedFile.load(tmp_path / "reading.json")
    assert "\n" not in str(told.value)


def test_history_that_cannot_be_read_is_refused(exported: dict[str, Any], tmp_path: Path) -> None:
    signals = exported["mixture"]["signals"]
    history = {**signals["history"], "given": []}
    mixture = {**exported["mixture"], "signals": {**signals, "history": history}}
    (tmp_path / "reading.json").write_text(json.dumps(exported | {"mixture": mixture}))
    with pytest.raises(ConfideError, match="its parts cannot be used"):
        ServedFile.load(tmp_path / "reading.json")


def test_one_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reading.json").write_text("[" * 100_000)
    with pytest.raises(ConfideError, match="is not what"):
        ServedFile.load(tmp_path / "reading.json")
