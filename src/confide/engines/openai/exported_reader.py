"""What an exported reader says for whoever asks the server that runs it: which tokens to send, which two to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import read_text
from confide.policies.identities import identity_parts

READER = "reader"
"""The source that an exported reader gives."""

FOLDER = "confide"
"""Where an exported folder keeps what is confide's: vLLM takes every weights file beside its configuration."""

FILE = "reader.json"

MOST_OFF = 0.5
"""How far a server's z may be from the exported one: bfloat16 moves it by up to 0.1, other weights by several units."""


@dataclass(frozen=True)
class Example:
    """A conversation with its answer, and the logit that was read after it when the reader was exported."""

    ids: tuple[int, ...]
    z: float


@dataclass(frozen=True)
class ExportedReader:
    """What a client must know of a reader whose adapter a server has loaded.

    z = log p(Yes) − log p(No) for the token after an answer and its closing token; ``confident_id`` and
    ``unconfident_id`` are these two words.

    Attributes:
        closing_id: the token that closes an answer.
        end_ids: the tokens at which a model stops.
        identity: which weights it was trained on, and a hash of the reader (see `confide.policies.identities`).
        model: what the model was called.
        examples: by which a server is known to run these weights.
    """

    confident_id: int
    unconfident_id: int
    closing_id: int
    end_ids: frozenset[int]
    identity: str
    model: str
    examples: tuple[Example, ...] = ()

    @property
    def verdict_ids(self) -> tuple[int, int]:
        """The two tokens that are compared."""
        return self.confident_id, self.unconfident_id

    @property
    def scored_by(self) -> str:
        """What gives the confidence: the reader, by a second request.

        A server computes in a precision of its own, so that a threshold for what is read in process is none for this.
        """
        return f"{identity_parts(self.identity).get('confidence', '')}-second"

    def asked(self, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
        """The tokens of the second request, for an answer without the token that closed it."""
        return [*prompt, *answer, self.closing_id]

    def closed(self, written: Sequence[int]) -> list[int] | None:
        """An answer's tokens from all that were written, the closing one included; None where none closed it."""
        if not written or written[-1] not in self.end_ids:
            return None
        return list(written[:-1])

    def to_json(self) -> dict[str, Any]:
        """What `load` reads."""
        fields = {name: value for name, value in vars(self).items() if name != "examples"}
        examples = [{"ids": list(one.ids), "z": one.z} for one in self.examples]
        return {"schema": 1, **fields, "end_ids": sorted(self.end_ids), "examples": examples}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExportedReader:
        """The reader that `to_json` wrote; raises what a mapping of another shape raises."""
        confident, unconfident, closing = (int(data[f"{name}_id"]) for name in ("confident", "unconfident", "closing"))
        return cls(
            confident,
            unconfident,
            closing,
            frozenset(_ids(data["end_ids"])),
            str(data["identity"]),
            str(data["model"]),
            tuple(Example(_ids(one["ids"]), float(one["z"])) for one in data["examples"]),
        )

    @classmethod
    def load(cls, path: Path) -> ExportedReader:
        """Read an exported folder, or its ``reader.json`` alone; raises `ConfideError` for what is neither."""
        path = path.expanduser()
        file = path / FOLDER / FILE if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise ConfideError(
                f"{path} has no {FOLDER}/{FILE}: export a model that `confide train reader` trained, with "
                "`confide export`"
            )
        try:
            data: dict[str, Any] = json.loads(read_text(file))
            if data["schema"] != 1:
                raise ConfideError(f"{file} has schema {data['schema']!r}; this version reads schema 1")
            if data.get("ask_ids"):
                raise ConfideError(
                    f"{file} describes a reader of ask tokens, which an earlier version of confide trained: train and "
                    "export it again"
                )
            reader = cls.from_json(data)
            identity_parts(reader.identity)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfideError(f"{file} is not what `confide export` writes: {error!r}") from None
        return reader


def _ids(told: Any) -> tuple[int, ...]:
    """Token ids; raises TypeError for what are none."""
    if not isinstance(told, list) or not all(type(id) is int and id >= 0 for id in told):
        raise TypeError("token ids are whole numbers in a list")
    return tuple(told)


def difference(reader: ExportedReader, found: Sequence[float | None]) -> str | None:
    """Why a server is not one that runs the exported weights (None: it is), from the z of the examples there."""
    if None in found:
        return "it does not tell the probabilities of the two verdict tokens"
    off = max((abs(z - one.z) for z, one in zip(found, reader.examples, strict=True) if z is not None), default=0.0)
    if off > MOST_OFF:
        return f"it runs other weights than the exported ones: z is off by up to {off:.1f}"
    return None
