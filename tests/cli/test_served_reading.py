"""An engine that reads its own states, from the command line: annotate, score, ask; and servers that are not it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from answer_world import IDENTITY, served_file, served_world
from confide.cli.main import app, ended
from confide.engines.openai import reading_check
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.served_stack import served_confidences
from confide.policies.identities import identity_parts
from confide.records import read_records
from endpoint_server import share_of
from reading_server import END, FINGERPRINT, VOCABULARY, ReadingServer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_file(tmp_path_factory.mktemp("served") / "reading.json", served_world(), VOCABULARY, END, FINGERPRINT)


def questions(folder: Path, count: int = 30) -> Path:
    rows = [{"id": f"{n}", "question": f"Question {n}?", "answer": ["Japan"], "kind": "short"} for n in range(count)]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(text: str) -> str:
    return "Japan" if share_of(text, "right") < 0.6 else "Peru again"


def flags(endpoint: ReadingServer, served: Path) -> list[str]:
    return ["--engine", "vllm", "--base-url", endpoint.url, "--model", "tiny", "--reading", str(served)]


def run(*arguments: Any) -> int:
    """The verb's exit code: verbs read their arguments from the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["confide", *map(str, arguments)])
        return ended(app)


def test_annotate_keeps_the_reading_and_score_makes_the_confidence(tmp_path: Path, served: Path) -> None:
    endpoint, rows, scored = ReadingServer(knows=answers), tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    with endpoint.running():
        task = questions(tmp_path)
        assert run("annotate", *flags(endpoint, served), "--task", task, "--out", rows, "--samples", 2) == 0
        asked = [body for body in endpoint.requests if "logprob_token_ids" in body and body.get("max_tokens") != 1]
        assert len(asked) == 30  # samples are not read
        assert run("score", *flags(endpoint, served), rows, "--out", scored) == 0
    records = [record for record in read_records(scored) if record.split != "train"]
    assert all(record.reading is not None and record.answer_ids for record in records)
    for record in records:
        text = record.messages[-1].content
        assert record.reading == pytest.approx(endpoint.z(text, answers(text)), abs=1e-6)
    wanted = served_confidences(ServedFile.load(served).mixture, [record.reading for record in records], records)
    assert [record.confidence["stack_served"] for record in records] == pytest.approx(wanted)
    parts = identity_parts(IDENTITY)
    assert identity_parts(records[0].identity)["weights"] == parts["weights"]
    assert records[0].scored_by["stack_served"] == parts["confidence"]


@pytest.mark.parametrize("known", [FINGERPRINT, None])
def test_what_another_export_read_does_not_count(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str], known: list[int] | None
) -> None:
    """A reading that was trained again on the same weights has another z; so has one of which nobody knows whose."""
    others = [byte ^ 1 for byte in FINGERPRINT]
    other = served_file(tmp_path / "other.json", served_world(1), VOCABULARY, END, others)
    rows, scored = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    with (endpoint := ReadingServer(knows=answers)).running():
        line = ["annotate", *flags(endpoint, served), "--task", questions(tmp_path), "--out", rows, "--samples", 0]
        assert run(*line) == 0
        if known is None:
            rows.write_text("".join(f"{json.dumps(without(row, 'read_by'))}\n" for row in lines(rows)))
        endpoint.plugin = "other"
        line = ["score", *flags(endpoint, other), rows]
        assert run(*line, "--source", "stack_served", "--out", scored) == 2
        assert "stack_served" in capsys.readouterr().err
        assert run(*line, "--out", scored) == 0
    assert not any("stack_served" in record.confidence for record in read_records(scored))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def test_a_new_mixture_of_the_same_reading_needs_no_new_answers(tmp_path: Path, served: Path) -> None:
    newer = served_file(tmp_path / "newer.json", served_world(1), VOCABULARY, END, FINGERPRINT)
    rows, scored = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    with (endpoint := ReadingServer(knows=answers)).running():
        line = ["annotate", *flags(endpoint, served), "--task", questions(tmp_path), "--out", rows, "--samples", 0]
        assert run(*line) == 0
        assert run("score", *flags(endpoint, newer), rows, "--out", scored) == 0
    assert all(record.confidence["stack_served"] for record in read_records(scored) if record.split != "train")


def test_ask_tells_the_learned_confidence(tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (endpoint := ReadingServer()).running():
        assert run("ask", *flags(endpoint, served), "Where is Kyoto?", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["source"] == "stack_served"
        assert 0 < told["confidence"] < 1
        endpoint.plugin = "masked"
        assert run("ask", *flags(endpoint, served), "Where is Kyoto?", "--json") == 2
        assert "ids" in capsys.readouterr().err


@pytest.mark.parametrize(("plugin", "why"), [
    ("none", "without confide's plug-in"), ("silent", "does not return the ids"), ("other", "another export"),
])  # fmt: skip
def test_a_server_that_is_not_it_ends_in_one_sentence(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str], plugin: Any, why: str
) -> None:
    with (endpoint := ReadingServer(plugin=plugin)).running():
        task = questions(tmp_path)
        assert run("annotate", *flags(endpoint, served), "--task", task, "--out", tmp_path / "rows.jsonl") == 2
    assert why in capsys.readouterr().err


def test_a_server_that_is_swapped_in_the_middle_ends_the_run(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = ReadingServer()

    def knows(text: str) -> str:
        if sum(endpoint.answered.values()) > 15:
            endpoint.plugin = "other"
        return "Japan"

    endpoint.knows = knows
    with endpoint.running():
        task = questions(tmp_path, 80)
        rows = tmp_path / "rows.jsonl"
        assert run("annotate", *flags(endpoint, served), "--concurrency", 1, "--task", task, "--out", rows) == 2
    assert "answered without the reading of its export" in capsys.readouterr().err
    assert all(record.reading is not None for record in read_records(rows))


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_fails_when_it_is_looked_at_does_not_end_the_run(
    tmp_path: Path, served: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that is refused has the server looked at; where that gets no answer nothing is known against it."""

    class Busy(ReadingServer):
        fail = 0

        async def handle(self, request: web.Request) -> web.StreamResponse:
            text = (await request.json())["messages"][-1]["content"]
            if text == "Question 7?":
                Busy.fail = 2
                return web.json_response({"error": {"message": "too long"}}, status=400)
            if text == "Hello" and Busy.fail:
                Busy.fail -= 1
                return web.json_response({"error": {"message": "busy"}}, status=status)
            return await super().handle(request)

    monkeypatch.setattr(reading_check, "_LEAST_S", 0.0)
    rows = tmp_path / "rows.jsonl"
    with (endpoint := Busy()).running():
        line = ["annotate", *flags(endpoint, served), "--concurrency", 1, "--task", questions(tmp_path), "--out", rows]
        run(*line, "--samples", 0)
    records = read_records(rows)
    assert len(records) == 29
    assert all(record.reading is not None for record in records)


def test_a_reading_is_for_vllm(tmp_path: Path, served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (endpoint := ReadingServer()).running():
        others = ["openai" if flag == "vllm" else flag for flag in flags(endpoint, served)]
        assert run("ask", *others, "Where is Kyoto?") == 2
    assert "--engine vllm" in capsys.readouterr().err
