"""A file of conversations through every verb: annotate, score, evaluate, calibrate, split, hedge and ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from confide.cli.main import app
from confide.errors import ConfideError
from confide.policies.policy import Policy
from confide.policies.requests import request_of_record
from confide.records import Message, Record, read_records, write_records
from confide.tasks import read_questions
from confide.tasks.task import SYSTEM, prompt
from question_turns import CALL, CONVERSATIONS, FIVE, LONG, TOOL, rows, turn, write
from stating_model import saved

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved(tmp_path_factory.mktemp("conversations") / "base"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def annotated(model: str, tmp_path: Path, lines: list[dict[str, Any]], *more: object) -> Result:
    asked = write(tmp_path / "q.jsonl", lines)
    return run("annotate", "--model", model, "--task", asked, "--out", tmp_path / "r.jsonl", *more)


def test_annotate_asks_them_as_they_are(model: str, tmp_path: Path) -> None:
    result = annotated(model, tmp_path, rows(15, topic="rivers"), "--samples", 2)
    assert result.exit_code == 0, result.output
    questions = {question.id: question for question in read_questions(tmp_path / "q.jsonl")}
    records = read_records(tmp_path / "r.jsonl")
    assert len(records) == 15
    for record in records:
        question = questions[record.id]
        assert [message.model_dump() for message in record.messages] == prompt(question)
        assert record.own_turns == len(question.messages or [])
        assert record.question == question.question
        assert (record.model_extra or {}) == {"topic": "rivers"}
    tools = next(record for record in records if record.id == "c3")
    assert tools.messages[0].content == SYSTEM["short"]
    assert (tools.messages[2].model_extra or {})["tool_calls"] == [CALL]
    before = (tmp_path / "r.jsonl").read_bytes()
    assert annotated(model, tmp_path, rows(15, topic="rivers"), "--samples", 2).exit_code == 0
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        [turn("system", "Another passage."), *FIVE[1:]],
        FIVE[1:],
        [*FIVE[:2], turn("assistant", "I don't."), *FIVE[3:]],
        [*FIVE[:-1], turn("user", "Where was it?")],
        [turn("user", "\n".join(f"{t['role']}: {t['content']}" for t in FIVE))],
        [{**FIVE[0], "name": "library"}, *FIVE[1:]],
    ],
)
def test_a_changed_turn_is_another_question(model: str, tmp_path: Path, changed: list[dict[str, Any]]) -> None:
    lines = [{"id": f"c{i}", "kind": "short", "messages": FIVE, "answer": ["France"]} for i in range(10)]
    assert annotated(model, tmp_path, lines).exit_code == 0
    before = (tmp_path / "r.jsonl").read_bytes()
    result = annotated(model, tmp_path, [{**lines[0], "messages": changed}, *lines[1:]])
    assert isinstance(result.exception, ConfideError)
    assert "row c0, was made with other settings (prompt" in str(result.exception)
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize("by", ["options", "generation"])
def test_choices_are_asked_behind_the_conversation(model: str, tmp_path: Path, by: str) -> None:
    lines = [{**row, "kind": "choice", "choices": ["France", "Chile"], "answer": 0} for row in rows(10)]
    result = annotated(model, tmp_path, lines, "--answer-by", by)
    assert result.exit_code == 0, result.output
    for record in read_records(tmp_path / "r.jsonl"):
        assert record.question.endswith("Answer:" if by == "options" else "A) France\nB) Chile")
        roles = [m["role"] for m in lines[int(record.id[1:])]["messages"]]
        assert [m.role for m in record.messages][-len(roles) :] == roles
        assert (record.option_logprobs is not None) == (by == "options")


def test_what_does_not_fit_is_counted_and_named(model: str, tmp_path: Path) -> None:
    lines = [*rows(9), {"id": "long", "kind": "short", "messages": LONG, "answer": ["France"]}]
    result = annotated(model, tmp_path, lines)
    assert isinstance(result.exception, ConfideError)
    assert "1 rows do not fit the model's context of 768 tokens: long" in str(result.exception)


def test_a_template_that_refuses_a_conversation_names_it(tmp_path: Path) -> None:
    from tiny_model import tiny_model

    made, tokenizer = tiny_model(context=768)
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}" + (
        "{% endif %}{{ m.content }}{% endfor %}"
    )
    made.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    result = annotated(str(tmp_path / "m"), tmp_path, rows(5))
    assert isinstance(result.exception, ConfideError)
    assert str(result.exception) == "question c3: the model's chat template refuses this conversation: no tools"


def scored(count: int = 60) -> list[Record]:
    """Records of conversations, right and wrong in turn, in all splits."""
    shapes = list(CONVERSATIONS.values())
    splits = ("train", "validation", "calibration", "test")
    return [
        Record.model_validate(
            {
                "id": f"c{i}", "task": "q", "split": splits[i % 4], "messages": shapes[i % 5], "answer": f"France {i}",
                "own_turns": len(shapes[i % 5]), "correct": i % 3 > 0, "reference": ["France"], "model": "",
                "answered": "france", "confidence": {"given": 0.3 + 0.6 * (i % 3 > 0) + 1e-6 * i},
            }
        )
        for i in range(count)
    ]  # fmt: skip


def test_sources_that_ask_again_are_read(model: str, tmp_path: Path) -> None:
    write_records(tmp_path / "r.jsonl", scored())
    sources = "p_true,verbalized,verifier,question_only"
    result = run(
        "score", "--model", model, "--other-model", "--verifier", model, tmp_path / "r.jsonl",
        "--source", sources, "--out", tmp_path / "s.jsonl",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    records = [record for record in read_records(tmp_path / "s.jsonl") if record.split == "test"]
    read = {name.removeprefix("other_") for record in records for name, c in record.confidence.items() if c is not None}
    assert {"p_true", "verifier", "question_only"} <= read
    assert records[0].own_turns == len(records[0].messages)


def test_the_report_shows_what_was_asked_last_and_no_passage(tmp_path: Path) -> None:
    long_turns = Record.model_validate({"id": "x", "messages": LONG}).messages
    passages = [r.model_copy(update={"messages": long_turns, "own_turns": 2}) for r in scored(200)]
    pages = []
    for name, records in (("short", scored(200)), ("long", passages)):
        write_records(tmp_path / f"{name}.jsonl", records)
        result = run("evaluate", tmp_path / f"{name}.jsonl", "--out", tmp_path / name, "--resamples", 10)
        assert result.exit_code == 0, (result.output, result.exception)
        pages.append((tmp_path / name / "report.html").read_text())
    short, long = pages
    assert "Where is it?" in long
    assert LONG[0]["content"][:60] not in long
    assert len(long) < len(short) + 5000
    question = [{"role": "user", "content": LONG[0]["content"]}]
    write_records(
        tmp_path / "q.jsonl", [Record.model_validate({**r.model_dump(), "messages": question}) for r in scored(200)]
    )
    assert run("evaluate", tmp_path / "q.jsonl", "--out", tmp_path / "q", "--resamples", 10).exit_code == 0
    assert len((tmp_path / "q" / "report.html").read_text()) < len(short) + 10_000


def test_calibrate_knows_how_they_were_asked(tmp_path: Path) -> None:
    write_records(tmp_path / "s.jsonl", scored(2000))
    result = run(
        "calibrate", tmp_path / "s.jsonl", "--source", "given", "--max-risk", 0.3, "--out", tmp_path / "p.json"
    )
    assert result.exit_code == 0, (result.output, result.exception)
    requests = Policy.load(tmp_path / "p.json").profile.requests
    assert requests is not None
    assert requests.turns == [1, 2, 4, 5]
    assert requests.content == ["", "tool"]
    assert len(requests.system or []) == 2
    tools = next(record for record in scored() if record.id == "c3")
    assert (request_of_record(tools).content, request_of_record(tools).turns) == ("tool", 4)


def test_split_and_hedge_keep_them(tmp_path: Path) -> None:
    write_records(tmp_path / "s.jsonl", scored(200))
    result = run("hedge", tmp_path / "s.jsonl", "--source", "given", "--out", tmp_path / "h.jsonl")
    assert result.exit_code == 0, (result.output, result.exception)
    hedged = read_records(tmp_path / "h.jsonl")
    assert all((record.model_extra or {})["hedge_status"] == "hedged" for record in hedged)
    tools = next(record for record in hedged if record.id == "c3")
    assert (tools.messages[1].model_extra or {})["tool_calls"] == [CALL]
    before = (tmp_path / "h.jsonl").read_bytes()
    run("hedge", tmp_path / "s.jsonl", "--source", "given", "--out", tmp_path / "h.jsonl")
    assert (tmp_path / "h.jsonl").read_bytes() == before
    # The same last turn behind another passage is another question.
    others = [
        r.model_copy(update={"messages": [Message(role="system", content=f"Passage {r.id}."), *r.messages]})
        for r in scored(200)
    ]
    write_records(tmp_path / "s.jsonl", [r.model_copy(update={"own_turns": len(r.messages)}) for r in others])
    sizes = "train=100,validation=20,calibration=40,test=40"
    result = run("split", tmp_path / "s.jsonl", "--sizes", sizes, "--out", tmp_path / "t.parquet")
    assert result.exit_code == 0, (result.output, result.exception)
    kept = next(r for r in read_records(tmp_path / "t.parquet") if r.id == "c3")
    assert kept.messages[1:] == tools.messages


@pytest.mark.parametrize("turns", [FIVE, TOOL, CONVERSATIONS["parts"]])
def test_ask_takes_a_conversation(model: str, tmp_path: Path, turns: list[dict[str, Any]]) -> None:
    (tmp_path / "c.json").write_text(json.dumps(turns))
    result = run("ask", "--model", model, "--messages", tmp_path / "c.json", "--json", "--max-new-tokens", 4)
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["confidence"] is not None


def test_ask_takes_one_of_both(model: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(FIVE))
    for arguments in (["Where?", "--messages", tmp_path / "c.json"], []):
        result = run("ask", "--model", model, *arguments)
        assert isinstance(result.exception, ConfideError)
        assert "give a question, or a conversation with --messages" in str(result.exception)
    assert "the question is empty" in str(run("ask", "--model", model, " ").exception)
