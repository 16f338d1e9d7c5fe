"""From annotated records to a checkpoint: states, stack, ask tokens, every choice made on validation rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from confide.engines.transformers.loading import weights_sha256
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import locked
from confide.methods.checkpoint import save_checkpoint
from confide.methods.reader.closed_rows import check_answered_by, check_labels, make_rows, shuffle_labels
from confide.methods.reader.comparisons import fit_verdict, hidden_states, random_reader, train_p_true
from confide.methods.reader.kept_prefixes import PrefixStore, parse_size
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_training import ReaderConfig, train_reader
from confide.methods.stack.probe import (
    Probe,
    View,
    best_probe,
    candidate_views,
    fit_position_probes,
    fit_probe,
)
from confide.methods.stack.stack import Stack, question_layer
from confide.methods.stack.states import States, collect, measured_records
from confide.records import Record

Progress = Callable[[int, int, str], None]
STARTS = ("words", "random")


@dataclass(frozen=True)
class ReaderOptions:
    """What `train_confidence` may choose from, and how long it may take.

    ``comparisons`` adds ``reader_random`` and ``p_true_trained``, ``positions`` a probe at each token position;
    ``shuffle_labels`` is the control whose sources must not rank over several seeds, ``other_model`` allows answers of
    another model, whose tokens are then scored anew.
    """

    candidates: tuple[ReaderConfig, ...]
    target: str
    prefix_bytes: int
    seed: int
    comparisons: bool = False
    positions: bool = False
    shuffle_labels: bool = False
    other_model: bool = False

    @classmethod
    def parse(
        cls,
        *,
        target: str,
        ask_tokens: str,
        start: str,
        epochs: int,
        learning_rate: float,
        pairwise: float,
        prefix_cache: str,
        seed: int,
        comparisons: bool = False,
        positions: bool = False,
        shuffle_labels: bool = False,
        other_model: bool = False,
    ) -> ReaderOptions:
        """Options from the command line's words; raises `ConfideError` naming the bad one."""
        if target not in ("correctness", "consistency"):
            raise ConfideError(f"--target is correctness or consistency, not {target!r}")
        try:
            counts = [int(part) for part in ask_tokens.split(",") if part.strip()]
        except ValueError:
            raise ConfideError(f"--ask-tokens are numbers separated by commas, not {ask_tokens!r}") from None
        starts = [part.strip() for part in start.split(",") if part.strip()]
        if bad := [name for name in starts if name not in STARTS]:
            raise ConfideError(f"--start is words or random, not {bad[0]!r}")
        if any(count < 0 or count > 64 for count in counts):
            raise ConfideError("--ask-tokens lie between 0 and 64")
        base = ReaderConfig(epochs=epochs, learning_rate=learning_rate, pairwise=pairwise, seed=seed)
        candidates = tuple(
            replace(base, ask_tokens=count, start=name)  # type: ignore[arg-type]
            for count in counts
            for name in (starts if count else starts[:1])
        )
        return cls(
            candidates,
            target,
            parse_size(prefix_cache),
            seed,
            comparisons=comparisons,
            positions=positions,
            shuffle_labels=shuffle_labels,
            other_model=other_model,
        )


