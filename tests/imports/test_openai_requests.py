"""The output of an OpenAI batch, and lines that hold a request and its response.

``openai_requests.jsonl`` is what the openai client got from llama.cpp's server, each answer labelled by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.imports import import_log

LOGGED = Path(__file__).parent / "data" / "openai_requests.jsonl"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Cusco?"}]


def body(text: str | None = "Peru", **choice: Any) -> dict[str, Any]:
    tokens = [{"token": text, "logprob": -0.25, "bytes": list((text or "").encode()), "top_logprobs": []}]
    message = {"role": "assistant", "content": text, "refusal": None}
    told = {"index": 0, "message": message, "logprobs": {"content": tokens, "refusal": None}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1764500000,
        "model": "small-1",
        "choices": [told | choice],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
    }


def batch_line(name: str, **values: Any) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": "r", "body": body()}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": None} | values


def batch_input(name: str) -> dict[str, Any]:
    asked = {"model": "small", "messages": MESSAGES, "logprobs": True}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def written(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_log_of_a_server_is_read_with_its_log_probabilities() -> None:
    found = import_log(LOGGED)
    records = found.records("log")
    assert (found.tool, found.left_out) == ("OpenAI", {})
    assert [record.id for record in records] == ["c1", "c2", "c3", "c4"]
    assert [record.correct for record in records] == [True, False, True, True]
    first = records[0]
    assert (first.question, first.answer) == ("In which country is Lyon?", "Lyon is a city located in France")
    assert (first.finish, first.domain, first.model) == ("length", "country", "SmolLM2-135M-Instruct")
    assert first.logprobs is not None
    assert first.logprobs[:2] == pytest.approx([-0.70100, -0.01671], abs=1e-5)
    assert first.token_starts == [0, 1, 4, 7, 9, 14, 22, 25]


def test_a_batch_is_its_output_with_the_questions_of_its_input(tmp_path: Path) -> None:
    failed = {"status_code": 500, "request_id": "r", "body": {}}
    output = written(
        tmp_path / "output.jsonl",
        batch_line("b"),
        batch_line("a"),
        batch_line("c", response=None, error={"code": "batch_expired", "message": "expired"}),
        batch_line("d", response=failed),
    )
    asked = written(tmp_path / "input.jsonl", *map(batch_input, "abcd"))
    found = import_log(output, requests=asked)
    records = found.records("output")
    assert found.left_out == {"the request failed": 2}
    assert [record.id for record in records] == ["b", "a"]
    first = records[0]
    assert (first.question, first.answer, first.model, first.correct) == ("Where is Cusco?", "Peru", "small-1", None)
    assert (first.logprobs, first.token_starts) == ([-0.25], [0])


def test_a_batch_without_its_input_says_what_is_missing(tmp_path: Path) -> None:
    found = import_log(written(tmp_path / "output.jsonl", batch_line("a")))
    with pytest.raises(ConfideError, match=r"holds no answer \(1: no question: .*--requests"):
        found.records("output")


@pytest.mark.parametrize(
    "line",
    [
        {"id": "q1", "request": {"model": "small", "messages": MESSAGES}, "response": body()},
        {"id": "q1", "model": "small", "messages": MESSAGES, "response": body(), "cost": 0.1},
    ],
    ids=["request and response", "messages and response"],
)
def test_a_log_of_requests_with_labels(tmp_path: Path, line: dict[str, Any]) -> None:
    lines = [line | {"correct": True, "domain": "cities"}, line | {"id": "q2", "correct": False}]
    first, second = import_log(written(tmp_path / "log.jsonl", *lines)).records("log")
    assert (first.id, first.correct, first.domain, second.correct) == ("q1", True, "cities", False)
    assert first.messages[-1].content == "Where is Cusco?"


def test_what_is_no_chat_completion_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"id": str(number), "messages": MESSAGES, "response": response}
        for number, response in enumerate(
            [body(), {"output": []}, {"choices": []}, {"choices": [{"message": None}]}, "cut"]
        )
    ]
    found = import_log(written(tmp_path / "log.jsonl", *lines))
    assert found.left_out == {"no chat completion": 4}
    assert len(found.records("log")) == 1


def test_a_cut_answer_is_one(tmp_path: Path) -> None:
    line = {"id": "q", "messages": MESSAGES, "response": body(finish_reason="length")}
    assert import_log(written(tmp_path / "log.jsonl", line)).records("log")[0].finish == "length"


@pytest.mark.parametrize(
    ("values", "said"),
    [({"correct": "maybe"}, "line 1: correct"), ({"split": "later"}, "line 1: split")],
)
def test_a_bad_value_is_named(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    line = {"id": "q", "messages": MESSAGES, "response": body()} | values
    with pytest.raises(ConfideError, match=said):
        import_log(written(tmp_path / "log.jsonl", line)).records("log")


def test_two_answers_of_one_name_are_refused(tmp_path: Path) -> None:
    line = {"id": "q", "messages": MESSAGES, "response": body()}
    with pytest.raises(ConfideError, match="1 duplicate ids"):
        import_log(written(tmp_path / "log.jsonl", line, line)).records("log")


def test_an_input_without_names_is_none(tmp_path: Path) -> None:
    output = written(tmp_path / "output.jsonl", batch_line("a"))
    with pytest.raises(ConfideError, match="no input of a batch"):
        import_log(output, requests=written(tmp_path / "input.jsonl", {"body": {}}))
