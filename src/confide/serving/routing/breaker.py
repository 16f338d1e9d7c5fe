"""When a model is left alone for a while: a circuit breaker that no single client can open for the others.

A request counts once, however often it was retried, and a question once, however often it was asked. So one poisoned
request that is sent again and again is one failure. Who is known by a key rests a model for itself alone, until most of
the clients see it fail.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError

log = logging.getLogger("confide.serving")

WINDOW_S = 30.0
"""How long an outcome counts. Longer, and a server that has recovered is judged by what is over."""
LEAST_FAILURES = 5
"""Different questions that must have failed: fewer happen by chance, or are one client's odd request."""
MOST_OF_ONE = 3
"""Of these, so many count of one client with a key, so that one alone is never enough."""
FAILED_SHARE = 0.5
"""The share of a client's different questions from which on the model counts as sick for it. Retries make even a server
that drops one attempt in three answer 96 % of requests, so half of them failing is no passing trouble."""
FIRST_REST_S = 2.0
MOST_REST_S = 60.0
MOST_QUESTIONS = 64
"""Of each client the latest so many questions are kept, so that no work and no memory grows with the traffic."""

_ANSWERED = frozenset({"rejected", "empty", "no_answer"})
"""Failures of a healthy model: it answered, only not with what was wanted."""

Client = str | None
"""The name of a client's key (None: there are no keys, and all clients are one)."""


class Outcomes:
    """How the latest different questions of each client went, in a sliding window."""

    def __init__(self) -> None:
        self._of: dict[Client, OrderedDict[str, tuple[float, bool]]] = {}

    def note(self, now: float, client: Client, question: str, failed: bool) -> None:
        """Add how a question went; what was known of it before is replaced."""
        asked = self._of.setdefault(client, OrderedDict())
        asked[question] = (now, failed)
        asked.move_to_end(question)
        if len(asked) > MOST_QUESTIONS:
            asked.popitem(last=False)

    def failed(self, now: float) -> set[str] | None:
        """The different questions that failed, if they say that the model is sick (None: they do not).

        At least `LEAST_FAILURES` did, and most clients saw at least `FAILED_SHARE` of theirs fail.
        """
        seen = {client: recent for client, asked in self._of.items() if (recent := _since(now - WINDOW_S, asked))}
        failures = {client: {question for question, bad in asked.items() if bad} for client, asked in seen.items()}
        count = sum(len(bad) if client is None else min(len(bad), MOST_OF_ONE) for client, bad in failures.items())
        sick = sum(len(failures[client]) >= FAILED_SHARE * len(asked) for client, asked in seen.items())
        return set().union(*failures.values()) if count >= LEAST_FAILURES and 2 * sick > len(seen) else None


def _since(start: float, asked: Mapping[str, tuple[float, bool]]) -> dict[str, bool]:
    return {question: failed for question, (at, failed) in asked.items() if at >= start}


