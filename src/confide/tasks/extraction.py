"""The task ``extraction``: fields of a described person, event or product, as one JSON object; made by a seed.

A description says some of the fields that are asked for, in an order and in words of its own, and says things of the
same kind about something else. What it does not say of its subject is null. The truth is known exactly.
"""

from __future__ import annotations

import functools
import json
import random
from typing import Any

from confide.tasks.questions import Question
from confide.tasks.task import Task, chat
from confide.yaml_files import read_yaml_resource

QUESTIONS = 3000
"""How many questions there are when no number is asked for."""
MAX_NEW_TOKENS = 128
SYSTEM = "Read the text and write the fields as one JSON object. Write null where the text does not say it."
ASKED = "Text: {}\nFields: {}"
EXAMPLES = 3
"""Worked examples, each of the question's own kind."""

_SAID, _OTHER = 0.85, 0.35
"""The shares of fields that are said, and that are said of something else."""


def extraction_task(limit: int | None = None, seed: int = 0) -> Task:
    """The task; the same seed with a smaller limit gives the first questions."""
    count = QUESTIONS if limit is None else limit
    questions = [_question(number, seed) for number in range(count)]
    return Task("extraction", questions, prompt=prompt, max_new_tokens=MAX_NEW_TOKENS)


def prompt(question: Question) -> list[dict[str, str]]:
    """The messages that ask for the fields of a description."""
    shown = [_described(question.domain, random.Random(f"example-{question.domain}-{n}")) for n in range(EXAMPLES)]
    examples = [(text, json.dumps(values, ensure_ascii=False)) for text, values in shown]
    return chat(SYSTEM, examples, question.question)


@functools.cache
def _data() -> Any:
    return read_yaml_resource("confide.tasks", "extraction.yaml")


def _question(number: int, seed: int) -> Question:
    kinds = list(_data()["kinds"])
    kind = kinds[number % len(kinds)]
    text, values = _described(kind, random.Random(f"extraction-{seed}-{number}"))
    name = f"{kind}-{seed}-{number}"
    return Question(id=name, kind="fields", question=text, answer=values, domain=kind, entity=name)


def _described(kind: str, draw: random.Random) -> tuple[str, dict[str, Any]]:
    """What is asked about one subject, and the right values."""
    about = _data()["kinds"][kind]
    subject, other = (_name(about["subject"], draw) for _ in range(2))
    while other == subject:
        other = _name(about["subject"], draw)
    values: dict[str, Any] = {about["name"]: subject}
    said: list[str] = []
    for name, field in about["fields"].items():
        right, wrong, others = _distinct(field, draw)
        if told := draw.random() < _SAID:
            said.append(draw.choice(field["said"]).format(subject=subject, value=right, wrong=wrong))
        if draw.random() < _OTHER:
            said.append(draw.choice(field["other"]).format(other=other, value=others))
        values[name] = right if told else None
    draw.shuffle(said)
    opening = draw.choice(about["opening"]).format(subject=subject, other=other)
    return ASKED.format(" ".join([opening, *said]), ", ".join(values)), values


def _name(pattern: str, draw: random.Random) -> str:
    return pattern.format(**{name: draw.choice(pool) for name, pool in _data()["pools"].items()})


def _distinct(field: dict[str, Any], draw: random.Random) -> tuple[Any, Any, Any]:
    """Three different values of a field."""
    found: list[Any] = []
    while len(found) < 3:
        value = _value(field, draw)
        if value not in found:
            found.append(value)
    return found[0], found[1], found[2]


def _value(field: dict[str, Any], draw: random.Random) -> Any:
    if "numbers" in field:
        return draw.randint(*field["numbers"])
    pools = _data()["pools"]
    return " ".join(draw.choice(pools[name]) for name in field.get("pair", [field.get("pool")]))
