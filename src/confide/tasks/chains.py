"""The task ``chains``: a number and four to eight operations on it, to be worked out in as many lines.

An answer writes a line a step, such as ``47+28=75``, and its last number is the result. Exact truth is known for every
step: what the number is after it. A wrong step is never made good by a right one, so where an answer first goes wrong
is a fact, `first_error`.

The pairs of numbers that a chain meets are all of one side of `confide.tasks.arithmetic`: what the task asks is never
taught, not even as a single step.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from confide.records import Record
from confide.tasks.arithmetic import Expression, Side
from confide.tasks.graders import Grade
from confide.tasks.questions import Question
from confide.tasks.task import Task, chat

QUESTIONS = 6000
"""How many questions there are when no number is asked for."""
LENGTHS = (4, 5, 6, 7, 8)
"""How many operations a chain may have; they are the domains, in turn."""
SYSTEM = "Work it out, one line a step."
MAX_NEW_TOKENS = 112
GREATEST = 99
"""No value of a chain is greater, or below 0."""

_SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
_NAMES = {sign: name for name, sign in _SIGNS.items()}
_STEP = re.compile(r"([-+*])(\d+)")
_LAST_NUMBER = re.compile(r"(-?\d+)\D*$")


@dataclass(frozen=True)
class Chain:
    """A start and what is done to it, step by step: pairs of an operation's name and its number."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def steps(self) -> list[Expression]:
        """Each step as an expression of the value before it."""
        value, found = self.start, []
        for name, number in self.operations:
            found.append(Expression(value, name, number))
            value = found[-1].value
        return found

    @property
    def question(self) -> str:
        """How it is asked: ``47 +28 -19 *3``."""
        return " ".join([str(self.start), *(f"{_SIGNS[name]}{number}" for name, number in self.operations)])

    @property
    def worked(self) -> str:
        """The right answer, a line a step."""
        return "\n".join(f"{step.a}{_SIGNS[step.operation]}{step.b}={step.value}" for step in self.steps)


def parse_chain(text: str) -> Chain | None:
    """The chain that a text is; None where it is none.

    >>> parse_chain("47 +28 -19").worked
    '47+28=75\\n75-19=56'
    """
    start, *rest = text.split() or [""]
    steps = [_STEP.fullmatch(one) for one in rest]
    if not start.isdecimal() or not steps:
        return None
    found = [(_NAMES[step[1]], int(step[2])) for step in steps if step]
    return Chain(int(start), tuple(found)) if len(found) == len(steps) else None


def chains(side: Side, seed: int | str) -> Iterator[Chain]:
    """Chains without end, each once, their lengths in turn."""
    draw = random.Random(f"chains-{side}-{seed}")
    seen: set[Chain] = set()
    while True:
        for length in LENGTHS:
            chain = _draw(length, side, draw)
            if chain not in seen:
                seen.add(chain)
                yield chain


def chains_task(limit: int | None = None, seed: int = 0) -> Task:
    """The task, whose records tell their `first_error`; a smaller limit gives the first questions of the same seed."""
    made = [_question(chain) for chain in islice(chains("task", seed), QUESTIONS if limit is None else limit)]
    return Task(
        "chains",
        made,
        grade=_grade,
        agrees=lambda _, a, b: _result(a) is not None and _result(a) == _result(b),
        prompt=lambda question: chat(SYSTEM, [], question.question),
        max_new_tokens=MAX_NEW_TOKENS,
        finish=with_first_error,
    )


def first_error(chain: Chain, answer: str) -> int | None:
    """The first line (from 0) that does not end in the number that the chain has there; None where all do.

    Lines that are missing, and lines that are too many, are wrong.

    >>> first_error(parse_chain("47 +28 -19"), "47+28=76\\n76-19=57")
    0
    """
    lines = answer.strip().split("\n")
    for place, (line, step) in enumerate(zip(lines, chain.steps, strict=False)):
        if _result(line) != step.value:
            return place
    return None if len(lines) == len(chain.operations) else min(len(lines), len(chain.operations))


def with_first_error(record: Record) -> Record:
    """The record with the extra key ``first_error``; unchanged when its question is no chain."""
    chain = parse_chain(record.question)
    return record if chain is None else record.model_copy(update={"first_error": first_error(chain, record.answer)})


def _result(text: str) -> int | None:
    found = _LAST_NUMBER.search(text)
    return None if found is None else int(found[1])


def _grade(question: Question, answer: str) -> Grade:
    result = _result(answer)
    return Grade(result is not None and str(result) == question.answer, None if result is None else str(result))


def _draw(length: int, side: Side, draw: random.Random) -> Chain:
    """A chain whose every step is of this side; steps are drawn anew until they are."""
    start = value = draw.randint(10, 99)
    operations: list[tuple[str, int]] = []
    while len(operations) < length:
        name = draw.choice(["add", "add", "subtract", "subtract", "multiply"])
        step = Expression(value, name, draw.randint(2, 5) if name == "multiply" else draw.randint(2, 29))
        if step.side == side and 0 < step.value <= GREATEST:
            operations.append((name, step.b))
            value = step.value
    return Chain(start, tuple(operations))


def _question(chain: Chain) -> Question:
    return Question(
        id=chain.question.replace(" ", ""),
        kind="number",
        question=chain.question,
        answer=str(chain.steps[-1].value),
        domain=f"steps_{len(chain.operations)}",
    )
