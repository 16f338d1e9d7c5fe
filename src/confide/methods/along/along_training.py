"""Training of an along-reading: one direction for every token of an answer, taught what was said of the answer.

It is fitted on the mean of the states so far, at a few places of each answer, since one token says little and the
reading is linear: its mean over tokens is the reading of their mean. Every answer weighs the same, however many tokens
it has. Layers, penalty and smoothing are chosen on validation rows, by how well the answer's number, the lowest level
along it, tells fine answers from flagged ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.engines.closed_records import read_written, written_spans
from confide.engines.directions import Directions, Shares
from confide.errors import ConfideError
from confide.files import locked, written_folder
from confide.methods.along.along_reading import FILE, FOLDER, AlongReading, AlongRule
from confide.methods.along.schedule import due_of_ids
from confide.methods.along.smoothing import CHOICES, levels
from confide.methods.along.token_states import collect_token_states, spread
from confide.methods.checkpoint import (
    CheckpointInfo,
    common_chat_template_kwargs,
    leading_messages,
    read_info,
    save_checkpoint,
)
from confide.methods.method import check_answered_by, check_labels, labels
from confide.methods.portable.logistic import Logistic
from confide.metrics import auroc
from confide.numeric import Bools, Floats, Ints
from confide.progress import Progress
from confide.records import Record
from confide.signals import Signal

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2)
"""What the direction's C is chosen from, the inverse strength of its penalty as scikit-learn's."""

DEPTHS = ((0.6,), (0.4, 0.6), (0.4, 0.8), (0.4, 0.6, 0.8, 1.0))
"""Which layers are read together, as shares of the model's depth."""

PLACES = 4
"""Places of an answer that training sees at most."""


@dataclass(frozen=True)
class Candidate:
    """One setting: the layers that are read, and C, the inverse strength of the penalty, as scikit-learn's."""

    layers: tuple[int, ...]
    C: float


def train_along(
    engine: TransformersEngine,
    signal: Signal,
    train: Sequence[Record],
    validation: Sequence[Record],
    *,
    progress: Progress | None = None,
) -> AlongReading:
    """Fit the reading of a signal on graded records of its own; settings are chosen on ``validation``.

    Raises:
        ConfideError: labels are all one, records are about another signal, or rows do not fit the context.
    """
    for rows in (train, validation):
        check_labels(rows)
        check_signal(rows, signal)
    due = due_of(engine, train, signal.schedule)
    kept = [spread(rows, PLACES) for rows in due]
    candidates = _candidates(engine.depth)
    layers = sorted({layer for candidate in candidates for layer in candidate.layers})
    states = collect_token_states(engine, train, due, kept, layers, means=True, progress=progress)
    fine = np.repeat(labels(train), [len(rows) for rows in kept])
    counts = np.bincount(states.answer, minlength=len(train))[states.answer]
    directions = [fit_direction(c, states.select(c.layers), fine, 1 / counts, engine.width) for c in candidates]
    read = read_shares(engine, validation, Directions.joined(directions), progress=progress)
    right = labels(validation)
    best, smoothing, lowest = _choose(read, due_of(engine, validation, signal.schedule), right)
    fitted = Logistic.rising(lowest[:, None], right)
    scale = float(fitted.weight[0] / fitted.scale[0])
    shift = float(fitted.bias[0] - fitted.mean[0] * scale)
    about = {
        "training_rows": len(train),
        "validation_rows": len(validation),
        "validation_auroc": round(float(auroc(lowest, right)), 4),
        "C": candidates[best].C,
        "weights": engine.sha256,
    }
    return AlongReading.of(
        AlongRule(signal.name, signal.schedule, smoothing, scale or 1.0, shift), directions[best], about
    )


def check_signal(records: Sequence[Record], signal: Signal) -> None:
    """Raise `ConfideError` for a record whose label is about another signal."""
    if other := next((record for record in records if (record.signal or signal.name) != signal.name), None):
        raise ConfideError(f"row {other.id} is labelled for the signal {other.signal}, not for {signal.name}")


