"""A made-up world of graded answers without states: three kinds of question about places, each with answers of its own.

What is right shows in three ways at once: in the answer (default answers are seldom right), in the name of the place
(those in -burg are better known than those in -wick), and in the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from confide.methods.free import free_confidence
from confide.methods.portable.answer_signals import AnswerSignals
from confide.numeric import Bools, Floats
from confide.records import Message, Record

KINDS = {
    "In which country is the city of {}?": ("Norvonia", "Suvlandia", "Estovaria", "Welmarkia"),
    "On which continent does {} lie?": ("Borealasia", "Meridiona", "Oceanurra", "Transpolia"),
    "What do people pay with in {}?": ("krondukat", "pesolira", "dinarmark", "florinrupie"),
}
"""How each kind is asked, and what is answered."""

NEW = ("Zyxquod", "Ujjfawx", "Qwyzzul")
"""Answers that no training row gave."""

_CHANCE = (-1.5, -0.5, 0.5, 1.5)
_START, _MIDDLE, _END = ("Al", "Bro", "Cam", "Dun", "El", "Fal"), ("ran", "sel", "to", "vi", "mar"), ("burg", "wick")


def graded(
    n: int, seed: int = 0, kinds: Sequence[str] = tuple(KINDS), answers: Sequence[str] | None = None
) -> list[Record]:
    """``n`` graded rows, two to a place.

    Args:
        kinds: how it is asked, each equally often.
        answers: what is answered instead of the answers of a kind.
    """
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        if i % 2 == 0:
            place = "".join(part[rng.integers(len(part))] for part in (_START, _MIDDLE, _MIDDLE, _END))
        asked = kinds[rng.integers(len(kinds))]
        said = answers or KINDS[asked]
        which, known = int(rng.integers(len(said))), rng.normal()
        logit = _CHANCE[which % 4] + known + (1.0 if place.endswith("burg") else -1.0)
        made.append(
            Record(
                id=f"{seed}-{i}", entity=f"{seed}-{i // 2}", split="train", model="tiny", identity="weights=ab12",
                messages=[Message(role="user", content=asked.format(place))], answer=said[which], answer_ids=[1, 2],
                correct=bool(rng.random() < 1 / (1 + np.exp(-logit))),
                logprobs=[min(-0.01, known - 2), -0.1 - 0.2 * float(rng.random())], end_logprob=-0.1,
            )
        )  # fmt: skip
    return made


def long_tailed(n: int, seed: int = 0) -> list[Record]:
    """Such rows, of whose answers a fifth is given once in the world."""
    rows, rare = graded(n, seed), np.random.default_rng(seed).random(n) < 0.2
    return [r.model_copy(update={"answer": f"rare {r.id}"}) if odd else r for r, odd in zip(rows, rare, strict=True)]


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each reading of signals is of, from now on."""
    found: list[int] = []
    read = AnswerSignals.read

    def counted(self: AnswerSignals, records: Sequence[Record], *more: Any) -> Any:
        found.append(len(records))
        return read(self, records, *more)

    monkeypatch.setattr(AnswerSignals, "read", counted)
    return found


def row(question: str, answer: str, correct: bool | None = None, **more: object) -> Record:
    """One row."""
    about = {"id": f"{question} {answer}", "answer": answer, "correct": correct, **more}
    return Record.model_validate({"messages": [{"role": "user", "content": question}], **about})


def right(records: Sequence[Record]) -> Bools:
    """Which are right, [n]."""
    return np.array([bool(record.correct) for record in records])


def among_options(records: Sequence[Record], seed: int = 9) -> list[Record]:
    """The same rows as choices among three options, whose likelihood tells what the tokens' does not."""
    rng = np.random.default_rng(seed)
    told = [3.0 * bool(record.correct) + rng.normal() for record in records]
    return [r.model_copy(update={"option_logprobs": [t, 0.0, 0.0]}) for r, t in zip(records, told, strict=True)]


def ranks_as(confidence: Floats, source: str, records: Sequence[Record]) -> bool:
    """Whether confidences [n] rank their rows exactly as a free source does, ties included."""
    free = np.array([free_confidence(record)[source] for record in records], dtype=np.float64)
    return bool(np.array_equal(np.unique(confidence, return_inverse=True)[1], np.unique(free, return_inverse=True)[1]))
