"""Fields of a server's reply, where its engine reads states while it answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from confide.engines.openai.asked import Asked
from confide.engines.openai.learned_reading import LearnedReading, ReadAnswer
from confide.engines.openai.reply import Choice, Reply
from confide.methods.parts.part_reading import PartReading, part_logits
from confide.methods.parts.part_training import fit_on_states, part_layers
from confide.methods.stack.states import States
from confide.parts.part_records import PARTS, part_records, split_records
from confide.records import Message, Record
from confide.serving.routing.reply_parts import FieldsOfReplies
from confide.tasks.field_grader import part_grader

DEPTH, WIDTH = 2, 6
ASKED = Asked(chat=True, messages=[{"role": "user", "content": "Which?"}], options={}, deadline=0.0)
ANSWER = '{"a": "x", "b": 12}'
CALL = '<tool_call>{"name": "look", "arguments": {"b": 12}}</tool_call>'


def record(number: int) -> Record:
    answer = json.dumps({"a": "x", "b": 12 if number % 3 else 13})
    places = list(range(len(answer)))
    logprobs = (-0.1 - np.random.default_rng(number).random(len(answer))).tolist()
    return Record(
        id=f"r{number}", answer=answer, messages=[Message(role="user", content="Which?")], logprobs=logprobs,
        reference={"a": "x", "b": 12}, answer_ids=places, token_starts=places, end_logprob=-0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def reading() -> PartReading:
    whole = [record(number) for number in range(60)]
    rows, _ = split_records(whole, "fields", part_grader)
    layers, draw = tuple(part_layers(DEPTH)), np.random.default_rng(0)
    right = np.array([bool(row.correct) for row in rows])
    values = draw.normal(size=(len(rows), len(layers), 3, WIDTH)) + right[:, None, None, None]
    states, half = States(layers, values.astype(np.float16)), 90
    first, rest = range(half), range(half, len(rows))
    served, portable = fit_on_states(DEPTH, states.take(first), rows[:half], states.take(rest), rows[half:])
    return PartReading("field", portable, served)


def told(text: str, logprob: float = -0.5) -> dict[str, Any]:
    return {"content": [{"token": t, "bytes": list(t.encode()), "logprob": logprob} for t in (*text, "<|im_end|>")]}


def shares_of(count: int) -> np.ndarray:
    """What comes with each token: three shares of the answer, one of a signal, three of fields."""
    return np.random.default_rng(1).normal(size=(count, 7)).astype(np.float32)


def wanted(reading: PartReading, text: str, by: str, shares: np.ndarray, before: int = 0) -> list[tuple[Any, str]]:
    """What is told of an answer in this process whose directions read the same."""
    whole = Record(
        id="", answer=text, messages=[Message(role="user", content="Which?")], logprobs=[-0.5] * len(text),
        answer_ids=[0] * len(text), reasoning_ids=[0] * before, token_starts=list(range(len(text))),
    )  # fmt: skip
    parts = part_records(whole, PARTS[by](text))
    assert reading.served is not None
    return reading.confidences(parts, part_logits(reading.served, parts, shares[:, 4:]))


def choice(text: str, written: str, shares: np.ndarray | None, **more: Any) -> Choice:
    logprobs = [-0.5] * len(text)
    read = ReadAnswer(0.0, [0] * len(text), logprobs, -0.5, shares=shares)
    return Choice(text, logprobs=told(written), read=read, **more)


def test_fields_have_the_confidence_that_they_have_in_process(reading: PartReading) -> None:
    exported = PartReading.from_json(json.loads(json.dumps(reading.to_json())))
    fields = FieldsOfReplies(exported, slice(4, 7))
    shares = shares_of(len(ANSWER) + 1)
    found = fields.read(ASKED, Reply([choice(ANSWER, ANSWER, shares)]))
    assert [(p.name, p.value) for p in found] == [("/a", "x"), ("/b", 12)]
    assert [(p.confidence, p.source) for p in found] == wanted(reading, ANSWER, "fields", shares)
    assert [p.source for p in found] == ["field", "field"]
    alone = fields.read(ASKED, Reply([choice(ANSWER, ANSWER, None)]))
    assert [p.source for p in alone] == ["portable", "portable"]
    assert [p.confidence for p in alone] != [p.confidence for p in found]


def test_behind_reasoning_the_shares_of_the_fields_are_found(reading: PartReading) -> None:
    thought = "<think>hm</think>\n"
    shares = shares_of(len(thought + ANSWER) + 1)
    found = FieldsOfReplies(reading, slice(4, 7)).read(
        ASKED, Reply([choice(ANSWER, thought + ANSWER, shares, reasoning="hm")])
    )
    assert [(p.confidence, p.source) for p in found] == wanted(reading, ANSWER, "fields", shares, len(thought))


def test_arguments_of_a_call_are_read_too(reading: PartReading) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"b": 12}'}}
    shares = shares_of(len(CALL) + 1)
    one = Choice(
        None, finish="tool_calls", more={"tool_calls": [call]}, logprobs=told(CALL),
        read=ReadAnswer(None, [], [], None, shares=shares),
    )  # fmt: skip
    (found,) = FieldsOfReplies(reading, slice(4, 7)).read(ASKED, Reply([one]))
    assert (found.name, found.value, found.source) == ("look/b", 12, "field")
    assert [(found.confidence, found.source)] == wanted(reading, CALL, "fields", shares)


def test_a_learned_reading_says_which_shares_are_of_fields() -> None:
    data = {
        "vocabulary": 100, "positions": ["prompt_end"], "offset": [0.0], "end_ids": [1], "fingerprint": [0, 1, 2, 3],
        "signals": [{"signal": "red_flag"}],
        "parts": {"claim": ["answer_last"], "field": ["prompt_end", "answer_mean"]},
    }  # fmt: skip
    one = LearnedReading.from_json(data)
    assert one.columns("field") == slice(3, 5)
    assert one.columns("claim") == slice(2, 3)
    assert one.columns("year") is None
    assert one.ids == [100, 101, 102, 103, 104, 105, one.fingerprint_ids[-1]]


def test_every_choice_is_read() -> None:
    found = FieldsOfReplies().read(ASKED, Reply([Choice('{"year": 1984}'), Choice("no"), Choice('{"year": 1985}')]))
    assert [(part.choice, part.name, part.value) for part in found] == [(0, "/year", 1984), (2, "/year", 1985)]
