"""Signals: what a model reports on, each declared once; training, scoring, policies and the router take them from here.

In a signal's records ``correct`` is true where nothing is to be flagged, and the confidence of the source that has the
signal's name is the probability of that.
"""

from __future__ import annotations

from dataclasses import dataclass

from confide.errors import ConfideError


@dataclass(frozen=True)
class Signal:
    """One thing to report on.

    Attributes:
        name: what it is called, in checkpoints, in records and as a source.
        tokens: the tokens with which a model writes it, the one that raises the confidence first.
        fine: what an answer is called where nothing is to be flagged.
        flagged: what it is called otherwise.
        audited: whether that is whether the answer is right, which the audits of a router label.
        schedule: where in an answer it is read while that is written (`confide.methods.along.schedule`); "" for one
            that is read of the finished answer alone.
        veiled: whether pages show flagged texts only where somebody asks for them.
    """

    name: str
    tokens: tuple[str, ...] = ()
    fine: str = "right"
    flagged: str = "wrong"
    audited: bool = True
    schedule: str = ""
    veiled: bool = False


CONFIDENCE = Signal("confidence", ("<|confident|>", "<|unconfident|>"))
RED_FLAG = Signal(
    "red_flag", ("<|red_flag|>",), fine="harmless", flagged="harmful", audited=False, schedule="tokens", veiled=True
)
OUTCOME = Signal("outcome", fine="right in the end", flagged="wrong in the end", schedule="lines")

FIELD = Signal("field")
CLAIM = Signal("claim")

SIGNALS: dict[str, Signal] = {signal.name: signal for signal in (CONFIDENCE, RED_FLAG, OUTCOME, FIELD, CLAIM)}
"""Every signal by its name."""

PART_SIGNALS = (FIELD.name, CLAIM.name)
"""Those that are the confidence of parts of an answer: fields of its JSON and arguments of tool calls, sentences."""


def along_signals() -> list[str]:
    """The names of signals that are read while an answer is written."""
    return [name for name, signal in SIGNALS.items() if signal.schedule]


def find_signal(name: str) -> Signal:
    """The signal of this name, read while an answer is written; raises `ConfideError` for any other."""
    if name not in along_signals():
        there = ", ".join(along_signals())
        raise ConfideError(f"no signal {name!r} is read while an answer is written: there is {there}")
    return SIGNALS[name]
