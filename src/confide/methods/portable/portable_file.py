"""``portable.json``: a trained portable confidence, to be had wherever log-probabilities are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from confide.errors import ConfideError
from confide.files import read_text
from confide.hashing import key_of_text, sha256_of_rows
from confide.methods.method import or_none
from confide.methods.portable.mixture import Mixture
from confide.policies.identities import common_identity, identity_parts, same_model
from confide.records import Record

FILE = "portable.json"
PORTABLE = "portable"
"""The source."""

_ABOUT = ("model", "identity", "training_rows", "training_data_sha256")


@dataclass(frozen=True)
class PortableFile:
    """A mixture without states, and whose answers it learned from.

    Attributes:
        model: what the records of training name.
        identity: which weights answered them ("": not known).
        shuffled_labels: the seed by which their labels were shuffled: a control.
        measured_by: another model, whose log-probabilities of these answers it learned from ("": the answerer's own).
    """

    mixture: Mixture
    model: str = ""
    identity: str = ""
    training_rows: int = 0
    training_data_sha256: str = ""
    shuffled_labels: int | None = None
    measured_by: str = ""

    @classmethod
    def of(
        cls, mixture: Mixture, train: Sequence[Record], shuffled_labels: int | None = None, measured_by: str = ""
    ) -> PortableFile:
        """The file of a mixture that was fitted on ``train``."""
        data = sha256_of_rows([r.id, r.answer, r.correct] for r in train)
        return cls(mixture, train[0].model, common_identity(train, ""), len(train), data, shuffled_labels, measured_by)

    @cached_property
    def scored_by(self) -> str:
        """A hash of everything that gives the confidence."""
        return key_of_text(json.dumps(self.mixture.to_json(), sort_keys=True))

    def confidences(self, records: Sequence[Record], among: Sequence[Record] | None = None) -> list[float | None]:
        """The confidence of each answered record; None where its tokens' log-probabilities are missing.

        Args:
            among: the rows of the file whose traffic theirs is, split by split; None: these records alone.
        """
        signals = self.mixture.signals
        ground = signals.read(records, None if among is None else signals.traffic(among))
        return or_none(self.mixture.read(records, ground=ground)[0])

    def check_server(self, identity: str) -> None:
        """Raise `ConfideError` where it knows nothing of what the server of the model with ``identity`` answers.

        Another model answers there, or it learned only from answers that were chosen among options.
        """
        if not self.mixture.written:
            raise ConfideError(
                f"the portable confidence of {self.model} learned from answers that were chosen among options alone, "
                "and the server writes its answers"
            )
        if same_model(self.identity, identity) is False:
            raise ConfideError(
                f"a portable confidence knows one model's answers: this one learned from {self.model} "
                f"({self.identity}), and the server has another model ({identity})"
            )

    def text(self) -> str:
        """What the file holds."""
        return json.dumps(self.to_json()) + "\n"

    def to_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        about = {name: getattr(self, name) for name in _ABOUT}
        if self.shuffled_labels is not None:
            about["shuffled_labels"] = self.shuffled_labels
        if self.measured_by:
            about["measured_by"] = self.measured_by
        head = {"schema": 1, "version": version("confide"), "source": PORTABLE}
        return head | about | {"mixture": self.mixture.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The file that `to_json` came from; raises ValueError or KeyError for what is none."""
        about = {name: data[name] for name in _ABOUT} | {"shuffled_labels": data.get("shuffled_labels")}
        return cls(Mixture.from_json(data["mixture"]), **about, measured_by=data.get("measured_by", ""))

    @classmethod
    def load(cls, path: Path, *, control: bool = False) -> PortableFile:
        """Read a folder, or its ``portable.json``; raises `ConfideError` for what is neither.

        Args:
            control: also one that was trained on shuffled labels or of another model's log-probabilities; else these
                are refused, since they say nothing of answers.
        """
        file = path / FILE if path.is_dir() else path
        try:
            data: dict[str, Any] = json.loads(read_text(file))
            if data["schema"] != 1:
                raise ConfideError(f"{file} has schema {data['schema']!r}; this version reads schema 1")
            identity_parts(data["identity"])
            if data.get("shuffled_labels") is not None and not control:
                raise ConfideError(f"{file} was trained on shuffled labels: a control, which says nothing of answers")
            if data.get("measured_by") and not control:
                raise ConfideError(
                    f"{file} learned from answers of {data['model']} with the log-probabilities of "
                    f"{data['measured_by']}: it says nothing of answers of either one"
                )
            return cls.from_json(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfideError(f"{file} is not what `confide train portable` writes: {error!r}") from None
