"""Soft targets for a verdict: what a stack that did not see the row says of it (probe-targeted training)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.method import labels
from confide.methods.portable.answer_signals import TrainingSignals, fit_signals
from confide.methods.portable.mixture import Mixture, told
from confide.methods.stack.probe import View, best_fitted, candidate_views
from confide.methods.stack.stack import out_of_fold
from confide.methods.stack.states import States, collect_states
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Record
from confide.settings import check_settings

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


def stack_targets(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    seed: int = 0,
    *,
    keep: Path,
    progress: Progress | None = None,
) -> dict[str, float]:
    """What a stack says of each graded training record, by its id; the layers are chosen on validation records.

    Args:
        keep: a file for what was found, so that a run that goes on is taught the same numbers.

    Raises:
        ConfideError: training records without log-probabilities, of which a stack says nothing; ``keep`` is of other
            records, another model or seed.
    """
    rows = sha256_of_rows(
        [r.id, r.entity, r.question, r.answer_ids, r.logprobs, r.correct] for r in (*train, *validation)
    )
    made_with = {"rows": rows, "weights": engine.identity, "seed": seed}
    if keep.exists():
        kept = json.loads(read_text(keep))
        check_settings(f"{keep} holds a set of targets that", kept["made_with"], made_with)
        return {str(name): float(value) for name, value in kept["targets"].items()}
    if bad := [record.id for record, known in zip(train, told(train), strict=True) if not known]:
        raise ConfideError(f"a stack's targets need log-probabilities: {len(bad)} training rows have none ({bad[0]} …)")
    views = candidate_views(engine.depth)
    layers = sorted({layer for view in views for layer in view.layers})
    states = collect_states(engine, [*train, *validation], layers, progress=progress)
    fitting, held = states.take(range(len(train))), states.take(range(len(train), len(train) + len(validation)))
    values = unseen_confidences(views, fitting, train, held, validation, fit_signals(train, seed))
    targets = dict(zip([record.id for record in train], values.tolist(), strict=True))
    write_text(keep, json.dumps({"made_with": made_with, "targets": targets}))
    return targets


def unseen_confidences(
    views: Sequence[View],
    states: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    training: TrainingSignals,
) -> Floats:
    """What a stack says of each training record [n], by signals and a probe that were fitted on the other folds.

    Only the mixture's few weights have seen the record.

    Args:
        training: what `fit_signals` found of the training records.
    """
    view = best_fitted(views, states, train, held, validation).view
    z = out_of_fold(view, view.select(states), labels(train), training)
    return Mixture.fit(training, train, z, entropies=True).of_training(training, train, z)
