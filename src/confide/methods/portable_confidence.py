"""What a model needs of a portable confidence, whoever learned it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from confide.records import Record


class PortableConfidence(Protocol):
    """What tells a confidence of answers from text and log-probabilities alone; `PortableFile` does."""

    @property
    def model(self) -> str:
        """Whose answers it learned from."""

    @property
    def identity(self) -> str:
        """Which weights answered them ("": not known)."""

    @property
    def scored_by(self) -> str:
        """A hash of everything that gives the confidence."""

    def confidences(self, records: Sequence[Record], among: Sequence[Record] | None = None) -> list[float | None]:
        """The confidence of each answered record, in the traffic of the rows ``among`` (None: of these records)."""
