"""The method: a way to get a confidence, with its sources, what it needs of an engine, how it is fitted and read.

To add one, write a module with a class that has what `Method` asks for, and name it in `confide.methods.catalogue`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.numeric import Floats
from confide.policies.identities import identity_of, same_model, same_name
from confide.progress import Progress
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.engines.engine import ClosedAnswers, Engine
    from confide.methods.confidence_model import ConfidenceModel
    from confide.methods.portable_confidence import PortableConfidence


@dataclass(frozen=True)
class Column:
    """What one source says of n answers.

    Attributes:
        values: confidences in [0, 1], shape [n]; NaN where the source has none.
        cost: what a reading cost beyond the answer, one for all or one per answer.
    """

    values: Floats
    cost: Cost | Sequence[Cost] = field(default_factory=Cost)


Judge = Callable[[Sequence[tuple[str, str, str]]], list[bool]]
"""Says of each (question, one answer, the other) whether both answers mean the same: an entailment model, a language
model, a person."""


@dataclass(frozen=True)
class Scope:
    """What there is to score with.

    Attributes:
        records: all records of a file; methods that learn do so from its train and validation rows.
        model: a trained model, or a plain one that answered; None for what needs no model.
        verifier: another model that judges the answers.
        judge: decides whether two sampled answers mean the same; None: the task's grader.
        other_model: the records are another model's than ``model``.
        portable: what tells a confidence from text and log-probabilities alone; None: what ``model`` has.
        seed: of what is drawn.
        progress: called with (done, total, note) while long work runs.
    """

    records: Sequence[Record]
    model: ConfidenceModel | None = None
    verifier: Engine | None = None
    judge: Judge | None = None
    other_model: bool = False
    seed: int = 0
    progress: Progress | None = None
    portable: PortableConfidence | None = None

    @property
    def new(self) -> list[Record]:
        """The rows that nothing was trained on."""
        return [record for record in self.records if record.split != "train"]

    def graded(self, split: str) -> list[Record]:
        """The graded rows of a split."""
        return [record for record in self.records if record.split == split and record.correct is not None]

    def has(self, *splits: str) -> bool:
        """Whether every one of ``splits`` has graded rows."""
        return set(splits) <= {record.split for record in self.records if record.correct is not None}


class Method(ABC):
    """A way to get a confidence. `fit` learns what is learned while scoring, `read` gives the columns.

    Attributes:
        name: what it is called.
        sources: the columns that it can write, in the order of tables.
        needs: what it needs of an engine, in the words of `CAPABILITIES`; () for a method that needs none.
        by_model: whether a source says what the model at hand thinks, so that of another's answers it is
            ``other_<source>``.
        slow: whether it generates for every row; such sources are in ``all`` but not in ``standard``.
        scored_by: a hash of what gives its confidences, where that is not the model at hand.
        scope_: what it was fitted in.
        wanted_: the sources that are asked for.
    """

    name: str
    sources: tuple[str, ...]
    needs: tuple[str, ...] = ()
    by_model: bool = False
    slow: bool = False
    scored_by: str = ""
    scope_: Scope
    wanted_: tuple[str, ...]

    @abstractmethod
    def available(self, scope: Scope) -> Sequence[str]:
        """The sources that these records and this model can give."""

    def fitted(self, scope: Scope, wanted: Sequence[str]) -> Self:
        """A fitted copy that reads the sources ``wanted``."""
        method = copy(self)
        method.scope_, method.wanted_ = scope, tuple(wanted)
        method.fit(scope)
        return method

    def fit(self, scope: Scope) -> None:  # noqa: B027 (many methods learn nothing here)
        """Learn from the train rows, choose on the validation rows; what training has learned comes with the model."""

    def moved(self, scope: Scope) -> Self:
        """A copy as it is fitted, for another copy of the model: that of ``scope``, or none while it travels."""
        method = copy(self)
        method.scope_ = scope
        return method

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n] per source wanted."""
        raise NotImplementedError


class SignalMethod(Method):
    """A method whose one source has the name of a signal that the model at hand carries.

    Args:
        signal: its name.
    """

    by_model = True

    def __init__(self, signal: str):
        self.name = signal
        self.sources = (signal,)


class ClosedMethod(Method):
    """A method that reads closed answers on the engine, in one pass with all others that do.

    Attributes:
        layers_: the layers whose states it reads.
    """

    needs = ("states",)
    by_model = True
    layers_: tuple[int, ...] = ()

    @abstractmethod
    def read_batch(self, closed: ClosedAnswers, records: Sequence[Record]) -> Mapping[str, Floats]:
        """Confidences [batch] by source; beside them, ``familiarity`` where the method knows it."""

    def fed(self, closed: ClosedAnswers) -> int:
        """Tokens that reading a batch of closed answers feeds: of each the closing one."""
        return len(closed.completions)


def check_labels(records: Sequence[Record]) -> None:
    """Raise `ConfideError` unless there are right and wrong answers among ``records``."""
    right = sum(r.correct is True for r in records)
    wrong = sum(r.correct is False for r in records)
    if not right or not wrong:
        raise ConfideError(
            f"training needs right and wrong answers; there are {right} right and {wrong} wrong "
            f"({len(records) - right - wrong} ungraded)"
        )


NAME_IT = "name the model that answered with --model"
"""What to do about answers of another model, where a method trains on the model's own."""


def check_answered_by(
    records: Sequence[Record], names: Sequence[str], identities: Sequence[str], instead: str | None = None
) -> None:
    """Raise `ConfideError` when records say that another model answered them.

    Args:
        names: what the model is called; names decide only where weights are not known.
        identities: which weights may have answered ("": they are not known).
        instead: what can be done about it where there is no ``--other-model``; names then decide nothing.
    """
    named = names if instead is None else ()
    others = [record for record in records if not _may_be_of(record, named, identities)]
    if others:
        who = sorted({_who(record.model, record.identity) for record in others})
        raise ConfideError(
            f"{len(others)} of {len(records)} records were answered by {', '.join(who[:3])}, not by "
            f"{_who(names[0], identities[0])}; "
            + (instead or "--other-model reads them all the same and names the sources so")
        )


def _may_be_of(record: Record, names: Sequence[str], identities: Sequence[str]) -> bool:
    same = [same_model(identity_of(record, ""), identity) for identity in identities]
    if None not in same or True in same:
        return True in same
    return not record.model or not names or any(same_name(record.model, name) for name in names)


def _who(name: str, identity: str) -> str:
    return f"{name} ({identity})" if identity else name


def labels(records: Sequence[Record]) -> NDArray[np.bool_]:
    """Which answers are right, shape [n]."""
    return np.array([bool(record.correct) for record in records], dtype=np.bool_)


def shuffle_labels(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """Copies whose labels belong to other records; what learns from them must not rank."""
    order = np.random.default_rng(seed).permutation(len(records))
    return [record.model_copy(update={"correct": records[i].correct}) for record, i in zip(records, order, strict=True)]


def or_nan(values: Sequence[float | None]) -> Floats:
    """Values [n] with NaN where there is none."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def or_none(values: Floats) -> list[float | None]:
    """Values [n] with None for what is no number."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
