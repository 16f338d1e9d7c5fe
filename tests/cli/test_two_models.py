"""Records of two models: every verb that would mix them refuses, names both, and takes those of one when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from confide.cli.main import app
from confide.records import Record, read_records, write_records

ONE, OTHER = "weights=ab", "weights=cd"
SENTENCE = f"different models; take those of one with --identity: {ONE} (600 rows); {OTHER} (500 rows)"
VERBS: dict[str, tuple[object, ...]] = {
    "evaluate": ("{records}", "--resamples", 20, "--out", "{out}"),
    "signal-quality": ("{records}", "--resamples", 20),
    "score": ("{records}", "--source", "constant", "--out", "{out}"),
    "hedge": ("{records}", "--source", "given", "--out", "{out}"),
    "calibrate": ("{records}", "--source", "given", "--max-risk", 0.2, "--out", "{out}"),
    "validate": ("{policy}", "{records}"),
    "decide": ("{policy}", "{records}", "--out", "{out}"),
}


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(identities: list[str]) -> list[Record]:
    made = []
    for i, identity in enumerate(identities):
        data: dict[str, Any] = {"id": f"r{i}", "answer": "Japan", "identity": identity, "consistency": (i % 5) / 5}
        data |= {"confidence": {"given": (i % 50) / 50}, "correct": (i * 7) % 50 < i % 50 + 9}
        sampled = [{"answer": "a", "correct": j == 0, "confidence": {"given": (i + j) % 50 / 50}} for j in range(2)]
        made.append(Record.model_validate(data | {"samples": sampled}))
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("two")
    made = {"records": folder / "mixed.jsonl", "policy": folder / "policy.json"}
    write_records(made["records"], rows([ONE] * 600 + [OTHER] * 500))
    write_records(folder / "one.jsonl", rows([ONE] * 1500))
    result = invoke("calibrate", folder / "one.jsonl", "--source", "given", "--max-risk", 0.4, "--out", made["policy"])
    assert result.exit_code == 0, result.output
    return made


@pytest.mark.parametrize("verb", VERBS)
def test_two_models_are_refused_and_one_is_taken_when_asked(verb: str, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / ("out" if verb == "evaluate" else "out.jsonl")
    arguments = [str(a).format(**files, out=out) for a in VERBS[verb]]
    refused = invoke(verb, *arguments)
    assert SENTENCE in str(refused.exception), refused.output
    assert not out.exists() or not any(out.iterdir())
    taken = invoke(verb, *arguments, "--identity", ONE)
    assert taken.exit_code in (0, 1, 3), taken.output
    assert not isinstance(taken.exception, Exception) or isinstance(taken.exception, SystemExit)
    if verb in ("score", "hedge"):
        assert {record.identity for record in read_records(out)} == {ONE}
    if verb == "decide":
        assert len(out.read_text().splitlines()) == 600
    if verb == "evaluate":
        assert json.loads((out / "results.json").read_text())["n"] == 600


@pytest.mark.parametrize("verb", VERBS)
def test_rows_that_do_not_say_mix_as_they_always_did(verb: str, files: dict[str, Path], tmp_path: Path) -> None:
    silent = tmp_path / "silent.jsonl"
    write_records(silent, rows([ONE] * 600 + [""] * 500))
    out = tmp_path / ("out" if verb == "evaluate" else "out.jsonl")
    arguments = [str(a).format(records=silent, policy=files["policy"], out=out) for a in VERBS[verb]]
    result = invoke(verb, *arguments)
    assert result.exit_code in (0, 1, 3), result.output
    if verb == "decide":
        assert len(out.read_text().splitlines()) == 1100
