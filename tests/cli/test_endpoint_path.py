"""From questions to a router through an endpoint alone: annotate, score, calibrate, serve, ask; no torch is there."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_missing_packages import MAIN, MODEL, without
from typer.testing import CliRunner, Result

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.engines.openai import patient_server
from confide.errors import ConfideError
from confide.records import read_records
from endpoint_server import Endpoint, share_of


def knows(text: str) -> str:
    """Right answers where the server is sure, and mostly wrong ones where it is not."""
    return "Japan" if share_of(text) < 0.6 else "Peru"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(knows=knows).running() as server:
        yield server  # type: ignore[misc]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "kind": "short", "question": f"Where is {n}?", "answer": ["Japan"]} for n in range(400)]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flags(endpoint: Endpoint) -> list[str]:
    return ["--engine", "openai", "--base-url", endpoint.url, "--model", "tiny"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_from_questions_to_a_decision_without_torch(endpoint: Endpoint, questions: Path, tmp_path: Path) -> None:
    records, scored, policy = (tmp_path / name for name in ("records.jsonl", "scored.jsonl", "policy.json"))
    for line in (
        ["annotate", *flags(endpoint), "--task", questions, "--out", records],
        ["score", *flags(endpoint), "--source", "standard", records, "--out", scored],
        ["evaluate", scored, "--out", tmp_path / "report"],
        ["calibrate", scored, "--source", "logprob_sum", "--max-risk", "0.3", "--out", policy],
    ):
        done = without(MODEL, MAIN, *line)
        assert done.returncode == 0, done.stderr
    rows = read_records(scored)
    assert len(rows) == 400
    assert {name for row in rows for name in row.confidence} >= {"logprob_sum", "logprob_mean", "p_true"}
    assert {row.identity.partition(",")[0] for row in rows} == {"model=tiny"}
    asked = without(MODEL, MAIN, "ask", *flags(endpoint), "--policy", policy, "--json", "Where is 7?")
    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert told["answer"] == knows("Where is 7?")
    assert told["decision"] in ("answer", "escalate")


def test_questions_without_an_answer_are_told_and_the_same_command_asks_them_alone(
    endpoint: Endpoint, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_server, "_FIRST_WAIT_S", 0.001)
    endpoint.fails, endpoint.stall_s = 0.3, 0.0
    line = ["annotate", *flags(endpoint), "--task", questions, "--retries", 1, "--out", tmp_path / "r.jsonl"]
    first = run(*line)
    assert first.exit_code == ExitCode.LEFT_OUT, first.output
    assert "the same command again asks those alone" in first.stderr
    there = {record.id for record in read_records(tmp_path / "r.jsonl")}
    assert 300 < len(there) < 400
    endpoint.fails = 0.0
    endpoint.requests.clear()
    assert run(*line).exit_code == ExitCode.DONE
    rows = read_records(tmp_path / "r.jsonl")
    assert len(rows) == len({row.id for row in rows}) == 400
    asked = [body["messages"][-1]["content"] for body in endpoint.requests]
    assert sum(text.startswith("Where") for text in asked) == 400 - len(there)


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice_that_had_arrived(
    endpoint: Endpoint, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.jsonl"
    endpoint.pause_s = 0.05
    command = [sys.executable, "-m", "confide.cli.main", "annotate", *flags(endpoint), "--concurrency", "4"]
    command += ["--task", str(questions), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not out.exists() or out.read_bytes().count(b"\n") < 20:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    there = _ids(out)
    assert 20 <= len(there) < 400
    endpoint.requests.clear()
    assert run("annotate", *flags(endpoint), "--task", questions, "--out", out).exit_code == ExitCode.DONE
    rows = read_records(out)
    assert len(rows) == len({row.id for row in rows}) == 400
    again = {body["messages"][-1]["content"] for body in endpoint.requests}
    assert not again & {f"Where is {name.removeprefix('q')}?" for name in there}


def _ids(path: Path) -> set[str]:
    found = set()
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # half written when the run was killed
            found.add(json.loads(line)["id"])
    return found


def test_samples_letters_and_costs_are_in_the_records(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.knows = lambda text: "B"
    rows = [
        {"id": "c", "kind": "choice", "question": "Which?", "choices": ["red", "green", "blue"], "answer": "B"},
        {"id": "s", "kind": "short", "question": "Where?", "answer": ["B"]},
    ]
    task = tmp_path / "q.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prices = ["--input-price", "1", "--output-price", "2"]
    done = run("annotate", *flags(endpoint), *prices, "--task", task, "--samples", 4, "--out", tmp_path / "r.jsonl")
    assert done.exit_code == 0, done.output
    chosen, short = sorted(read_records(tmp_path / "r.jsonl"), key=lambda record: record.id)
    assert (chosen.answer, chosen.correct) == ("B", True)
    assert len(short.samples or []) == 4
    assert short.consistency is not None
    usage = (short.model_extra or {})["usage"]
    assert usage["cost"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)
    refused = run("annotate", *flags(endpoint), "--task", task, "--answer-by", "options", "--out", tmp_path / "o.jsonl")
    assert "--answer-by generation" in str(refused.exception)


def test_options_are_compared_where_the_server_tells_of_given_text(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reads = True
    row = {"id": "c", "kind": "choice", "question": "Which?", "choices": ["red", "green", "blue"], "answer": 1}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    safe = ["--safe-to-ask", "prompt_logprobs"]
    done = run("annotate", *flags(endpoint), *safe, "--task", tmp_path / "q.jsonl", "--out", tmp_path / "r.jsonl")
    assert done.exit_code == 0, done.output
    (record,) = read_records(tmp_path / "r.jsonl")
    likelihoods = [-0.1 - share_of(text) for text in ("red", "green", "blue")]
    assert record.option_logprobs == pytest.approx(likelihoods, abs=1e-5)
    assert record.answer == ["red", "green", "blue"][likelihoods.index(max(likelihoods))]


def test_an_address_without_its_engine_is_refused(tmp_path: Path) -> None:
    done = run("annotate", "--base-url", "http://127.0.0.1:9/v1", "--out", tmp_path / "r.jsonl")
    assert isinstance(done.exception, ConfideError)
    assert "--engine openai" in str(done.exception)
    done = run("annotate", "--engine", "openai", "--model", "x", "--out", tmp_path / "r.jsonl")
    assert isinstance(done.exception, ConfideError)
    assert "--base-url" in str(done.exception)


def test_two_models_do_not_share_a_file(endpoint: Endpoint, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    assert run("annotate", *flags(endpoint), "--task", questions, "--limit", 3, "--out", out).exit_code == 0
    other = [*flags(endpoint)[:-1], "other"]
    done = run("annotate", *other, "--task", questions, "--limit", 3, "--out", out)
    assert isinstance(done.exception, ConfideError)
    assert "another model" in str(done.exception)


def test_the_key_is_in_no_record(
    endpoint: Endpoint, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567890")
    done = run("annotate", *flags(endpoint), "--task", questions, "--limit", 3, "--out", tmp_path / "r.jsonl")
    assert done.exit_code == 0
    assert {headers["Authorization"] for headers in endpoint.headers} == {"Bearer sk-secret-1234567890"}
    assert "sk-secret" not in done.output + (tmp_path / "r.jsonl").read_text()


def test_questions_without_an_answer_are_told_on_a_stream_too(endpoint: Endpoint, questions: Path) -> None:
    endpoint.knows = lambda text: "" if "Where is 3?" in text else "Japan"
    done = without(MODEL, MAIN, "annotate", *flags(endpoint), "--task", questions, "--out", "/dev/stdout")
    assert done.returncode == ExitCode.LEFT_OUT, done.stderr
    assert "1 questions got no answer" in done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("{")]) == 399


def test_a_choice_that_cannot_be_asked_is_told_and_the_others_have_answers(endpoint: Endpoint, tmp_path: Path) -> None:
    read = endpoint.read

    def bytes_of(turns: list[dict[str, str]]) -> list[object]:
        told = read(turns)
        for place in told[1:]:
            for token in place.values():
                token["decoded_token"] = token["decoded_token"].encode("ascii", "replace").decode()
        return told

    endpoint.reads, endpoint.read = True, bytes_of  # type: ignore[method-assign]
    rows = [
        {"id": f"c{n}", "kind": "choice", "question": f"Which {n}?", "choices": ["red", other], "answer": 0}
        for n, other in enumerate(["green", "東京", "blue"])
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    safe = ["--safe-to-ask", "prompt_logprobs"]
    done = run("annotate", *flags(endpoint), *safe, "--task", tmp_path / "q.jsonl", "--out", tmp_path / "r.jsonl")
    assert done.exit_code == ExitCode.LEFT_OUT, done.output
    assert {record.id for record in read_records(tmp_path / "r.jsonl")} == {"c0", "c2"}
