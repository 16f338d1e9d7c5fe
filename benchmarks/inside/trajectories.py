"""Worked answers to chains as trajectories: where each step ends, and the hidden states there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import show_progress
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.along.token_states import collect_token_states
from confide.numeric import Bools, Ints
from confide.records import Record, read_records
from confide.tasks.chains import chains_task

SIZES = {"train": 2000, "validation": 400, "calibration": 1000, "test": 2500}
LAYERS = (12, 18, 24, 30)
"""Decoder layers that readings choose from, of 30."""


@dataclass(frozen=True)
class Trajectories:
    """Answers and their step ends, in one row of ``states`` each, those of an answer together and in order.

    Attributes:
        records: the answers.
        answer: [positions], the number of the answer.
        place: [positions], 0 for the end of the prompt, k for the end of the k-th line.
        tokens: [positions], tokens written up to there.
        states: float16 [positions, layers, width].
    """

    records: list[Record]
    answer: Ints
    place: Ints
    tokens: Ints
    states: NDArray[np.float16]

    @property
    def right(self) -> Bools:
        """Whether the answer of each position ends right, [positions]."""
        return np.array([bool(record.correct) for record in self.records])[self.answer]


def read_answers(folder: Path) -> list[Record]:
    """The answers to as many chains as are used, in the order of the task's questions."""
    known = {record.id: record for record in read_records(folder / "records.jsonl")}
    return [known[question.id] for question in chains_task(sum(SIZES.values())).questions]


def tested(records: Sequence[Record]) -> list[Record]:
    """The records that are tested on, under every seed."""
    return list(records[-SIZES["test"] :])


def step_ends(record: Record) -> list[int]:
    """How many tokens are written when each line is ended; the last one ends with the answer.

    A line's end is counted with the token that breaks the line.
    """
    breaks = [at + 1 for at, character in enumerate(record.answer) if character == "\n"]
    ends = [bisect_left(record.token_starts, at) for at in breaks]
    return sorted({*ends, len(record.answer_ids)})


def read_trajectories(engine: Callable[[], TransformersEngine], records: Sequence[Record], cache: Path) -> Trajectories:
    """The step ends of answers with their states, read once and kept in ``cache``."""
    ends = [[0, *step_ends(record)] for record in records]
    answer = np.repeat(np.arange(len(records)), [len(one) for one in ends])
    place = np.concatenate([np.arange(len(one)) for one in ends])
    tokens = np.concatenate([np.array(one) for one in ends])
    if not cache.exists():
        due = [np.array(one) for one in ends]
        read = collect_token_states(engine(), records, due, due, LAYERS, progress=show_progress("states"))
        np.save(cache, read.values)
    return Trajectories(list(records), answer, place, tokens, np.load(cache, mmap_mode="r"))
