"""The part reading: how sure a model is of each part of an answer, from what came with the answer's one generation.

Where the states were read along the answer, it is the served stack (`confide.methods.stack.served_stack`) with the
part's own tokens in place of the answer's; where only log-probabilities are told, the portable confidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from confide.engines.directions import Directions, Shares
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.along.along_reading import FOLDER
from confide.methods.answer_traffic import Surroundings
from confide.methods.portable.portable_file import FILE as PORTABLE_FILE
from confide.methods.portable.portable_file import PORTABLE, PortableFile
from confide.methods.stack.served_stack import ServedStack, served_values
from confide.numeric import Floats
from confide.policies.identities import IDENTITY_DIGITS
from confide.records import Record, answer_log_probability
from confide.signals import PART_SIGNALS

FILE, ARRAYS = "parts.json", "parts.safetensors"


@dataclass(frozen=True)
class PartReading:
    """A fitted reading of one kind of part.

    Attributes:
        signal: ``field`` or ``claim``.
        portable: learned from text and log-probabilities.
        served: learned with states; None: it was trained without the model.
        weights: a hash of the weights whose states ``served`` reads ("": none).
    """

    signal: str
    portable: PortableFile
    served: ServedStack | None = None
    weights: str = ""

    @property
    def scored_by(self) -> str:
        """A hash of what gives the confidences."""
        served = [] if self.served is None else [self.served.to_arrays()[0], self.served.reading.weight.tolist()]
        return sha256_of_rows([self.signal, self.portable.scored_by, *served])[:IDENTITY_DIGITS]

    @property
    def source(self) -> str:
        """What its confidences come from where all is told that they need."""
        return PORTABLE if self.served is None else self.signal

    @property
    def positions(self) -> tuple[str, ...]:
        """Where in a part the states are read."""
        return () if self.served is None else self.served.reading.positions

    @property
    def directions(self) -> Directions | None:
        """What an engine is to read along an answer."""
        return None if self.served is None else self.served.reading.directions

    def confidences(
        self, records: Sequence[Record], z: Floats | None = None, traffic: Surroundings | None = None
    ) -> list[tuple[float | None, str]]:
        """Confidence and source of each record of a part; without anything trained for it, the probability of its text.

        Args:
            z: what the states say of each, [n]; NaN where that is not known.
            traffic: what surrounds them; None: each other.
        """
        ground = self.portable.mixture.signals.read(records, traffic)
        values = self.portable.mixture.read(records, ground=ground)[0]
        sources = [PORTABLE] * len(records)
        if self.served is not None and z is not None:
            with_states = served_values(self.served.mixture, z, records, ground)
            sources = [self.signal if known else PORTABLE for known in np.isfinite(with_states)]
            values = np.where(np.isfinite(with_states), with_states, values)
        found = zip(values.tolist(), sources, records, strict=True)
        return [(value, source) if value == value else free_confidence_of(record) for value, source, record in found]

    def save(self, folder: Path) -> None:
        """Write it into ``folder``."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        about = {"schema": 1, "signal": self.signal, "weights": self.weights, "served": None}
        if self.served is not None:
            about["served"], arrays = self.served.to_arrays()
            save_file(arrays, folder / ARRAYS)
        write_text(folder / PORTABLE_FILE, self.portable.text())
        write_text(folder / FILE, json.dumps(about) + "\n")

    def to_json(self) -> dict[str, Any]:
        """What whoever asks an engine needs that has its `directions`."""
        assert self.served is not None
        served = self.served.to_arrays()[0] | {"layers": []}
        return {"signal": self.signal, "portable": self.portable.to_json(), "served": served}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` came from, without directions."""
        portable, about = PortableFile.from_json(data["portable"]), data["served"]
        count = len(about["positions"])
        nowhere = {"weight": np.zeros((0, 0, count), np.float32), "offset": np.zeros(count, np.float32)}
        return cls(str(data["signal"]), portable, ServedStack.from_arrays(about, nowhere, portable.mixture.signals))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raises `ConfideError` for a broken folder."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        portable = PortableFile.load(folder)
        try:
            about = json.loads(read_text(folder / FILE))
            if about["schema"] != 1:
                raise ValueError(f"schema {about['schema']!r}; this version reads schema 1")
            served = None
            if about["served"] is not None:
                arrays = load_file(folder / ARRAYS)
                served = ServedStack.from_arrays(about["served"], arrays, portable.mixture.signals)
            return cls(str(about["signal"]), portable, served, str(about["weights"]))
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            raise ConfideError(f"{folder} holds no readable confidence of parts: {error}") from None


def free_confidence_of(record: Record) -> tuple[float | None, str]:
    """The probability of a part's own tokens, where these are told."""
    if not record.logprobs:
        return None, "logprob_sum"
    return float(np.exp(answer_log_probability(record.logprobs))), "logprob_sum"


def part_rows(record: Record) -> tuple[int, int]:
    """Of what was read along an answer: the row before a part, and that of its last token."""
    before = len(record.reasoning_ids)
    return before, before + len(record.answer_ids)


def part_logits(served: ServedStack, records: Sequence[Record], shares: Shares | None) -> Floats:
    """What the states say of records of parts of one answer, [n]; NaN where they were not read to the part's end.

    Args:
        shares: what the reading's directions read along the answer, reasoning included, [rows, position].
    """
    found = np.full(len(records), np.nan)
    for number, record in enumerate(records):
        first, last = part_rows(record)
        if shares is None or last >= len(shares) or not record.answer_ids:
            continue
        taken = {"prompt_end": shares[first], "answer_mean": shares[first + 1 : last + 1].mean(0)}
        taken["answer_last"] = shares[last]
        found[number] = sum(float(taken[name][at]) for at, name in enumerate(served.reading.positions))
    return found


def load_part_readings(checkpoint: Path, base_sha256: str | None) -> dict[str, PartReading]:
    """The part readings that a checkpoint carries, by the name of their signal.

    Raises:
        ConfideError: one is broken, of another signal than its folder, or reads states of other weights than the
            checkpoint's.
    """
    folders = [checkpoint / FOLDER / name for name in PART_SIGNALS]
    found = {folder.name: PartReading.load(folder) for folder in folders if (folder / FILE).exists()}
    for name, reading in found.items():
        if reading.signal != name:
            raise ConfideError(
                f"{checkpoint / FOLDER / name} holds the signal {reading.signal}: put it where it belongs"
            )
        if reading.weights and base_sha256 is not None and reading.weights != base_sha256:
            raise ConfideError(f"{checkpoint / FOLDER / name} was fitted on other weights: train it again")
    return found
