"""Questions in several turns: read from every kind of file, asked as they are, refused by file, line and turn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.records import Message, Record
from confide.tasks import load_task, read_questions
from confide.tasks.conversations import read_conversation
from confide.tasks.questions import Question, asked_of, question_of
from confide.tasks.selfaware import prompt as selfaware_prompt
from confide.tasks.splits import check_splits
from confide.tasks.task import CLOZE_SYSTEM, SYSTEM, cloze_prompt, prompt, without_right_options
from question_turns import CALL, CONVERSATIONS, FIVE, LONG, ONE, PARTS, TOOL, UNICODE, rows, turn, write


def asked(turns: list[dict[str, Any]], **more: Any) -> Question:
    return Question.model_validate({"id": "q", "kind": "short", "messages": turns, "answer": ["France"], **more})


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet", "parquet of cells"])
def test_every_kind_of_file_holds_conversations(tmp_path: Path, ending: str) -> None:
    lines, path = rows(5), tmp_path / f"q.{ending.partition(' ')[0]}"
    cells = [{**line, "messages": json.dumps(line["messages"]), "answer": "France"} for line in lines]
    if ending == "jsonl":
        write(path, lines)
    elif ending == "json":
        path.write_text(json.dumps(lines))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(lines[:4]), path)  # one column has no lists of parts beside texts
    elif ending == "parquet of cells":
        pq.write_table(pa.Table.from_pylist(cells), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(cells[0]), delimiter="\t" if ending == "tsv" else ",")
            table.writeheader()
            table.writerows(cells)
    found = read_questions(path)
    texts = ["Where is Lyon?", "Where is it?", UNICODE[-1]["content"], "In one word?", "Passage: Lyon.\nWhere is it?"]
    assert [q.question for q in found] == texts[: len(found)]
    assert [len(q.messages or []) for q in found] == [1, 6, 2, 4, 1][: len(found)]
    asked_for = (found[3].messages or [])[1].model_dump()
    assert asked_for["content"] == ""
    assert asked_for["tool_calls"][0]["function"] == CALL["function"]
    assert "tool_call_id" not in (found[3].messages or [])[0].model_dump()


def test_a_row_may_have_an_empty_cell_for_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(
        "id,kind,question,messages,answer\n1,short,Who?,,Ann\n"
        '2,short,,"[{""role"": ""user"", ""content"": ""Who?""}]",Ann\n'
    )
    one, other = read_questions(path)
    assert (one.messages, one.question) == (None, "Who?")
    assert (len(other.messages or []), other.question) == (1, "Who?")
    lines = [
        {"kind": "short", "question": "Who?", "messages": [], "answer": "Ann"},
        {"kind": "short", "question": None, "messages": ONE, "answer": "Ann"},
        {"kind": "short", "question": "", "messages": ONE, "answer": "Ann"},
    ]
    assert [q.question for q in read_questions(write(tmp_path / "q.jsonl", lines))] == ["Who?", *["Where is Lyon?"] * 2]


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([], "messages: there are no turns"),
        ([turn("system", "Be brief.")], "messages: the last turn is to be the user's, who asks; it is the system's"),
        ([turn("user", "Hi"), turn("assistant", "Hello")], "it is the assistant's"),
        (TOOL[:3], "it is the tool's"),
        ([turn("user", " \n")], "messages: the last turn is empty"),
        ([turn("user", [])], "messages: the last turn is empty"),
        ([turn("developer", "x"), *ONE], "messages: turn 1 has the role 'developer'; there is system, user"),
        ([turn("user", None)], "messages: turn 1: content: Field required"),
        ([*ONE, {"role": "user"}], "messages: turn 2: content: Field required"),
        ([{"content": "Where?"}], "messages: turn 1: role: Field required"),
        ([turn("user", 5)], "messages: turn 1: content: Input should be a valid string"),
        (["Where?"], "messages: turn 1: "),
        ("Where?", "messages: Input should be a valid list"),
        ({"role": "user", "content": "Where?"}, "messages: Input should be a valid list"),
        ([turn("user", [{"type": "image_url", "image_url": {"url": "x"}}])], "turn 1: content: only text can be asked"),
        ([turn("user", ["Where?"])], "turn 1: content: only text can be asked, not 'Where?'"),
    ],
)
def test_what_asks_nothing_is_refused_by_file_and_line(tmp_path: Path, turns: Any, told: str) -> None:
    path = write(tmp_path / "q.jsonl", [*rows(1), {"id": "bad", "kind": "short", "messages": turns, "answer": "x"}])
    with pytest.raises(ConfideError) as refused:
        read_questions(path)
    assert str(refused.value).startswith(f"{path}, line 2: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_question_is_given_once(tmp_path: Path) -> None:
    line = {"id": "x", "kind": "short", "question": "Who?", "messages": ONE, "answer": "x"}
    with pytest.raises(ConfideError, match="line 1: there are both question and messages: give one of them"):
        read_questions(write(tmp_path / "q.jsonl", [line]))
    with pytest.raises(ConfideError, match="line 1: question or messages is missing"):
        read_questions(write(tmp_path / "q.jsonl", [{"id": "x", "kind": "short", "answer": "x"}]))
    table = tmp_path / "q.csv"
    table.write_text('id,kind,messages,answer\n1,short,"[{""role"": ",x\n')
    with pytest.raises(ConfideError, match=r"line 2: messages: not valid JSON \("):
        read_questions(table)
    table.write_text("id,kind,messages,answer\n1,short,Who is it?,x\n")
    with pytest.raises(ConfideError, match="line 2: messages: not valid JSON"):
        read_questions(table)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_sent_as_it_is(name: str) -> None:
    question = asked(CONVERSATIONS[name])
    sent = prompt(question)
    own = [message.model_dump() for message in question.messages or []]
    system = [] if any(message["role"] == "system" for message in own) else [turn("system", SYSTEM["short"])]
    assert sent == [*system, *own]
    assert prompt(asked(CONVERSATIONS[name], kind="prompt", answer=None)) == own
    assert [message.role for message in question.messages or []] == [message["role"] for message in CONVERSATIONS[name]]


def test_lettered_options_come_behind_the_last_turn() -> None:
    question = asked(FIVE, kind="choice", choices=["here", "there"], answer=1)
    sent = prompt(question)
    assert sent[:-1] == FIVE[:-1]
    assert sent[-1] == turn("user", "Where is it?\nA) here\nB) there")
    assert question.question == "Where is it?"
    assert prompt(asked(ONE, kind="choice", choices=["here", "there"], answer=1))[0] == turn("system", SYSTEM["choice"])


def test_a_cloze_prompt_of_a_conversation_has_its_turns_and_no_worked_examples() -> None:
    question = asked(FIVE, kind="choice", choices=["here", "there"], answer=1)
    assert cloze_prompt(question) == [*FIVE[:-1], turn("user", "Question: Where is it?\nAnswer:")]
    bare = cloze_prompt(asked(ONE, kind="choice", choices=["here", "there"], answer=1))
    assert bare == [turn("system", CLOZE_SYSTEM), turn("user", "Question: Where is Lyon?\nAnswer:")]


def test_tasks_of_questions_take_conversations_too(tmp_path: Path) -> None:
    path = write(tmp_path / "selfaware-test.jsonl", rows(5))
    task = load_task("selfaware", data_dir=tmp_path)
    assert selfaware_prompt(task.questions[1]) == FIVE
    assert selfaware_prompt(task.questions[0])[0]["role"] == "system"
    assert load_task(path, limit=2).questions[0].messages
    choices = [{**row, "kind": "choice", "choices": ["a", "b", "c"], "answer": 0} for row in rows(4)]
    rejected = without_right_options(load_task(write(tmp_path / "c.jsonl", choices)), 1.0)
    assert [len(q.messages or []) for q in rejected.questions] == [1, 6, 2, 4]


def test_a_records_question_is_the_text_of_the_last_user_turn() -> None:
    messages = [Message.model_validate(one) for one in FIVE]
    record = Record(id="r", task="t", messages=messages, own_turns=6, reference=["France"])
    assert asked_of(record) == record.question == "Where is it?"
    assert [turn.content for turn in record.earlier] == [one["content"] for one in FIVE[:-1]]
    question = question_of(record)
    assert question is not None
    assert (question.question, question.accepted) == ("Where is it?", ["France"])


def test_a_tasks_worked_examples_are_no_part_of_a_question() -> None:
    messages = [Message.model_validate(one) for one in FIVE]
    assert Record(id="r", task="geography", messages=messages).earlier == []
    assert [m.role for m in Record(id="r", task="t", messages=messages, own_turns=3).earlier] == ["user", "assistant"]
    # Of another system, nothing says that turns are a task's.
    assert len(Record(id="r", messages=messages).earlier) == 5
    assert Record(id="r").earlier == []
    spoken = [*messages, Message(role="tool", content="France")]
    assert [m.role for m in Record(id="r", messages=spoken).earlier].count("tool") == 1


def test_the_same_short_question_about_other_passages_is_no_leak() -> None:
    def row(name: str, passage: str, split: Any) -> Record:
        turns = [Message(role="system", content=passage), Message(role="user", content="Where is it?")]
        return Record(id=name, task="t", split=split, messages=turns, own_turns=2)

    assert check_splits([row("a", "Lyon", "train"), row("b", "Kyoto", "test")]) == []
    (problem,) = check_splits([row("a", LONG[0]["content"], "train"), row("b", LONG[0]["content"], "test")])
    assert "the same question in several splits" in problem
    assert len(problem) < 300


@pytest.mark.parametrize("content", [json.dumps(FIVE), json.dumps({"model": "m", "messages": FIVE})])
def test_one_conversation_is_read_from_a_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    assert [m.model_dump() for m in read_conversation(tmp_path / "c.json")] == FIVE


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "messages: "),
        ("5", "messages: Input should be a valid list"),
        ("{}", "messages: Field required"),
        ("[1", "c.json: Expecting"),
        (json.dumps(FIVE[:3]), "it is the assistant's"),
        (json.dumps([turn("user", 1)]), "turn 1: content"),
    ],
)
def test_what_is_no_conversation_is_told_in_one_sentence(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ConfideError, match=told):
        read_conversation(tmp_path / "c.json")


def test_parts_of_text_are_joined_and_records_of_any_system_are_read_alike() -> None:
    record = Record.model_validate({"id": 1, "messages": PARTS})
    assert record.question == "Passage: Lyon.\nWhere is it?"
    assert Record.model_validate({"id": 1, "messages": TOOL}).messages[1].content == ""
