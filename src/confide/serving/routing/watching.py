"""Watching: what the router does where a signal of the small model's answer lies below its policy's threshold.

The small model ends such an answer while it writes, in this process and on a server that reads it, unless the action
is ``log``. What an answer was not read for is not known, and escalates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import TypedDict

from confide.engines.openai.followed_signals import FILTERED
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError
from confide.methods.along.stop_watch import is_below
from confide.policies.policy import Policy
from confide.serving.config import Action, ServeConfig


class Flag(TypedDict):
    """A signal that fell below its threshold: its lowest value (None: it was not read) and what is done about it."""

    signal: str
    value: float | None
    threshold: float
    action: Action


@dataclass(frozen=True)
class Watched:
    """One signal with its policy."""

    signal: str
    action: Action
    policy: Policy
    threshold: float

    @classmethod
    def load(cls, config: ServeConfig) -> list[Watched]:
        """What a configuration watches; raises `ConfideError` for a policy on another source, or one that flags all."""
        found = []
        for watch in config.watch:
            policy = Policy.load(watch.policy)
            if policy.source != watch.signal or policy.fallbacks:
                raise ConfideError(f"{watch.policy} decides on {', '.join(policy.sources)}, not on {watch.signal}")
            if len(policy.thresholds) > 1:
                raise ConfideError(f"{watch.policy} has thresholds by domain: an answer is watched by one for all")
            if policy.keeps_nothing or (threshold := policy.threshold()) is None:
                raise ConfideError(f"{watch.policy} flags every answer, or none: there is nothing to watch for")
            found.append(cls(watch.signal, watch.action, policy, threshold))
        return found


class Watching:
    """What is watched, and what was found of a reply.

    Args:
        watched: the signals with their policies.
        acts: whether anything is done about them (mode act), or they are only told.
    """

    def __init__(self, watched: Sequence[Watched], *, acts: bool = True):
        self.watched = list(watched)
        self.below = {one.signal: one.threshold for one in watched if acts and one.action != "log"}
        """Signal to the value under which an answer ends at once."""

    def check(self, given: Sequence[str]) -> None:
        """Raise `ConfideError` for a signal that the small model does not carry."""
        if missing := next((one.signal for one in self.watched if one.signal not in given), None):
            carried = ", ".join(given) or "none"
            raise ConfideError(f"watch names the signal {missing}, which the small model does not carry ({carried})")

    def stops_at(self, reply: Reply) -> Reply:
        """The reply as a client gets it whose answer a signal ended: what was written, with that finish reason.

        What is told of its tokens goes: there are some among them that nobody may see.
        """
        return replace(reply, choices=[replace(choice, finish=FILTERED, logprobs=None) for choice in reply.choices])

    def flags(self, reply: Reply) -> list[Flag]:
        """The signals of a reply that lie below their threshold, or that it was not read for."""
        found: list[Flag] = []
        for one in self.watched:
            value = reply.signals.get(one.signal)
            if value is None or is_below(value, one.threshold):
                found.append({"signal": one.signal, "value": value, "threshold": one.threshold, "action": one.action})
        return found


def decided_by(flags: Sequence[Flag], *, stopped: bool) -> Action | None:
    """What is done about an answer: the strictest of its flags' actions; None where nothing is.

    An answer that should have been stopped and was not is refused: nobody may see the rest of it.

    Args:
        stopped: whether a signal ended it while it was written.

    >>> decided_by([{"signal": "red_flag", "value": None, "threshold": 0.5, "action": "stop"}], stopped=False)
    'escalate'
    """
    actions: set[Action] = {"escalate" if flag["value"] is None else flag["action"] for flag in flags if acts(flag)}
    if "refuse" in actions or ("stop" in actions and not stopped):
        return "refuse"
    return next((action for action in ("stop", "escalate") if action in actions), None)


def acts(flag: Flag) -> bool:
    """Whether anything is to be done about it, beyond telling it."""
    return flag["action"] != "log"
