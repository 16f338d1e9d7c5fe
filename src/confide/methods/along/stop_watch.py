"""The stop watch: ends answers while they are written, where the level of a signal falls below a threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confide.engines.directions import Directions, Shares
from confide.engines.engine import Completion
from confide.methods.along.along_reading import AlongReading, AlongRule
from confide.methods.along.schedule import due_of_ids, is_due, needs_text
from confide.methods.along.smoothing import Level
from confide.methods.trace import Trace


@dataclass
class Followed:
    """One signal along one answer that is being written; a position that its text decides waits for the next token."""

    rule: AlongRule
    count: int = 0
    waiting: tuple[float, str] | None = None

    def __post_init__(self) -> None:
        """Begin where nothing is known."""
        self.level = Level(self.rule.smoothing)

    def feed(self, z: float, piece: str) -> float | None:
        """P(fine) at the position that a token of the text ``piece`` settles, where ``z`` was read; None: at none."""
        self.count += 1
        before, self.waiting = self.waiting, (z, piece)
        if not needs_text(self.rule.schedule):
            return self.end() if is_due(self.rule.schedule, self.count, piece, piece) else None
        if before is None:
            return None
        if not piece:  # the text before it ends where this token ends, too
            self.waiting = (z, before[1])
            return None
        return self._at(before[0]) if is_due(self.rule.schedule, self.count - 1, before[1], piece) else None

    def end(self) -> float | None:
        """P(fine) at the last token, which is always a position; None where that was counted, or there was none."""
        before, self.waiting = self.waiting, None
        return None if before is None else self._at(before[0])

    def _at(self, z: float) -> float:
        return float(self.rule.probability(self.level.add(z)))


@dataclass
class StopWatch:
    """A watch (`confide.engines.directions.Watch`) over all signals of a model.

    Attributes:
        readings: the signals that are read, in the order of their shares.
        below: signal → P(fine) under which an answer ends.
        decode: token ids to text.
        stopped_by_: place of an answer → the signal that ended it.
    """

    readings: Sequence[AlongReading]
    below: Mapping[str, float]
    decode: Callable[[Sequence[int]], str]
    stopped_by_: dict[int, str] = field(default_factory=dict)
    _answers: dict[int, list[Followed]] = field(default_factory=dict)

    def __call__(self, row: int, token: int | None, shares: Shares) -> bool:
        """Whether an answer ends at a token; what was read before it began is of the question alone."""
        if token is None:
            self._answers[row] = [Followed(reading.rule) for reading in self.readings]
            return False
        piece = self.decode([token])
        for followed, z in zip(self._answers[row], shares.tolist(), strict=True):
            name = followed.rule.signal
            value = followed.feed(z, piece)
            if value is not None and is_below(value, self.below.get(name)):
                self.stopped_by_.setdefault(row, name)
        return row in self.stopped_by_


def is_below(value: float, threshold: float | None) -> bool:
    """Whether a value ends an answer; what is no number does, since nothing is known then. Without a threshold: never.

    >>> is_below(0.4, 0.5), is_below(float("nan"), 0.5), is_below(0.4, None)
    (True, True, False)
    """
    return threshold is not None and not value >= threshold


def joined(readings: Sequence[AlongReading]) -> Directions | None:
    """The directions of all readings side by side; None for no reading."""
    return Directions.joined([reading.directions for reading in readings]) if readings else None


def traces(
    readings: Sequence[AlongReading], completion: Completion, decode: Callable[[Sequence[int]], str]
) -> dict[str, Trace]:
    """What each signal says along a completion that was read, by its name."""
    if completion.shares is None:
        return {}
    ids = [*completion.reasoning_ids, *completion.ids]
    return {
        reading.rule.signal: reading.rule.trace(
            completion.shares[:, place], due_of_ids(reading.rule.schedule, ids, len(completion.shares), decode)
        )
        for place, reading in enumerate(readings)
    }
