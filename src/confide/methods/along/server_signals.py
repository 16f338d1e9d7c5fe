"""The signals of a server that reads its states while it answers: followed as they come, and read at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confide.engines.openai.learned_reading import LearnedReading, piece_of
from confide.engines.openai.reply import Choice
from confide.methods.along.along_reading import AlongRule
from confide.methods.along.stop_watch import Followed, is_below
from confide.methods.trace import lowest_of


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
        return {rule.signal: lowest_of([one.get(rule.signal) for one in found]) for rule in self._rules}

    def _lowest(self, choice: Choice) -> dict[str, float | None]:
        read = choice.read
        if read is None or read.shares is None:
            return {}
        follower = self.follow()
        for shares, piece in zip(read.shares.tolist(), read.pieces, strict=True):
            follower.feed(shares, piece)
        return follower.end()


class ServerFollower:
    """Follows the signals of one answer; what stands at a token was read at the one before it.

    Attributes:
        known: whether every token so far came with what was read.
    """

    def __init__(self, reading: LearnedReading, rules: Sequence[AlongRule], below: Mapping[str, float]):
        self._reading, self._below = reading, below
        self._start = len(reading.positions)
        self._followed = [Followed(rule) for rule in rules]
        self._before: str | None = None
        self._seen, self._fallen = 0, False
        self.known = True
        self._values: dict[str, list[float]] = {rule.signal: [] for rule in rules}

    def ends(self, content: Sequence[Any], *, said: bool) -> bool:
        """Whether the answer ends before the newest of its tokens, of which this is told so far.

        Args:
            said: whether a piece of it came since the last time.
        """
        new, self._seen = content[self._seen :], len(content)
        self.known &= bool(new) or not said
        for token in new:
            if (shares := self._reading.shares(token)) is None:
                self.known = False
            else:
                self.feed(shares, piece_of(token))
        fallen = (is_below(values[-1], self._below.get(name)) for name, values in self._values.items() if values)
        self._fallen |= any(fallen)
        return self._fallen

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
        return {name: lowest_of(values) for name, values in self._values.items()}

    def _add(self, followed: Followed, value: float | None) -> None:
        if value is not None:  # also one that is no number: then nothing is known
            self._values[followed.rule.signal].append(value)