def due_of(engine: TransformersEngine, records: Sequence[Record], schedule: str) -> list[Ints]:
    """The rows of each record's shares at which a signal is read."""
    spans = written_spans(engine, records)
    return [due_of_ids(schedule, ids, len(ids) + 1, engine.decode) for _, ids in spans]


def read_shares(
    engine: TransformersEngine,
    records: Sequence[Record],
    directions: Directions,
    *,
    progress: Progress | None = None,
) -> list[Shares]:
    """What directions read along each record's answer, [rows, k]."""
    found: list[Shares] = [np.empty((0, directions.count), np.float32)] * len(records)
    for rows, completions in read_written(engine, records, directions, progress=progress):
        for i, completion in zip(rows, completions, strict=True):
            assert completion.shares is not None
            found[i] = completion.shares
    return found


def fit_direction(
    candidate: Candidate, features: NDArray[np.float32], fine: Bools, weight: Floats, width: int
) -> Directions:
    """Logistic regression of labels on tokens' states, as a direction.

    Args:
        features: states of the candidate's layers side by side, [tokens, layers · width].
        fine: the label of each token's answer, [tokens].
        weight: of each token, [tokens].
    """
    model = Logistic.fit(features, fine, weights=weight, C=candidate.C, max_iter=100, tol=1e-3)
    direction = (model.weight / model.scale).astype(np.float32)
    offset = float(model.bias[0] - (model.mean * model.weight / model.scale).sum())
    shaped = direction.reshape(len(candidate.layers), width, 1)
    return Directions(candidate.layers, shaped, np.array([offset], np.float32))


def _choose(read: Sequence[Shares], due: Sequence[Ints], right: NDArray[np.bool_]) -> tuple[int, str, Floats]:
    """The candidate and the smoothing that tell validation answers apart best, and these answers' numbers [n]."""
    best: tuple[float, int, str, Floats] | None = None
    for candidate in range(read[0].shape[1]):
        for smoothing in CHOICES:
            lowest = np.array(
                [
                    levels(shares[rows, candidate].astype(np.float64), smoothing).min() if len(rows) else 0.0
                    for shares, rows in zip(read, due, strict=True)
                ]
            )
            found = float(auroc(lowest, right))
            if best is None or found > best[0]:
                best = (found, candidate, smoothing, lowest)
    assert best is not None
    return best[1:]


def _candidates(depth: int) -> list[Candidate]:
    views = dict.fromkeys(tuple(sorted({max(1, round(share * depth)) for share in shares})) for shares in DEPTHS)
    return [Candidate(layers, C) for layers in views for C in PENALTIES]


def train_signal(
    engine: TransformersEngine,
    signal: Signal,
    train: Sequence[Record],
    validation: Sequence[Record],
    out: Path,
    *,
    progress: Progress | None = None,
) -> str:
    """Train the reading of a signal and put it into a checkpoint, a new one or one of the same base model.

    Returns:
        What was chosen, in words.

    Raises:
        ConfideError: as `train_along` does; another model answered; ``out`` is of another base model, or of a kind
            whose weights were trained.
    """
    check_answered_by([*train, *validation], [engine.name], [engine.identity])
    with locked(out):
        info = read_info(out)
        if info.trained and info.base_sha256 != engine.sha256:
            raise ConfideError(f"{out} was trained on another model than {engine.name}")
        if info.confidence.method not in ("", "reader"):
            raise ConfideError(f"{out} has weights of its own ({info.confidence.method}): signals go beside a stack")
        reading = train_along(engine, signal, train, validation, progress=progress)
        if not info.trained:
            made = CheckpointInfo(
                base_model=engine.name,
                base_sha256=engine.sha256,
                prompts=leading_messages(train),
                chat_template_kwargs=common_chat_template_kwargs(train),
            )
            save_checkpoint(out, engine.save, made)
        with written_folder(out / FOLDER / signal.name, FILE) as part:
            reading.save(part)
    told = f"layers {', '.join(map(str, reading.directions.layers))}, smoothed by {reading.rule.smoothing}"
    return f"{out}: {signal.name} on {told}; AUROC {reading.about['validation_auroc']:.3f} on the validation rows"