class Circuit:
    """Closed while a model is asked, open while it rests, half open until one request has tried it.

    Each opening and each closing begins a new generation. What began in an earlier one changes nothing when it ends.
    A rest is twice as long as the one before it, up to `MOST_REST_S`, until the model was well for a `WINDOW_S`.
    One that is ``shared`` tells clients apart.
    """

    def __init__(self, name: str, clock: Callable[[], float], *, shared: bool):
        self.name = name
        self.shared = shared
        self.generation = 0
        self.trying = False
        self._clock = clock
        self._outcomes = Outcomes()
        self._until = 0.0
        self._broken = False
        self._closed_at = 0.0
        self._rest = FIRST_REST_S
        self._suspects: set[str] = set()
        self._tried_by: set[str] = set()

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        if not self._broken:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    @property
    def left(self) -> float:
        """Seconds until it may be tried."""
        return max(0.0, self._until - self._clock())

    @property
    def barred(self) -> bool:
        """Whether no further request may pass now."""
        return self.state == "open" or (self.state == "half_open" and self.trying)

    def note(self, client: Client, question: str, failure: ModelError | None) -> None:
        """How a request of this generation went that was no trial."""
        failed = failure is not None and failure.kind not in _ANSWERED
        if failed and not (failure and failure.counts):
            return
        self._outcomes.note(self._clock(), client if self.shared else None, question, failed)
        if failed and (suspects := self._outcomes.failed(self._clock())) is not None:
            if self._clock() - self._closed_at > WINDOW_S:
                self._rest = FIRST_REST_S
            self._suspects, self._tried_by = suspects, set()
            self._open(failure)

    def end_trial(self, client: Client, question: str, failure: ModelError | None) -> None:
        """How the trial of this generation went.

        A question that had failed before, or a client whose trial has failed, says nothing more against the model:
        else whoever sends what it cannot bear would keep it away for good.
        """
        self.trying = False
        if failure is None or failure.kind in _ANSWERED:
            self._broken, self._closed_at, self._outcomes = False, self._clock(), Outcomes()
            self.generation += 1
        elif failure.counts and question not in self._suspects and client not in self._tried_by:
            self._suspects.add(question)
            self._tried_by |= {client} if self.shared and client is not None else set()
            self._open(failure)

    def _open(self, failure: ModelError | None) -> None:
        asked_for = failure.retry_after or 0.0 if failure else 0.0
        seconds = min(max(self._rest, asked_for), MOST_REST_S)
        log.warning("%s rests for %.0f s", self.name, seconds)
        self._broken, self.trying = True, False
        self._until = self._clock() + seconds
        self._rest = min(2 * self._rest, MOST_REST_S)
        self.generation += 1


@dataclass(slots=True)
class Visit:
    """One request to a model, however often it is retried: told once how it went, the first time."""

    client: Client
    question: str
    circuits: list[tuple[Circuit, int, bool]] = field(default_factory=list)

    @property
    def barred(self) -> bool:
        """Whether the model has begun to rest since."""
        return any(circuit.state == "open" for circuit, _, _ in self.circuits)

    def heard(self) -> None:
        """The model began to answer: a trial need not wait for the end."""
        for circuit, generation, trial in self.circuits:
            if trial and circuit.generation == generation:
                circuit.end_trial(self.client, self.question, None)

    def leave(self, failure: ModelError | None) -> None:
        """The request ended, with the failure if there was one."""
        circuits, self.circuits = self.circuits, []
        for circuit, generation, trial in circuits:
            if circuit.generation == generation:
                (circuit.end_trial if trial else circuit.note)(self.client, self.question, failure)

    def abandon(self) -> None:
        """The request ended for another reason (its client hung up): that says nothing of the model."""
        if self.circuits:
            self.leave(ModelError("abandoned", counts=False))


class Breaker:
    """Says whether a model may be asked, for everyone and for each client that has a key."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic):
        self.name = name
        self._clock = clock
        self._everyone = Circuit(name, clock, shared=True)
        self._alone: dict[str, Circuit] = {}

    @property
    def state(self) -> str:
        """``closed`` (asked), ``open`` (resting, for everyone who asked so far) or ``half_open`` (to be tried)."""
        states = {circuit.state for circuit in self._alone.values()}
        return states.pop() if self._everyone.state == "closed" and len(states) == 1 else self._everyone.state

    def enter(self, asked: Asked) -> Visit:
        """Call before asking; raises `ModelError` ("resting") when the model is not to be asked now."""
        circuits = [self._everyone]
        if asked.key is not None:  # keys stand in the configuration, so these are few
            known = self._alone.get(asked.key) or Circuit(f"{self.name} (for {asked.key})", self._clock, shared=False)
            circuits.append(self._alone.setdefault(asked.key, known))
        if any(circuit.barred for circuit in circuits):
            raise ModelError("resting", counts=False, retry_after=max(circuit.left for circuit in circuits))
        visit = Visit(asked.key, asked.question_hash)
        for circuit in circuits:
            trial = circuit.state == "half_open"
            circuit.trying = circuit.trying or trial
            visit.circuits.append((circuit, circuit.generation, trial))
        return visit
