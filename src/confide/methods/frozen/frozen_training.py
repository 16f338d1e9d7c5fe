"""``confide train stack`` and ``reader``: from annotated records to a checkpoint with stack and probes, and a reader.

Every choice is made on validation rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.engines.closed_records import measure_records
from confide.hashing import sha256_of_rows
from confide.methods import processes
from confide.methods.checkpoint import CheckpointInfo, common_chat_template_kwargs, leading_messages
from confide.methods.finetuning.verdict_loss import finite_losses
from confide.methods.frozen.frozen_model import FrozenParts, save_frozen
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.method import check_answered_by, check_labels, labels, shuffle_labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PortableFile
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.reader.reader_training import train_reader
from confide.methods.stack.probe import Probe, best_probe, candidate_views, fit_position_probes, fit_probe
from confide.methods.stack.served_stack import fit_served
from confide.methods.stack.stack import Stack, question_layer
from confide.methods.stack.states import States, collect_states
from confide.progress import Progress
from confide.records import Record

CHECKPOINTS = "checkpoints"
"""Where a reader's run keeps what it goes on from."""

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


def train_confidence(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    options: FrozenOptions,
    out: Path,
    *,
    reader: ReaderConfig | None = None,
    progress: Progress | None = None,
) -> str:
    """Train a stack on graded records, and a reader where one is asked for, and write the checkpoint.

    Args:
        out: the checkpoint's folder.
        reader: how a reader is trained, by the seed of ``options``; None: without one.

    Returns:
        What was chosen, in words.

    Raises:
        ConfideError: labels are all right or all wrong, another model answered, rows do not fit the context, or ``out``
            is in use.
    """
    for rows in (train, validation):
        check_labels(rows)
    sha256 = engine.sha256
    if not options.other_model:
        check_answered_by([*train, *validation], [engine.name], [engine.identity])
    asked = {"prompts": leading_messages(train), "chat_template_kwargs": common_chat_template_kwargs(train)}
    if options.shuffle_labels:
        train, validation = (shuffle_labels(rows, options.seed) for rows in (train, validation))
    with processes.locked_by_main(out):
        if options.other_model:
            train, validation = (measure_records(engine, rows) for rows in (train, validation))
        states = collect_states(engine, [*train, *validation], layers_read(engine), progress=progress)
        fitted: list[FrozenParts] = []  # in the main process alone

        fit = partial(fit_stack, engine, states, train, validation, options, progress=progress)
        processes.on_main(lambda: fitted.append(fit()))
        trained = None
        if reader is not None:
            config = replace(reader, seed=options.seed)
            trained = train_reader(engine, train, validation, config, out / CHECKPOINTS, progress=progress)

        info = CheckpointInfo(
            base_model=engine.name,
            base_sha256=sha256,
            training_data_sha256=sha256_of_rows([r.id, r.answer, r.correct] for r in train),
            training_rows=len(train),
            **(asked | _trained_how(options, trained)),
        )
        words = processes.on_main(lambda: _save(out, engine, info, replace(fitted[0], reader=trained)))
    return f"{out}: {words}" + ("; trained on shuffled labels: a control" if options.shuffle_labels else "")


def _save(out: Path, engine: TransformersEngine, info: CheckpointInfo, parts: FrozenParts) -> str:
    """Write the checkpoint; what was chosen, in words."""
    save_frozen(out, engine, info, parts)
    if parts.reader is not None:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return _in_words(parts)


def layers_read(engine: TransformersEngine) -> list[int]:
    """The layers whose states a fit may choose."""
    views = candidate_views(engine.depth)
    return sorted({question_layer(engine.depth), *(layer for view in views for layer in view.layers)})


def fit_stack(
    engine: TransformersEngine,
    states: States,
    train: Sequence[Record],
    validation: Sequence[Record],
    options: FrozenOptions,
    *,
    progress: Progress | None = None,
) -> FrozenParts:
    """Fit stacks and probes on graded ``train`` records; views and penalties are chosen on ``validation``.

    Args:
        states: of the train records and then of the validation records.
    """
    depth, n = engine.depth, len(train)
    views, whole = candidate_views(depth), n + len(validation)
    if progress is not None:
        progress(whole, whole, "fitting")
    fitting, held = states.take(range(n)), states.take(range(n, whole))
    linear = [Probe.fit(view, fitting, labels(train)) for view in views]
    view = best_probe(linear, held, validation).view
    probes = {"probe": fit_probe(linear, fitting, train, held, validation, options.seed)}
    if options.positions:
        probes |= fit_position_probes(depth, fitting, train, held, validation)
    signals = fit_signals(train, options.seed)
    stack = Stack.fit(view, question_layer(depth), fitting, train, signals, options.seed)
    served = fit_served(view.layers, fitting, train, held, validation, signals)
    control = options.seed if options.shuffle_labels else None
    measured_by = engine.name if options.other_model else ""
    portable = PortableFile.of(Mixture.fit(signals, train), train, control, measured_by)
    return FrozenParts(stack, probes, served=served, portable=portable)


def _trained_how(options: FrozenOptions, reader: Reader | None) -> dict[str, Any]:
    """What ``confide.json`` says of the training besides its rows."""
    more: dict[str, Any] = {} if not options.shuffle_labels else {"shuffled_labels": options.seed}
    if reader is not None:
        more["reader"] = {"adapter": "lora", "validation_losses": finite_losses(reader.losses)}
    return more


def _in_words(parts: FrozenParts) -> str:
    assert parts.stack is not None
    view, reader = parts.stack.probe.view, parts.reader
    words = f"stack on layers {', '.join(map(str, view.layers))}, C {view.C:g}; "
    words += f"probe: {parts.probes['probe'].about()['kind']}"
    if reader is not None:
        words += f"; reader: a LoRA adapter, validation log loss {min(reader.losses):.3f}"
    return words
