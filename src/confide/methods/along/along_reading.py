"""The along-reading of a signal: one direction in the model's states, read at scheduled tokens while it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from confide.engines.directions import Directions, Shares
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.along.schedule import check_schedule
from confide.methods.along.smoothing import check_smoothing, levels
from confide.methods.trace import Trace
from confide.numeric import Floats, Ints, sigmoid
from confide.policies.identities import IDENTITY_DIGITS

FILE, ARRAYS = "along.json", "along.safetensors"
FOLDER = "signals"
"""Where a checkpoint keeps the signals that it carries besides its confidence, a folder each."""


@dataclass(frozen=True)
class AlongRule:
    """What becomes of a signal's readings: P(fine) = σ(scale · level + shift), the level smoothed over positions.

    Attributes:
        signal: what they report on.
        schedule: where they are taken (`confide.methods.along.schedule`).
        smoothing: how they become a level (`confide.methods.along.smoothing`).
        scored_by: a hash of what gives the values.
    """

    signal: str
    schedule: str
    smoothing: str
    scale: float = 1.0
    shift: float = 0.0
    scored_by: str = ""

    def probability(self, level: Floats | float) -> Floats:
        """P(fine) at a level; any shape."""
        return sigmoid(self.scale * np.asarray(level, dtype=np.float64) + self.shift)

    def trace(self, shares: Shares, due: Ints) -> Trace:
        """What it says of an answer with these shares [rows] at the rows that are ``due``."""
        values = self.probability(levels(np.asarray(shares, dtype=np.float64)[due], self.smoothing))
        return Trace(due.tolist(), values.tolist())

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON can hold it."""
        return {name: getattr(self, name) for name in _RULE}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AlongRule:
        """The rule that `to_json` came from; raises `ConfideError` for what is no schedule or no smoothing."""
        return cls(
            str(data["signal"]),
            check_schedule(data["schedule"]),
            check_smoothing(data["smoothing"]),
            float(data["scale"]),
            float(data["shift"]),
            str(data["scored_by"]),
        )


_RULE = ("signal", "schedule", "smoothing", "scale", "shift", "scored_by")


@dataclass(frozen=True)
class AlongReading:
    """A fitted reading.

    Attributes:
        rule: what becomes of it.
        directions: one direction: the logit of "fine" at a token.
        about: what training says of itself: rows, settings, figures on validation rows.
    """

    rule: AlongRule
    directions: Directions
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: AlongRule, directions: Directions, about: Mapping[str, Any]) -> Self:
        """A reading whose rule says what gives its values."""
        arrays = [directions.layers, directions.weight.tolist(), directions.offset.tolist()]
        told = [rule.signal, rule.schedule, rule.smoothing, rule.scale, rule.shift]
        by = sha256_of_rows([*told, *arrays])[:IDENTITY_DIGITS]
        return cls(replace(rule, scored_by=by), directions, dict(about))

    def save(self, folder: Path) -> None:
        """Write it into ``folder``."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weight": self.directions.weight, "offset": self.directions.offset}, folder / ARRAYS)
        about = {"schema": 1, **self.rule.to_json(), "about": self.about, "layers": list(self.directions.layers)}
        write_text(folder / FILE, json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raises `ConfideError` for a broken folder."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            about = json.loads(read_text(folder / FILE))
            if about["schema"] != 1:
                raise ValueError(f"schema {about['schema']!r}; this version reads schema 1")
            arrays = load_file(folder / ARRAYS)
            directions = Directions(tuple(about["layers"]), arrays["weight"], arrays["offset"])
            if directions.weight.shape[0::2] != (len(directions.layers), 1) or directions.offset.shape != (1,):
                raise ValueError("its arrays do not fit its layers")
            return cls.of(AlongRule.from_json(about), directions, about["about"])
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            raise ConfideError(f"{folder} holds no readable signal: {error}") from None


def load_signals(checkpoint: Path, base_sha256: str | None) -> dict[str, AlongReading]:
    """The along-readings that a checkpoint carries, by the name of their signal.

    Raises:
        ConfideError: one is broken, or was fitted on other weights than the checkpoint's.
    """
    found = {path.parent.name: AlongReading.load(path.parent) for path in sorted(checkpoint.glob(f"{FOLDER}/*/{FILE}"))}
    for name, reading in found.items():
        folder = checkpoint / FOLDER / name
        if reading.rule.signal != name:
            raise ConfideError(f"{folder} holds the signal {reading.rule.signal}")
        if base_sha256 is not None and reading.about.get("weights") != base_sha256:
            raise ConfideError(f"{folder} was fitted on other weights than those of {checkpoint}: train it again")
    return found
