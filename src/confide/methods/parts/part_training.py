"""Training of a part reading, from graded records of parts; choices are made on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.errors import ConfideError
from confide.files import locked, written_folder
from confide.methods.along.along_reading import FOLDER
from confide.methods.checkpoint import read_info
from confide.methods.method import check_answered_by, check_labels
from confide.methods.parts.part_reading import FILE, PartReading
from confide.methods.parts.part_states import collect_part_states
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PortableFile
from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING
from confide.methods.stack.probe import best_fitted, candidate_views
from confide.methods.stack.served_stack import ServedStack, fit_served
from confide.methods.stack.states import States
from confide.policies.identities import check_one_model
from confide.progress import Progress
from confide.records import Record
from confide.signals import PART_SIGNALS

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


def train_parts(
    signal: str,
    train: Sequence[Record],
    validation: Sequence[Record],
    out: Path,
    *,
    engine: TransformersEngine | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> str:
    """Train the confidence of parts and put it into a folder, where it stands beside what is there.

    Args:
        signal: ``field`` or ``claim``.
        validation: rows to choose by; those of states alone are chosen.
        out: a checkpoint of the same model; without ``engine`` any folder.
        engine: the model that answered, whose states are read; None: text and log-probabilities alone.

    Returns:
        What was learned, in words.

    Raises:
        ConfideError: no such signal; records of whole answers, or without tokens; labels all right or all wrong;
            another model answered, or ``out`` is of another one.
    """
    if signal not in PART_SIGNALS:
        raise ConfideError(f"no signal {signal!r} is about parts of answers: there is {', '.join(PART_SIGNALS)}")
    told = [[row for row in rows if row.logprobs] for rows in (train, validation)]
    if whole := next((row for row in [*train, *validation] if not row.part), None):
        raise ConfideError(f"row {whole.id} is a whole answer: `confide parts` makes records of its parts")
    if not told[0]:
        raise ConfideError(f"none of the {len(train)} graded train rows has log-probabilities")
    check_labels(told[0])
    check_one_model(told[0])
    with locked(out):
        served: ServedStack | None = None
        if engine is not None:
            check_labels(told[1])
            check_answered_by([*told[0], *told[1]], [engine.name], [engine.identity])
            _check_checkpoint(out, engine)
            served, portable = fit_parts(engine, told[0], told[1], seed, progress=progress)
        else:
            portable = PortableFile.of(Mixture.fit(fit_signals(told[0], seed), told[0]), told[0])
        reading = PartReading(signal, portable, served, engine.sha256 if engine else "")
        with written_folder(out / FOLDER / signal, FILE) as part:
            reading.save(part)
    right = sum(bool(row.correct) for row in told[0])
    where = f" and states of layers {', '.join(map(str, served.reading.layers))}" if served else ""
    words = f"{out}: {signal} learned from {len(told[0])} parts ({right} right, {len(told[0]) - right} wrong)"
    return f"{words}, by text, log-probabilities{where}"


def fit_parts(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    seed: int = 0,
    *,
    progress: Progress | None = None,
) -> tuple[ServedStack, PortableFile]:
    """Fit on graded records of parts; layers and penalty are chosen on validation rows."""
    layers = part_layers(engine.depth)
    states = collect_part_states(engine, [*train, *validation], layers, progress=progress)
    n = len(train)
    return fit_on_states(
        engine.depth, states.take(range(n)), train, states.take(range(n, n + len(validation))), validation, seed
    )


def part_layers(depth: int) -> list[int]:
    """The layers of which `fit_on_states` chooses, for a model of ``depth`` layers."""
    return sorted({layer for view in candidate_views(depth) for layer in view.layers})


def fit_on_states(
    depth: int,
    fitting: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    seed: int = 0,
) -> tuple[ServedStack, PortableFile]:
    """`fit_parts` where the states are known."""
    views = candidate_views(depth, POSITIONS_BEFORE_CLOSING)
    view = best_fitted(views, fitting, train, held, validation).view
    signals = fit_signals(train, seed)
    served = fit_served(view.layers, fitting, train, held, validation, signals)
    return served, PortableFile.of(Mixture.fit(signals, train), train)


def _check_checkpoint(out: Path, engine: TransformersEngine) -> None:
    """Raise `ConfideError` unless ``out`` is a checkpoint of this model."""
    info = read_info(out)
    if not info.trained:
        raise ConfideError(f"{out} is no checkpoint that could carry it: train a stack of {engine.name} there first")
    if info.base_sha256 != engine.sha256:
        raise ConfideError(f"{out} was trained on another model than {engine.name}")
