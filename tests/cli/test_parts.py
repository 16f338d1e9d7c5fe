"""``confide parts``: records of parts, and the verbs that take them for answers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from confide.cli.exit_codes import ExitCode
from confide.cli.flags import command
from confide.cli.main import app as every_verb
from confide.cli.main import ended
from confide.cli.parts import parts
from confide.cli.train import app as trained
from confide.methods.confidence_model import Answer
from confide.methods.portable.portable_file import PortableFile
from confide.parts.answer_part import AnswerPart
from confide.records import Record, read_records

ask_verb: Any = importlib.import_module("confide.cli.ask")
app = typer.Typer()
app.command()(command(parts))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def made(number: int, year: int, right: bool, **more: Any) -> dict[str, Any]:
    """An answer of single-character tokens, the name always right; a wrong year is less likely by its own tokens."""
    answer = json.dumps({"name": "Zoë", "year": year if right else year + 1}, ensure_ascii=False)
    logprobs = [-0.01] * len(answer)
    for place in range(answer.rindex(" ") + 1, answer.index("}")):
        logprobs[place] = -0.05 - (0 if right else 1) - number % 5 / 100
    splits = ("train", "validation", "calibration", "test")
    return {
        "id": f"r{number}", "kind": "fields", "model": "m", "split": splits[number % 4], "answer": answer,
        "messages": [{"role": "user", "content": f"Text {number}"}], "reference": {"name": "Zoe", "year": year},
        "answer_ids": list(range(len(answer))), "logprobs": logprobs, "token_starts": list(range(len(answer))),
        "end_logprob": -0.1, "confidence": {"logprob_sum": sum(logprobs)}, **more,
    }  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_field_is_a_graded_record(tmp_path: Path) -> None:
    rows = [made(n, 1900 + n, n % 3 > 0) for n in range(12)]
    result = run(written(tmp_path / "R.jsonl", rows), "--out", tmp_path / "P.jsonl")
    assert result.exit_code == 0, result.output
    assert "24 fields of 12 answers, 20 of 24 right (83.3%)" in result.stdout
    found = read_records(tmp_path / "P.jsonl")
    assert [record.id for record in found[:2]] == ["r0#/name", "r0#/year"]
    assert found[1].logprobs == rows[0]["logprobs"][-5:-1]
    assert {record.domain for record in found} == {"/name", "/year"}
    assert {record.cluster for record in found} == {f"r{n}" for n in range(12)}


def test_what_is_remarkable_is_said(tmp_path: Path) -> None:
    rows = [
        made(
            0,
            1990,
            True,
            answer='{"a": 1, "a": 2, "b": tr',
            reference={"a": 2},
            logprobs=[-0.1] * 24,
            answer_ids=[],
            token_starts=list(range(24)),
        ),
        made(1, 1990, True, answer="no JSON"),
        made(2, 1990, True, token_starts=[]),
    ]
    result = run(written(tmp_path / "R.jsonl", rows), "--out", tmp_path / "P.jsonl", "--json")
    counts = json.loads(result.stdout)
    del counts["out"]
    assert counts == {
        "records": 3, "parts": 3, "graded": 3, "right": 3, "without": 1, "untold": 1, "unfinished": 1, "duplicates": 1,
    }  # fmt: skip
    told = run(tmp_path / "R.jsonl", "--out", tmp_path / "P.jsonl").stdout
    assert "answers with JSON that is cut or broken (the values that were whole until then count): 1" in told
    assert "keys that occur twice in their object (the last one counts): 1" in told
    assert "answers without log-probabilities of their parts" in told


@pytest.mark.parametrize("by", ["sentences", "lines", "steps"])
def test_other_parts_are_not_graded(tmp_path: Path, by: str) -> None:
    rows = [made(0, 1990, True, answer="It is Lyon. It rains.", kind="short", domain="towns")]
    result = run(written(tmp_path / "R.jsonl", rows), "--by", by, "--out", tmp_path / "P.jsonl")
    assert result.exit_code == 0, result.output
    first = read_records(tmp_path / "P.jsonl")[0]
    assert (first.part, first.correct, first.domain) == (f"{by[:-1]} 1", None, "towns")


def test_answers_without_parts_and_parts_of_parts_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "R.jsonl", [made(0, 1990, True, answer="none")])
    assert "none of the 1 answers has fields" in str(run(path, "--out", tmp_path / "P.jsonl").exception)
    written(path, [made(0, 1990, True)])
    assert run(path, "--out", tmp_path / "P.jsonl").exit_code == 0
    again = run(tmp_path / "P.jsonl", "--out", tmp_path / "Q.jsonl")
    assert "row r0#/name is a part of an answer already" in str(again.exception)
    assert not (tmp_path / "Q.jsonl").exists()


def test_every_other_verb_takes_parts_for_answers(tmp_path: Path) -> None:
    splits = ["train", "train", "validation", "test", *["calibration"] * 4]
    right = np.random.default_rng(0).random(480) < 0.6
    rows = [made(n, 1900 + n % 90, bool(right[n]), split=splits[n % 8]) for n in range(480)]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("R", "P", "S")}
    written(files["R"], rows)

    def confide(*arguments: object) -> None:
        code = ended(lambda: every_verb([str(one) for one in arguments], standalone_mode=False))
        assert code == ExitCode.DONE

    confide("parts", files["R"], "--out", files["P"])
    confide("train", "portable", files["P"], "--out", tmp_path / "portable")
    confide("score", files["P"], "--portable", tmp_path / "portable", "--source", "portable,logprob_sum",
            "--out", files["S"])  # fmt: skip
    scored = [record for record in read_records(files["S"]) if record.split == "test" and record.part == "/year"]
    value = {
        label: [float(r.confidence["portable"] or 0) for r in scored if r.correct is label] for label in (True, False)
    }
    assert min(value[True]) > max(value[False])
    confide(
        "calibrate",
        files["S"],
        "--source",
        "portable",
        "--max-risk",
        "0.2",
        "--per-domain",
        "--out",
        tmp_path / "p.json",
    )
    thresholds = json.loads((tmp_path / "p.json").read_text())["thresholds"]
    assert {"/name", "/year"} <= set(thresholds)
    confide("evaluate", files["S"], "--out", tmp_path / "out")
    assert "/year" in (tmp_path / "out" / "report.html").read_text()
    assert isinstance(scored[0], Record)


def test_what_is_learned_of_fields_stands_in_a_folder_by_its_signal(tmp_path: Path) -> None:
    rows = [made(n, 1900 + n % 90, n % 3 > 0, split="train", correct=n % 3 > 0) for n in range(60)]
    run(written(tmp_path / "R.jsonl", rows), "--out", tmp_path / "P.jsonl")

    def train(*arguments: object) -> Any:
        return CliRunner().invoke(trained, ["portable", *map(str, arguments), "--out", str(tmp_path / "out")])

    done = train(tmp_path / "P.jsonl", "--signal", "field")
    assert done.exit_code == 0, done.output
    assert "field learned from 120 parts (100 right, 20 wrong), by text, log-probabilities" in done.stdout
    assert PortableFile.load(tmp_path / "out" / "signals" / "field").training_rows == 120
    assert "no signal 'year' is about parts" in str(train(tmp_path / "P.jsonl", "--signal", "year").exception)
    assert "is a whole answer" in str(train(tmp_path / "R.jsonl", "--signal", "field").exception)


class Asked:
    identity = ""

    def answer(self, question: str, *, max_new_tokens: int, fields: bool = False, claims: bool = False) -> Answer:
        assert not claims
        told = [
            AnswerPart("/year", "null", None, 0.25, "field", 9, 13),
            AnswerPart("/a", "x", "x", None, "field", 0, 1),
        ]
        return Answer('{"year": null}', 0.5, "stack", None, fields=told if fields else [])


def test_ask_prints_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_verb, "load_model", lambda *_, **__: Asked())
    every = typer.Typer()
    every.command()(command(ask_verb.ask))
    told = CliRunner().invoke(every, ["--model", "x", "--fields", "Who?"])
    assert "/year: None  (field 0.25)" in told.stdout
    assert "/a: x  (no confidence)" in told.stdout
    data = json.loads(CliRunner().invoke(every, ["--model", "x", "--fields", "--json", "Who?"]).stdout)
    assert data["fields"][0] == {"name": "/year", "value": None, "confidence": 0.25, "source": "field"}
    assert "fields" not in json.loads(CliRunner().invoke(every, ["--model", "x", "--json", "Who?"]).stdout)
