"""What ``/metrics`` tells Prometheus about this process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from confide.engines.openai.start_check import StartCheck
    from confide.methods.answer_traffic import UnseenShare
    from confide.serving.routing.guard import Guarded
    from confide.serving.routing.turn import Turn

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters and histograms in a registry of their own; labels come from the configuration, never from requests."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, buckets=_SECONDS, registry=registry)
        self.requests = counter("confide_requests", "Routed requests.", ["mode", "decision", "served"])
        text = "Decisions by the source of their confidence (none: there was none)."
        self.sources = counter("confide_sources", text, ["source"])
        text = "Requests unlike the calibration rows of the policy, by what is unlike."
        self.unlike = counter("confide_unlike", text, ["what"])
        text = "Signals of small answers that fell below their thresholds, and what was done about them."
        self.flags = counter("confide_flags", text, ["signal", "action"])
        self.seconds = histogram("confide_request_seconds", "Time to the committed decision.")
        self.model_seconds = histogram("confide_model_seconds", "Time of a model's answer.", ["model"])
        self.tokens = counter("confide_tokens", "Tokens read and written.", ["model"])
        text = "Answers that a model, server, tool or the store did not give."
        self.failures = counter("confide_failures", text, ["model", "kind"])
        self.cost = counter("confide_cost", "Money spent, in the unit of the prices.")
        self.cost_saved = gauge("confide_cost_saved", "Money not spent on the first expert (may fall).")
        self.turned_away = counter("confide_turned_away", "Requests refused because of load.")
        self.active = gauge("confide_active_requests", "Requests being worked on.")
        self.waiting = gauge("confide_waiting_requests", "Requests waiting for a place.")
        text = "Audits that run or wait for an expert in this process."
        self.audits = gauge("confide_waiting_audits", text)
        self.store_up = gauge("confide_store_up", "1 while decisions can be stored and read.")
        text = "1 for what is wrong with the store, where something is."
        self.store_trouble = gauge("confide_store_trouble", text, ["reason"])
        self.resting = gauge("confide_resting", "1 while a server is not asked.", ["model"])
        self.checked = gauge("confide_start_check", "1 once a server has answered the check at the start.", ["model"])
        text = "1 while the small model's server gives its learned reading."
        self.reading = gauge("confide_learned_reading", text, ["model"])
        text = "1 for each field that a server does not take and is not sent."
        self.left_out = gauge("confide_left_out", text, ["model", "field"])
        text = "Shares of the latest answers and phrasings that training never saw, of its own, and shifted at least."
        self.unseen = gauge("confide_unseen", text, ["of", "what"])
        # What follows is read from the store: the same numbers on every replica.
        text = "Share of wrong answers among audited kept ones, and what was promised."
        self.risk = gauge("confide_risk", text, ["what"])
        self.coverage = gauge("confide_coverage", "Share of requests that the policy answers.")
        text = "1 for each alarm or warning that the dashboard shows."
        self.alarm = gauge("confide_alarm", text, ["name", "severity"])

    def failed(self, name: str, kind: str) -> None:
        """Count a failure."""
        self.failures.labels(name, kind).inc()

    def decided(self, turn: Turn) -> None:
        """Count a committed decision."""
        self.requests.labels(turn.config.mode, turn.decision, turn.served).inc()
        self.sources.labels((turn.raw is not None and turn.source) or "none").inc()
        for what in turn.unlike:
            self.unlike.labels(what).inc()
        for flag in turn.flags:
            self.flags.labels(flag["signal"], flag["action"]).inc()
        self.seconds.observe(turn.seconds)
        self.cost_saved.inc(turn.cost_saved)
        for reply in (turn.small, turn.expert):
            if reply is not None and reply.by:
                self.model_seconds.labels(reply.by).observe(reply.ms / 1000)
                self.tokens.labels(reply.by).inc(reply.spent_tokens)
                self.cost.inc(reply.cost)

    def observe(
        self,
        active: int,
        waiting: int,
        audits: int,
        models: Sequence[Guarded],
        checks: Sequence[StartCheck],
        unseen: Mapping[str, UnseenShare],
    ) -> None:
        """Note the state of the moment."""
        self.active.set(active)
        self.waiting.set(waiting)
        self.audits.set(audits)
        for model in models:
            self.resting.labels(model.name).set(model.breaker.state == "open")
        for check in checks:
            self.checked.labels(check.name).set(check.answered)
            for name in check.left_out:
                self.left_out.labels(check.name, name).set(1)
        for of, found in unseen.items():
            for what, value in (("latest", found.share), ("training", found.usual), ("shifted", found.shifted)):
                self.unseen.labels(of, what).set(value)

    def watch(self, snapshot: Mapping[str, Any] | None, trouble: str | None) -> None:
        """Note what the store shows, and what is wrong with it.

        Args:
            snapshot: of `confide.serving.monitor.snapshot.snapshot` (None: the store cannot be read).
            trouble: why no row can be stored (None: nothing is known to be wrong).
        """
        self.store_trouble.clear()
        if trouble is not None:
            self.store_trouble.labels(trouble).set(1)
        self.store_up.set(trouble is None and snapshot is not None)
        self.risk.clear()
        self.alarm.clear()
        self.coverage.set(math.nan)
        if snapshot is None:
            return
        if risk := snapshot["risk"]:
            for what in ("estimate", "lower", "upper", "bound"):
                if risk[what] is not None:
                    self.risk.labels(what).set(risk[what])
        if (coverage := snapshot["coverage"]) and coverage["share"] is not None:
            self.coverage.set(coverage["share"])
        for alarm in snapshot["alarms"]:
            self.alarm.labels(alarm["name"], alarm["severity"]).set(1)

    def text(self) -> bytes:
        """The exposition format."""
        return bytes(generate_latest(self.registry))
