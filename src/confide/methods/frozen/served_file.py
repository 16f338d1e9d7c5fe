"""What an exported folder says for whoever asks the engine: how to read z back, and what to make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confide.engines.openai.exported_reader import FOLDER
from confide.engines.openai.learned_reading import LearnedReading
from confide.errors import ConfideError
from confide.files import read_text
from confide.methods.along.along_reading import AlongRule
from confide.methods.parts.part_reading import PartReading
from confide.methods.portable.mixture import Mixture

FILE = "reading.json"


@dataclass(frozen=True)
class ServedFile:
    """A served stack without its directions, which are in the engine.

    Attributes:
        identity: which weights answer, and what gives the confidence (see `confide.policies.identities`).
        model: what records of the answers name.
        signals: what becomes of the readings of signals along the answers, in the order of their shares.
        parts: signal → what becomes of what is read of the parts of answers.
    """

    reading: LearnedReading
    mixture: Mixture
    identity: str
    model: str
    signals: tuple[AlongRule, ...] = ()
    parts: Mapping[str, PartReading] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> ServedFile:
        """Read an exported folder, or its ``reading.json`` alone; raises `ConfideError` for what is neither."""
        file = path / FOLDER / FILE if path.is_dir() else path
        try:
            data: dict[str, Any] = json.loads(read_text(file))
            if data["schema"] != 1:
                raise ConfideError(f"{file} has schema {data['schema']!r}; this version reads schema 1")
            if "signals" not in data["mixture"]:
                raise ConfideError(f"{file} comes from an earlier version of confide: train again, and export that")
            reading = LearnedReading.from_json(data["reading"])
            signals = tuple(AlongRule.from_json(rule) for rule in data["reading"].get("signals", ()))
            mixture = Mixture.from_json(data["mixture"], states=True)
            parts = {name: PartReading.from_json(about) for name, about in data.get("parts", {}).items()}
            return cls(reading, mixture, data["identity"], data["model"], signals, parts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfideError(f"{file} is not what `confide export --for vllm` writes: {error!r}") from None
