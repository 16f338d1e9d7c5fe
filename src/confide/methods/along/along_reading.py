"""The along-reading of a signal: one direction in the model's states, read at scheduled tokens while it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from confide.engines.directions import Directions, Shares
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.along.schedule import check_schedule, due_rows, needs_text, pieces_of
from confide.methods.along.smoothing import Level, check_smoothing, levels
from confide.methods.trace import Trace
from confide.numeric import Floats, Ints, sigmoid
from confide.policies.identities import IDENTITY_DIGITS

FILE, ARRAYS = "along.json", "along.safetensors"
FOLDER = "signals"
"""Where a checkpoint keeps the signals that it carries besides its confidence, a folder each."""


@dataclass(frozen=True)
class AlongReading:
    """A fitted reading: P(fine) = σ(scale · level + shift), the level smoothed over scheduled positions.

    Attributes:
        signal: what it reports on.
        schedule: where it is read (`confide.methods.along.schedule`).
        smoothing: how readings become a level (`confide.methods.along.smoothing`).
        directions: one direction: the logit of "fine" at a token.
        about: what training says of itself: rows, settings, figures on validation rows.
    """

    signal: str
    schedule: str
    smoothing: str
    directions: Directions
    scale: float = 1.0
    shift: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)

    def probability(self, level: Floats | float) -> Floats:
        """P(fine) at a level; any shape."""
        return sigmoid(self.scale * np.asarray(level, dtype=np.float64) + self.shift)

    def trace(self, shares: Shares, due: Ints) -> Trace:
        """What it says of an answer with these shares [rows] at the rows that are ``due``."""
        values = self.probability(levels(np.asarray(shares, dtype=np.float64)[due], self.smoothing))
        return Trace(due.tolist(), values.tolist())

    def due(self, ids: Sequence[int], rows: int, decode: Callable[[Sequence[int]], str]) -> Ints:
        """The rows of an answer's shares at which it is read.

        Args:
            ids: tokens of reasoning and answer.
            rows: how many rows of shares there are.
            decode: token ids to text.
        """
        from confide.engines.token_starts import starts_of_ids

        if not needs_text(self.schedule):
            return due_rows(self.schedule, rows - 1)
        starts = starts_of_ids(ids, decode)
        return due_rows(self.schedule, rows - 1, pieces_of(decode(ids), starts) if starts else [""] * len(ids))

    def follow(self) -> Level:
        """The level of an answer that is about to be written."""
        return Level(self.smoothing)

    @property
    def scored_by(self) -> str:
        """A hash of what gives its values."""
        arrays = [self.directions.layers, self.directions.weight.tolist(), self.directions.offset.tolist()]
        told = [self.signal, self.schedule, self.smoothing, self.scale, self.shift]
        return sha256_of_rows([*told, *arrays])[:IDENTITY_DIGITS]

    def save(self, folder: Path) -> None:
        """Write it into ``folder``."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weight": self.directions.weight, "offset": self.directions.offset}, folder / ARRAYS)
        told = {name: getattr(self, name) for name in ("signal", "schedule", "smoothing", "scale", "shift", "about")}
        about = {"schema": 1, **told, "layers": list(self.directions.layers)}
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
            return cls(
                str(about["signal"]),
                check_schedule(about["schedule"]),
                check_smoothing(about["smoothing"]),
                directions,
                float(about["scale"]),
                float(about["shift"]),
                dict(about["about"]),
            )
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
        if reading.signal != name:
            raise ConfideError(f"{folder} holds the signal {reading.signal}")
        if base_sha256 is not None and reading.about.get("weights") != base_sha256:
            raise ConfideError(f"{folder} was fitted on other weights than those of {checkpoint}: train it again")
    return found
