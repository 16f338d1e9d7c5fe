"""annotate, score and ask on a server that runs an exported reader: its confidence is the source ``reader``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_missing_packages import MAIN, MODEL, without
from typer.testing import CliRunner, Result

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.engines.openai import second_request
from confide.numeric import sigmoid
from confide.records import Record, read_records
from verdict_server import (
    ADAPTERS,
    BOTH,
    END,
    KINDS,
    AdaptedLlamaCpp,
    VerdictServer,
    VllmServer,
    encoded,
    exported,
    exported_folder,
    prompt_of,
    z_of,
)

SECOND = ("/v1/completions", "/completion")


def knows(text: str) -> str:
    return "Japan" if text.endswith(("1?", "2?", "3?")) else "Peru"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "kind": "short", "question": f"Where is {n}?", "answer": ["Japan"]} for n in range(40)]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    return exported_folder(tmp_path / "exported")


def flags(server: VerdictServer, kind: str, *more: object) -> list[object]:
    adapter = ["--adapter", ADAPTERS[kind]] if "--reader" in more else []
    return ["--engine", kind, "--base-url", server.url, "--model", "tiny", *adapter, *more]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == ExitCode.DONE, result.output
    return result


def reads(server: VerdictServer) -> int:
    return sum(path in SECOND for path, _ in server.asked)


def expected(record: Record) -> Any:
    turns = [message.model_dump() for message in record.messages]
    z = z_of([*prompt_of(turns), *encoded(record.answer), END])
    return pytest.approx(float(sigmoid(z)), rel=1e-9)


@BOTH
def test_what_annotate_read_is_not_read_again(kind: str, questions: Path, reader: Path, tmp_path: Path) -> None:
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    with KINDS[kind](knows=knows).running() as server:
        done("annotate", *flags(server, kind, "--reader", reader), "--task", questions, "--out", records)
        before, shown = reads(server), 3 * (2 if kind == "vllm" else 1)
        assert before == shown + 40 * (2 if kind == "vllm" else 1)
        done("score", *flags(server, kind, "--reader", reader), records, "--out", scored)
        assert reads(server) == before + shown
    rows = [row for row in read_records(scored) if row.split != "train"]
    assert [row.confidence["reader"] for row in rows] == [expected(row) for row in rows]
    assert {row.scored_by["reader"] for row in rows} == {"def-second"}
    assert [row.cost["reader"].tokens for row in rows] == [tokens_of(row, kind) for row in rows]
    assert {row.correct for row in rows} == {True, False}


@BOTH
def test_answers_that_were_not_read_are_read_by_their_text(
    kind: str, questions: Path, reader: Path, tmp_path: Path
) -> None:
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    with KINDS[kind](knows=knows).running() as server:
        done("annotate", *flags(server, kind), "--task", questions, "--out", records)
        assert reads(server) == 0
        line = ["score", *flags(server, kind, "--reader", reader), "--source", "reader,logprob_sum"]
        done(*line, records, "--out", scored)
    rows = [row for row in read_records(scored) if row.split != "train"]
    assert [row.confidence["reader"] for row in rows] == [expected(row) for row in rows]
    assert [row.cost["reader"].tokens for row in rows] == [tokens_of(row, kind) for row in rows]


def test_an_adapter_on_llama_cpp_writes_neither_answers_nor_samples(
    questions: Path, reader: Path, tmp_path: Path
) -> None:
    records = tmp_path / "records.jsonl"
    with AdaptedLlamaCpp().running() as server:
        line = ["annotate", *flags(server, "llama.cpp", "--reader", reader), "--samples", "2", "--limit", "8"]
        done(*line, "--task", questions, "--out", records)
        done("ask", *flags(server, "llama.cpp", "--adapter", "1"), "Where is 1?")
        assert server.words_by_the_model_alone()
    rows = read_records(records)
    assert {row.answer for row in rows} == {"Japan"}
    assert {sample.answer for row in rows for sample in row.samples} == {"Japan"}
    assert all(sigmoid(row.verdict["z"]) == expected(row) for row in rows if row.verdict)
    assert sum(row.verdict is not None for row in rows) == 8


def tokens_of(record: Record, kind: str) -> int:
    """What is read and written to read an answer."""
    turns = [message.model_dump() for message in record.messages]
    return (2 if kind == "vllm" else 1) * (len(prompt_of(turns)) + len(encoded(record.answer)) + 1 + 1)


@BOTH
def test_what_another_reader_found_does_not_count(kind: str, questions: Path, reader: Path, tmp_path: Path) -> None:
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    other = vars(exported()) | {"identity": "weights=abc, confidence=another"}
    (tmp_path / "other.json").write_text(json.dumps(type(exported())(**other).to_json()))
    with KINDS[kind](knows=knows).running() as server:
        done("annotate", *flags(server, kind, "--reader", reader), "--task", questions, "--out", records)
        before = reads(server)
        line = ["score", *flags(server, kind, "--reader", tmp_path / "other.json"), "--source", "reader"]
        done(*line, records, "--out", scored)
        assert reads(server) >= before + 20
    assert {row.scored_by["reader"] for row in read_records(scored)} == {"another-second"}


@BOTH
def test_rows_that_cannot_be_read_have_none(kind: str, reader: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Where is Nara?"}]
    rows = [
        {"id": "good", "messages": turns, "answer": "Japan", "model": "tiny"},
        {"id": "cut", "messages": turns, "answer": "Japan", "model": "tiny", "finish": "length"},
        {"id": "thought", "messages": turns, "answer": "Japan", "model": "tiny", "reasoning": "Kyoto is near."},
    ]
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with KINDS[kind]().running() as server:
        line = ["score", *flags(server, kind, "--reader", reader), "--source", "reader"]
        done(*line, records, "--out", scored)
    values = {row.id: row.confidence["reader"] for row in read_records(scored)}
    assert values == {"good": expected(read_records(scored)[0]), "cut": None, "thought": None}


@BOTH
def test_a_server_that_fails_at_some_costs_these_alone(
    kind: str, questions: Path, reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_request, "wait_s", lambda attempt, least: 0.0)
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    with KINDS[kind](knows=knows).running() as server:
        done("annotate", *flags(server, kind), "--task", questions, "--out", records)

        asked = []

        def failing(ids: Sequence[int]) -> float:
            asked.append(ids)
            if len(asked) == 20:
                server.fails = 9
            return z_of(ids)

        server.z = failing
        line = ["score", *flags(server, kind, "--reader", reader, "--concurrency", 1, "--retries", 2)]
        done(*line, "--source", "reader", records, "--out", scored)
    missing = [row.id for row in read_records(scored) if row.confidence["reader"] is None and row.split != "train"]
    assert 0 < len(missing) <= 4


@BOTH
def test_ask_says_it(kind: str, reader: Path) -> None:
    with KINDS[kind]().running() as server:
        told = json.loads(done("ask", *flags(server, kind, "--reader", reader), "--json", "Where is Nara?").stdout)
    z = z_of([*prompt_of([{"role": "user", "content": "Where is Nara?"}]), *encoded("Japan"), END])
    assert (told["answer"], told["source"]) == ("Japan", "reader")
    assert told["confidence"] == pytest.approx(float(sigmoid(z)))


def test_the_path_needs_no_torch(questions: Path, reader: Path, tmp_path: Path) -> None:
    records, scored = tmp_path / "records.jsonl", tmp_path / "scored.jsonl"
    with VllmServer(knows=knows).running() as server:
        for line in (
            ["annotate", *flags(server, "vllm", "--reader", reader), "--task", questions, "--out", records],
            ["score", *flags(server, "vllm", "--reader", reader), records, "--out", scored],
        ):
            result = without(MODEL, MAIN, *line)
            assert result.returncode == 0, result.stderr
    assert all(row.confidence["reader"] is not None for row in read_records(scored) if row.split != "train")


@BOTH
def test_a_server_of_another_model_is_refused(kind: str, questions: Path, reader: Path, tmp_path: Path) -> None:
    with KINDS[kind](z=lambda ids: 9.0).running() as server:
        line = ["annotate", *flags(server, kind, "--reader", reader), "--task", questions, "--out", tmp_path / "r"]
        result = run(*line)
    assert "other weights" in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--engine", "openai", "--reader", "exported"], "--engine vllm and --engine llama.cpp"),
        (["--engine", "vllm", "--adapter", "reads"], "needs --reader"),
        (["--engine", "vllm", "--reader", "exported"], "needs --adapter"),
        (["--engine", "llama.cpp", "--reader", "exported"], "needs --adapter"),
        (["--engine", "vllm", "--reader", "nowhere", "--adapter", "a"], "nowhere"),
        (["--engine", "vllm", "--reader", "exported", "--reading", "served"], "name one"),
        (["--engine", "llama.cpp", "--reader", "exported", "--adapter", "reads"], "no number"),
        (["--engine", "transformers", "--reader", "exported"], "--engine openai, vllm or llama.cpp"),
        (["--engine", "vllm", "--safe-to-ask", "everything"], "logprob_token_ids"),
    ],
)
def test_flags_that_make_no_sense(more: list[str], why: str, reader: Path, tmp_path: Path) -> None:
    named = [str(reader) if word == "exported" else word for word in more]
    with VllmServer().running() as server:
        result = run("ask", "--base-url", server.url, "--model", "tiny", *named, "Where is Nara?")
    assert why in str(result.exception)