def train_confidence(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    options: ReaderOptions,
    out: Path,
    *,
    progress: Progress | None = None,
) -> str:
    """Train stack and reader on graded records, write the checkpoint to ``out``; returns what was chosen, in words.

    Raises:
        ConfideError: labels are all right or all wrong, another model answered, rows do not fit the context, or ``out``
            is in use.
    """
    for rows in (train, validation):
        check_labels(rows)
    if not options.other_model:
        check_answered_by([*train, *validation], [engine.name])
    prompts = leading_messages(train)
    if options.shuffle_labels:
        train, validation = (shuffle_labels(rows, options.seed) for rows in (train, validation))
    with locked(out):
        if options.other_model:
            train, validation = (measured_records(engine, rows) for rows in (train, validation))
        depth = len(engine.blocks)
        views = candidate_views(depth)
        layers = sorted({question_layer(depth), *(layer for view in views for layer in view.layers)})
        records = [*train, *validation]
        lottery = random_reader(engine, seed=options.seed) if options.comparisons else None
        states, hidden = collect(
            engine,
            records,
            layers,
            room=1 + max((config.ask_tokens for config in options.candidates), default=0),
            reader=hidden_states(engine, lottery) if lottery else None,
            progress=progress,
        )
        n = len(train)
        fitting, held = states.take(range(n)), states.take(range(n, len(records)))
        right = np.array([bool(record.correct) for record in train])
        linear = [Probe.fit(view, fitting, right) for view in views]
        view = best_probe(linear, held, validation).view
        probes = {"probe": fit_probe(linear, fitting, train, held, validation, options.seed)}
        if options.positions:
            probes |= fit_position_probes(depth, fitting, train, held, validation)
        stack = Stack.fit(view, question_layer(depth), fitting, train, options.seed)
        reader, config, p_true = train_readers(engine, train, validation, options, progress=progress)
        compared = {}
        if lottery is not None and p_true is not None and p_true.low_rank is not None:
            chosen = fit_verdict(lottery, hidden[:n], train, hidden[n:], validation)
            compared = {"reader_random": chosen.arrays(), "p_true_trained": p_true.arrays()}
            p_true.low_rank.remove()
        about = {
            "base_model": engine.name,
            "base_sha256": weights_sha256(engine.model),
            "training_data_sha256": data_sha256(train),
            "training_rows": n,
            "target": options.target,
            "prompts": prompts,
        }
        if options.shuffle_labels:
            about["shuffled_labels"] = options.seed
        if reader is not None:
            about["reader"] = {"config": vars(config), "history": reader.history}
        if p_true is not None:
            about["p_true_trained"] = {"history": p_true.history}
        save_checkpoint(out, engine, reader=reader, stack=stack, about=about, probes=probes, compared=compared)
    words = f"{out}: stack on layers {', '.join(map(str, view.layers))}, C {view.C:g}"
    words += f"; probe: {probes['probe'].about()['kind']}"
    if reader is not None and config is not None:
        loss = min(epoch["validation_loss"] for epoch in reader.history)
        words += f"; reader with {config.ask_tokens} ask tokens ({config.start}), validation log loss {loss:.3f}"
    return words + ("; trained on shuffled labels: a control" if options.shuffle_labels else "")


def train_readers(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    options: ReaderOptions,
    *,
    progress: Progress | None = None,
) -> tuple[Reader | None, ReaderConfig | None, Reader | None]:
    """Train every candidate and keep the one with the lowest validation log loss; the third is trained P(True).

    None without candidates, and without ``options.comparisons``. The low-rank weights of P(True) are on the model.
    """
    if not options.candidates and not options.comparisons:
        return None, None, None
    fitting = make_rows(engine, train, options.target)  # type: ignore[arg-type]
    held = make_rows(engine, validation, options.target, samples=False)  # type: ignore[arg-type]
    store = PrefixStore(engine, [*fitting, *held], budget=options.prefix_bytes, progress=progress)
    try:
        trained = [
            (train_reader(engine, fitting, held, config, store=store, progress=progress), config)
            for config in options.candidates
        ]
        p_true = train_p_true(engine, fitting, held, store, progress=progress) if options.comparisons else None
    finally:
        store.close()
    best = min(trained, key=lambda pair: min(epoch["validation_loss"] for epoch in pair[0].history), default=None)
    return (*(best or (None, None)), p_true)


def choose_view(
    views: Sequence[View], states: States, train: Sequence[Record], held: States, validation: Sequence[Record]
) -> View:
    """The view whose probe has the lowest log loss on validation rows."""
    right = np.array([bool(record.correct) for record in train])
    return best_probe([Probe.fit(view, states, right) for view in views], held, validation).view


def leading_messages(records: Sequence[Record]) -> list[list[dict[str, str]]]:
    """The distinct messages before the last one, so that a bare question can be asked as training asked."""
    seen: dict[str, list[dict[str, str]]] = {}
    for record in records:
        leading = [message.model_dump() for message in record.messages[:-1]]
        if leading:
            seen.setdefault(json.dumps(leading, sort_keys=True), leading)
    return list(seen.values())[:64]


def data_sha256(records: Sequence[Record]) -> str:
    """A hash of the rows that trained: ids, answers and labels."""
    digest = hashlib.sha256()
    for record in records:
        row: list[Any] = [record.id, record.answer, record.correct]
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
