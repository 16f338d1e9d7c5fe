"""The learned reading of a vLLM with confide's plug-in: asked for, and read back from log-probabilities.

A model with V tokens is served with 64 ids more (``plugins/vllm/confide_vllm/extra_ids.py``). Their probability is 0;
the difference of two of their log-probabilities is a number of the reading: id V is the zero, V + 1 + i the share of
position i, the last four are the bytes of a fingerprint. At the first token of an answer stands what was read at the
end of the prompt, at each later one what was read at the token before, so that the token which closes the answer comes
with what was read at its last one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from confide.engines.directions import Shares
from confide.numeric import as_finite

EXTRA = 64
"""Ids that the plug-in adds."""

_DIGITS, _MIDDLE = 4, 128
_FLOOR = (-1100.0, -600.0)
"""Between these lies the log-probability of id V."""

MASKED = -9000.0
"""vLLM writes −9999 for a probability that it has masked."""


@dataclass(frozen=True)
class ReadAnswer:
    """What came back with one answer.

    Attributes:
        z: logit that it is right; None where the reading is not there, or the answer was not closed.
        ids: token ids, without the one that closes it.
        logprobs: log-probability (nats) of each.
        end_logprob: that of closing it; None for an answer that was cut.
        other: whether it did not come from this export: its ids are not among those told, or say something else.
        by: the fingerprint of what read it ("" where nothing was read).
        shares: what was read along it, as `Completion.shares`: the shares of z, then those of the signals. None where a
            token came without them.
        pieces: the text of each token, reasoning and the closing one included; row i of ``shares`` came with token i.
    """

    z: float | None
    ids: list[int]
    logprobs: list[float]
    end_logprob: float | None
    other: bool = False
    by: str = ""
    shares: Shares | None = None
    pieces: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LearnedReading:
    """How the reading of one exported folder is asked for, and read back.

    Attributes:
        vocabulary: V.
        positions: where it is read, of ``prompt_end``, ``answer_mean``, ``answer_last``.
        offset: the share that a state of zeros has at each, which is the mean over the tokens of an empty answer.
        end_ids: tokens that close an answer.
        fingerprint: its bytes.
        signals: the names of the signals that are read along every answer, whose shares follow those of the positions.
        parts: signal → the positions of what is read of every part of an answer; these shares come last, in this order.
    """

    vocabulary: int
    positions: tuple[str, ...]
    offset: tuple[float, ...]
    end_ids: frozenset[int]
    fingerprint: tuple[int, ...]
    signals: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def by(self) -> str:
        """The fingerprint as text."""
        return bytes(self.fingerprint).hex()

    @property
    def ids(self) -> list[int]:
        """The ids that an answer's reading comes with: the zero, the shares, and one byte of the fingerprint."""
        count = 1 + len(self.positions) + len(self.signals) + sum(map(len, self.parts.values()))
        return [*(self.vocabulary + i for i in range(count)), self.fingerprint_ids[-1]]

    @property
    def fingerprint_ids(self) -> list[int]:
        """The ids that tell which export this is."""
        start = self.vocabulary + EXTRA - _DIGITS
        return [self.vocabulary, *range(start, start + _DIGITS)]

    def fields(self, *, check: bool = False) -> dict[str, Any]:
        """What a request for chat completions has besides: the reading, or with ``check`` the fingerprint."""
        ids = self.fingerprint_ids if check else self.ids
        return {"logprobs": True, "logprob_token_ids": ids, "return_tokens_as_token_ids": True}

    def read(self, content: Sequence[Any], start: int = 0) -> ReadAnswer:
        """The answer and its reading from the ``logprobs.content`` of a choice.

        Args:
            start: how many tokens of reasoning come before the answer.

        Raises ValueError where tokens are not told by their ids, each with its log-probability.
        """
        ids = [_token_id(token) for token in content]
        values = [as_finite(token.get("logprob")) for token in content]
        if len(logprobs := [value for value in values if value is not None]) < len(ids):
            raise ValueError("the server does not tell how likely each token is")
        other = bool(content) and self._is_other(content[0])
        rows = [None if other else self.shares(token) for token in content]
        told = [row for row in rows if row is not None]
        shares = np.array(told, np.float32) if told and len(told) == len(rows) else None
        pieces, by = [piece_of(token) for token in content], "" if shares is None else self.by
        if not ids or ids[-1] not in self.end_ids:
            return ReadAnswer(None, ids[start:], logprobs[start:], None, other, by, shares, pieces)
        end = len(ids) - 1
        z = self._z(rows[start:]) if start <= end else None
        return ReadAnswer(z, ids[start:end], logprobs[start:end], logprobs[end], other, by, shares, pieces)

    def _is_other(self, token: Any) -> bool:
        """Whether what came with a token is not what this export sends; a mask hides whose it is."""
        told = _told(token, self.ids)
        if None in told:
            return True
        zero, *_, digit = (value for value in told if value is not None)
        if zero <= MASKED:
            return False
        return not _FLOOR[0] < zero < _FLOOR[1] or round(digit - zero) + _MIDDLE != self.fingerprint[-1]

    def wrong(self, content: Sequence[Any]) -> str | None:
        """Why a server is not the one that serves this export (None: it is), from one token asked with ``check``."""
        values = _numbers(content[0], self.fingerprint_ids) if content else None
        if values is None:
            return "it does not return the ids that were asked for: no vLLM of 0.30 or later"
        zero, *digits = values
        if not _FLOOR[0] < zero < _FLOOR[1]:
            return "it serves without confide's plug-in, or another vocabulary"
        found = tuple(round(value - zero) + _MIDDLE for value in digits)
        if found != self.fingerprint:
            told, wanted = (bytes(part % 256 for part in digits).hex() for digits in (found, self.fingerprint))
            return f"it serves another export: fingerprint {told}, not {wanted}"
        return None

    def _z(self, rows: Sequence[list[float] | None]) -> float | None:
        """The sum of the shares of an answer whose last token, and row, closes it."""
        first, last = rows[0], rows[-1]
        inside = [row for row in rows[1:] if row is not None]
        if first is None or last is None or len(inside) < len(rows) - 1:
            return None
        z = 0.0
        for i, position in enumerate(self.positions):
            if position == "prompt_end":
                z += first[i]
            elif position == "answer_last":
                z += last[i]
            else:
                z += sum(row[i] for row in inside) / len(inside) if inside else self.offset[i]
        return z

    def shares(self, token: Any) -> list[float] | None:
        """The shares that one token came with: what was read at the token before it. None where they are not there."""
        values = _numbers(token, self.ids)
        return None if values is None else [value - values[0] for value in values[1:-1]]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LearnedReading:
        """The reading that an exported folder describes."""
        return cls(
            data["vocabulary"],
            tuple(data["positions"]),
            tuple(data["offset"]),
            frozenset(data["end_ids"]),
            tuple(data["fingerprint"]),
            tuple(signal["signal"] for signal in data.get("signals", ())),
            {signal: tuple(positions) for signal, positions in data.get("parts", {}).items()},
        )

    def columns(self, signal: str) -> slice | None:
        """Which of an answer's shares are of its parts' ``signal``; None: none are."""
        start = len(self.positions) + len(self.signals)
        for name, positions in self.parts.items():
            if name == signal:
                return slice(start, start + len(positions))
            start += len(positions)
        return None


def piece_of(token: Any) -> str:
    """The text of a token that is told by its id, from its bytes; "" where these are not told."""
    raw = token.get("bytes") if isinstance(token, dict) else None
    if not isinstance(raw, list) or not all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw):
        return ""
    return bytes(raw).decode(errors="replace")


def _token_id(token: Any) -> int:
    name = token.get("token") if isinstance(token, dict) else None
    if not isinstance(name, str) or not name.startswith("token_id:"):
        raise ValueError("the server tells its tokens by their text, not by their ids")
    return int(name.removeprefix("token_id:"))


def _told(token: Any, ids: Collection[int]) -> list[float | None]:
    """The log-probabilities that one token came with for ``ids``; None for each that is not there."""
    listed = token.get("top_logprobs") if isinstance(token, dict) else None
    told = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    there = {str(one.get("token")): as_finite(one.get("logprob")) for one in told}
    return [there.get(f"token_id:{id}") for id in ids]


def _numbers(token: Any, ids: Collection[int]) -> list[float] | None:
    """The log-probabilities that one token came with for ``ids``; None unless all are there and none is masked."""
    known = [value for value in _told(token, ids) if value is not None and value > MASKED]
    return known if len(known) == len(ids) else None
