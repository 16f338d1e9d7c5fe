"""The catalogue: every method, one line each, and which sources can be had from records and a model."""

from __future__ import annotations

from collections.abc import Sequence

from confide.engines.engine import CAPABILITIES
from confide.errors import ConfideError
from confide.methods.along.along_method import AlongMethod
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.confidence_model import ConfidenceModel
from confide.methods.endpoint_model import ServedMethod, ServedSignal
from confide.methods.endpoint_reader import EndpointReader
from confide.methods.floors import Floors
from confide.methods.free import Free
from confide.methods.frozen.frozen_model import FrozenModel, ReaderMethod, StackMethod
from confide.methods.method import Method, Scope
from confide.methods.p_true import PTrue
from confide.methods.parts.part_method import PartMethod
from confide.methods.portable.portable_method import Portable
from confide.methods.red_flag.flag_reading import FlagTokenMethod
from confide.methods.rlmf.stated_model import StatedMethod, StatedModel
from confide.methods.sampled import Sampled
from confide.methods.self_ref.self_ref_model import SelfRefMethod, SelfRefModel
from confide.methods.text_prior import TextPriors
from confide.methods.verbalized import Verbalized
from confide.signals import PART_SIGNALS, along_signals
from confide.tasks import Task

METHODS: tuple[Method, ...] = (
    StackMethod(),
    ServedMethod(),
    Portable(),
    EndpointReader(),
    ReaderMethod(),
    SelfRefMethod(),
    StatedMethod(),
    *map(AlongMethod, along_signals()),
    *map(ServedSignal, along_signals()),
    *map(PartMethod, PART_SIGNALS),
    FlagTokenMethod(),
    PTrue("p_true", by_model=True),
    Verbalized(),
    PTrue("verifier", by_model=False),
    Sampled(),
    Free(),
    TextPriors(),
    Floors(),
)
"""Every way to get a confidence, in the order in which sources are listed."""

MODELS: dict[str, type[ConfidenceModel]] = {"self_ref": SelfRefModel, "stated": StatedModel}
"""The kind of model that a training method leaves (``confide.json``); every other one is a `FrozenModel`."""


def add_method(method: Method) -> None:
    """Offer a method of your own to `available` and `confide.methods.scoring.score`, for as long as this process runs.

    Raises:
        ConfideError: one of its sources has the name of another method's.
    """
    global METHODS
    if taken := [source for source in method.sources if source in all_sources()]:
        raise ConfideError(f"there is a source {taken[0]!r} already: give the one of {method.name} another name")
    METHODS = (*METHODS, method)


def all_sources() -> list[str]:
    """The name of every source, in the order of tables."""
    return list(dict.fromkeys(source for method in METHODS for source in method.sources))


def model_kind(method: str) -> type[ConfidenceModel]:
    """The class of models that were trained by ``method`` ("" for none)."""
    return MODELS.get(method, FrozenModel)


def ask_as(info: CheckpointInfo, task: Task) -> Task:
    """``task`` as a model with this ``info`` is to be asked it."""
    return model_kind(info.confidence.method).ask_as(info, task)


def available(scope: Scope, *, slow: bool = True) -> list[str]:
    """The sources that these records and this model can give, in the order of tables.

    Args:
        slow: also those that generate for every row.
    """
    given = CAPABILITIES if scope.model is None else scope.model.engine.capabilities
    return [
        source
        for method in METHODS
        if (slow or not method.slow) and not (method.by_model and set(method.needs) - set(given))
        for source in method.sources
        if source in method.available(scope)
    ]


def check_sources(sources: Sequence[str], scope: Scope) -> None:
    """Raise `ConfideError` for an unknown source, or one that the model or the records cannot give."""
    known = all_sources()
    if unknown := [source for source in sources if source not in known]:
        raise ConfideError(f"no source {unknown[0]!r}: there is {', '.join(known)}")
    there = available(scope)
    if missing := [source for source in sources if source not in there]:
        raise ConfideError(f"the source {missing[0]} cannot be had from this model and these records")
