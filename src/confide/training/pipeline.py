"""From annotated records to a checkpoint: states, stack, ask tokens, every choice made on validation rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from confide.annotation import check_context
from confide.checkpoint import save_checkpoint
from confide.engines.transformers import TransformersEngine
from confide.errors import ConfideError
from confide.estimators.probe import Probe, View
from confide.estimators.stack import Stack, candidate_views, question_layer
from confide.estimators.states import States, collect
from confide.files import locked
from confide.models import weights_sha256
from confide.records import Record
from confide.training.prefixes import PrefixStore, parse_size
from confide.training.reader import Reader, ReaderConfig, train_reader
from confide.training.rows import check_labels, make_rows

Progress = Callable[[int, int, str], None]
STARTS = ("words", "random")


@dataclass(frozen=True)
class ReaderOptions:
    """What `train_confidence` may choose from, and how long it may take."""

    candidates: tuple[ReaderConfig, ...]
    target: str
    prefix_bytes: int
    seed: int

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
        return cls(candidates, target, parse_size(prefix_cache), seed)


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
        ConfideError: labels are all right or all wrong, rows do not fit the context, or ``out`` is in use.
    """
    for rows in (train, validation):
        check_labels(rows)
    check_context(
        {
            r.id: [*engine.encode(r.messages), *(r.answer_ids or engine.encode_answer(r.answer))]
            for r in [*train, *validation]
        },
        1 + max((config.ask_tokens for config in options.candidates), default=0),
        engine.context,
    )
    with locked(out):
        depth = len(engine.blocks)
        views = candidate_views(depth)
        layers = sorted({question_layer(depth), *(layer for view in views for layer in view.layers)})
        records = [*train, *validation]
        states, _ = collect(engine, records, layers, progress=progress)
        fitting, held = states.take(range(len(train))), states.take(range(len(train), len(records)))
        view = choose_view(views, fitting, train, held, validation)
        stack = Stack.fit(view, question_layer(depth), fitting, train, options.seed)
        reader, config = train_readers(engine, train, validation, options, progress=progress)
        about = {
            "base_model": engine.name,
            "base_sha256": weights_sha256(engine.model),
            "training_data_sha256": data_sha256(train),
            "training_rows": len(train),
            "target": options.target,
            "prompts": leading_messages(train),
        }
        if reader is not None:
            about["reader"] = {"config": vars(config), "history": reader.history}
        save_checkpoint(out, engine, reader=reader, stack=stack, about=about)
    words = f"{out}: stack on layers {', '.join(map(str, view.layers))}, C {view.C:g}"
    if reader is not None and config is not None:
        loss = min(epoch["validation_loss"] for epoch in reader.history)
        words += f"; reader with {config.ask_tokens} ask tokens ({config.start}), validation log loss {loss:.3f}"
    return words


def train_readers(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    options: ReaderOptions,
    *,
    progress: Progress | None = None,
) -> tuple[Reader | None, ReaderConfig | None]:
    """Train every candidate and keep the one with the lowest validation log loss (None without candidates)."""
    if not options.candidates:
        return None, None
    fitting = make_rows(engine, train, options.target)  # type: ignore[arg-type]
    held = make_rows(engine, validation, options.target, samples=False)  # type: ignore[arg-type]
    store = PrefixStore(engine, [*fitting, *held], budget=options.prefix_bytes, progress=progress)
    try:
        trained = [
            (train_reader(engine, fitting, held, config, store=store, progress=progress), config)
            for config in options.candidates
        ]
    finally:
        store.close()
    return min(trained, key=lambda pair: min(epoch["validation_loss"] for epoch in pair[0].history))


def choose_view(
    views: Sequence[View], states: States, train: Sequence[Record], held: States, validation: Sequence[Record]
) -> View:
    """The view whose probe has the lowest log loss on validation rows."""
    right = np.array([bool(record.correct) for record in train])
    target = np.array([float(bool(record.correct)) for record in validation])

    def loss(view: View) -> float:
        z = Probe.fit(view, states, right).z(held)
        return float(np.mean(np.logaddexp(0, z) - target * z))

    return min(views, key=loss)


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
