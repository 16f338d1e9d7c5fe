"""The signals of a server that reads its states while it answers: followed as they come, and read at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confide.engines.openai.learned_reading import LearnedReading, piece_of
from confide.engines.openai.reply import Choice
from confide.methods.along.along_reading import AlongRule
from confide.methods.along.stop_watch import Followed


class ServerSignals:
    """What a server's tokens say of each signal.

    Args:
        reading: how they are read back.
        rules: what becomes of each, in the order of their shares.
        below: signal to the value under which an answer ends while it is written.
    """

    def __init__(self, reading: LearnedReading, rules: Sequence[AlongRule], below: Mapping[str, float]):
        self._reading, self._rules, self._below = reading, list(rules), dict(below)

    @property
    def stops(self) -> bool:
        """Whether answers may end by them."""
        return bool(self._below)

    def follow(self) -> ServerFollower:
        """What follows one answer."""
        return ServerFollower(self._reading, self._rules, self._below)

    def lowest(self, choices: Sequence[Choice]) -> dict[str, float | None]:
        """The lowest value of each signal along all choices; None where one was not read."""
        found = [self._lowest(choice) for choice in choices]
        return {rule.signal: _lowest([one.get(rule.signal) for one in found]) for rule in self._rules}

    def _lowest(self, choice: Choice) -> dict[str, float | None]:
        read = choice.read
        if read is None or read.shares is None:
            return {}
        follower = self.follow()
        for shares, piece in zip(read.shares.tolist(), read.pieces, strict=True):
            follower.feed(shares, piece)
        return follower.end()


class ServerFollower:
    """Follows the signals of one answer; what stands at a token was read at the one before it."""

    def __init__(self, reading: LearnedReading, rules: Sequence[AlongRule], below: Mapping[str, float]):
        self._reading, self._below = reading, below
        self._start = len(reading.positions)
        self._followed = [Followed(rule, rule.follow()) for rule in rules]
        self._before: str | None = None
        self._seen = 0
        self._values: dict[str, list[float]] = {rule.signal: [] for rule in rules}

    def ends(self, content: Sequence[Any]) -> bool:
        """Whether the answer ends before the newest of its tokens, of which this is told so far."""
        for token in content[self._seen :]:
            if (shares := self._reading.shares(token)) is not None:
                self.feed(shares, piece_of(token))
        self._seen = len(content)
        return any(values and min(values) < self._below.get(name, 0.0) for name, values in self._values.items())

    def feed(self, shares: Sequence[float], piece: str) -> None:
        """Take what stands at a token of the text ``piece``; at the first one that is of the question alone."""
        before, self._before = self._before, piece
        if before is None:
            return
        for followed, z in zip(self._followed, shares[self._start :], strict=False):  # those of parts come last
            self._add(followed, followed.feed(z, before))

    def end(self) -> dict[str, float | None]:
        """The lowest value of each signal, the last token included; None where there was no token."""
        for followed in self._followed:
            self._add(followed, followed.end())
        return {name: min(values, default=None) for name, values in self._values.items()}

    def _add(self, followed: Followed, value: float | None) -> None:
        if value is not None:
            self._values[followed.rule.signal].append(value)


def _lowest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None
