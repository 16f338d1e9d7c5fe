"""Self-REF (arXiv 2410.13284): a model learns to write its verdict right after its answer.

Rows are the model's own greedy answers, each followed by ``<|confident|>`` when it was right and ``<|unconfident|>``
when it was wrong. Low-rank weights (on q, k and v, as in the paper, or on all linear layers) and the new rows
are trained with next-token cross-entropy. The tokens of wrong answers carry no gradient, so that the model is not
taught to give them.

Where this differs from the paper: the embedding and output layers are not adapted whole. Only the new rows are, at ten
times the rate, so that a few hundred steps are enough for a mean row to be written at all. The token that closes the
turn is trained after the verdict in every row, so that the model stops there. The epoch is chosen on validation rows,
where there are any. A verdict may be taught a confidence in place of the label: that of a stack that did not see the
row (probe-targeted).
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from confide.engines.engine import check_context, check_tokens
from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.turn_end import turn_end_id
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods import processes
from confide.methods.checkpoint import CheckpointInfo, SignalInfo, common_chat_template_kwargs, save_checkpoint
from confide.methods.finetuning.held_out import HeldOut
from confide.methods.finetuning.labelled_rows import LabelledRow, context
from confide.methods.finetuning.runs import merge_adapter, same_rows
from confide.methods.finetuning.supervised import fit
from confide.methods.finetuning.verdict_loss import finite_losses
from confide.methods.method import NAME_IT, check_answered_by
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.progress import Progress
from confide.records import Record
from confide.report_tokens import TokenIds
from confide.settings import check_settings
from confide.signals import CONFIDENCE


@dataclass(frozen=True)
class SelfRefResult:
    """A trained model, how many right and wrong answers it was trained on, and what its training took.

    Under FSDP the main process alone has the model.
    """

    folder: Path
    model: Any
    tokenizer: Any
    ids: TokenIds
    right: int
    wrong: int
    losses: list[float]
    held_losses: list[float]
    seconds: float

    @property
    def epoch(self) -> int:
        """The epoch that was kept, from 1 on; 0 where there were no validation rows: the last one then."""
        return 1 + self.held_losses.index(min(self.held_losses)) if self.held_losses else 0


@dataclass(frozen=True)
class Choice:
    """The settings that did best on validation rows, and what each candidate's best epoch cost there."""

    config: SelfRefConfig
    losses: list[float]


def build_rows(
    records: Sequence[Record],
    tokenizer: Any,
    ids: TokenIds,
    *,
    mask_wrong_answers: bool = True,
) -> list[LabelledRow]:
    """Records as training rows.

    Labels are −100 on the prompt and, with ``mask_wrong_answers``, on the tokens of wrong answers.
    """
    closing = turn_end_id(tokenizer)
    rows = []
    for record in records:
        if record.correct is None or not record.messages:
            raise ConfideError(f"record {record.id}: Self-REF needs messages and a graded answer")
        check_tokens(record.id, [*record.answer_ids, *record.reasoning_ids, *record.opening_ids], len(tokenizer))
        messages = [message.model_dump() for message in record.messages]
        before = record.opening_ids + record.reasoning_ids
        prompt = encode_chat(tokenizer, messages, record.chat_template_kwargs) + before
        answer = list(record.answer_ids) or encode_text(tokenizer, record.answer)
        end = [ids.cn if record.correct else ids.un, *([closing] if record.finish == "stop" else [])]
        learn = bool(record.correct) or not mask_wrong_answers
        rows.append(LabelledRow.of(record.id, prompt, answer, end, context(record.messages), learn_answer=learn))
    return rows


def mix(records: Sequence[Record], ratio: float | None, seed: int, total: int | None = None) -> list[Record]:
    """Subsample graded records to ``ratio`` wrong ones per right one, in a random order.

    Ratios compare fairly at one ``total``; without it, or where the records cannot fill it, the result is as
    large as it can be. ``ratio`` None keeps the natural ratio.
    """
    chance = random.Random(seed)
    right = [record for record in records if record.correct is True]
    wrong = [record for record in records if record.correct is False]
    if ratio is None:
        pool = right + wrong
        chance.shuffle(pool)
        return pool[:total]
    size = largest(len(right), len(wrong), ratio)
    size = size if total is None else min(size, total)
    unconfident = min(round(size * ratio / (1 + ratio)), len(wrong))
    picked = chance.sample(right, min(size - unconfident, len(right))) + chance.sample(wrong, unconfident)
    chance.shuffle(picked)
    return picked


def largest(right: int, wrong: int, ratio: float) -> int:
    """The most rows that ``right`` and ``wrong`` ones can make up at ``ratio`` wrong per right one.

    >>> largest(right=740, wrong=1260, ratio=1 / 5)
    888
    """
    if not 0 < ratio < math.inf:
        raise ConfideError(f"the ratio of unconfident to confident rows must be a number above 0, not {ratio}")
    return int(min(right * (1 + ratio), wrong * (1 + ratio) / ratio) + 1e-9)


def train_self_ref(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    *,
    base_model: str | None = None,
    progress: Progress | None = None,
) -> SelfRefResult:
    """Train on the records of the split ``train`` (on all, if none has a split) and save an ordinary checkpoint.

    Those of the split ``validation`` choose the epoch. A run that was killed continues from its last checkpoint.

    Args:
        model: as `load_model` gives it; it and its ``tokenizer`` are changed in place.
        out: the checkpoint's folder, which this run holds alone.
        base_model: the name that goes into ``confide.json``.

    Raises:
        ConfideError: answers of one kind only or of another model, rows longer than the context, training that
            diverged, a folder in use or of another run.
    """
    name = base_model or str(getattr(model.config, "_name_or_path", ""))
    base = TransformersEngine(model, tokenizer, name)
    sha256, identity = base.sha256, base.identity
    train, validation = _graded(records, "train"), _graded(records, "validation")
    check_answered_by([*train, *validation], [name], [identity], NAME_IT)
    with processes.locked_by_main(out):
        result, data = _fit(model, tokenizer, train, validation, config, out, identity, progress)
        losses = finite_losses(result.held_losses)
        signal = SignalInfo(
            method="self_ref",
            verdict_ids=dict(zip(CONFIDENCE.tokens, (result.ids.cn, result.ids.un), strict=True)),
            reads_at="after the answer, before the end of the turn",
        )
        info = CheckpointInfo(
            signals={CONFIDENCE.name: signal},
            base_model=name,
            base_sha256=sha256,
            chat_template_kwargs=common_chat_template_kwargs(records),
            training=asdict(config) | {"validation_losses": losses, "epoch": result.epoch},
            training_rows={"right": result.right, "wrong": result.wrong},
            training_data_sha256=data,
        )

        def save() -> None:
            engine = TransformersEngine(result.model, tokenizer, name)
            save_checkpoint(out, engine.save, info, ("peft", "trl"))
            shutil.rmtree(out / "checkpoints", ignore_errors=True)

        processes.on_main(save)
    return result


def choose_settings(
    load: Callable[[], tuple[Any, Any]],
    records: Sequence[Record],
    candidates: Sequence[SelfRefConfig],
    out: Path,
    *,
    progress: Progress | None = None,
) -> Choice:
    """Train with each candidate's settings and choose on the split ``validation``.

    Each trains until its epochs get no better, on as many rows as its ratio leaves it: what a ratio costs in rows is
    part of the comparison. What was found stays in ``out/choice.json``, and the best run where `train_self_ref` takes
    it up, so that it is not trained again.

    Args:
        load: gives a fresh model and its tokenizer.
    """
    train, validation = _graded(records, "train"), _graded(records, "validation")
    _counts(train, "training"), _counts(validation, "validation")
    first = load()
    engine = TransformersEngine(*first, str(getattr(first[0].config, "_name_or_path", "")))
    identity = engine.identity
    check_answered_by([*train, *validation], [engine.name], [identity], NAME_IT)
    data = sha256_of_rows([r.id, r.question, r.answer, r.correct, r.split] for r in records)
    tried = {str(number): asdict(config) for number, config in enumerate(candidates)}
    budget = {"candidates": tried, "data": data, "weights": identity}
    with processes.locked_by_main(out):
        losses = processes.on_main(lambda: _known(out / "choice.json", budget))
        for number in range(len(losses), len(candidates)):
            loaded = first if number == 0 else load()
            result, _ = _fit(
                *loaded, train, validation, candidates[number], out / f"candidate-{number}", identity, progress
            )
            losses.append(min(result.held_losses))
            noted = json.dumps({"budget": budget, "losses": losses}, indent=1)
            processes.on_main(partial(write_text, out / "choice.json", noted))
        best = losses.index(min(losses))
        processes.on_main(lambda: _keep(out, best, len(candidates)))
    return Choice(candidates[best], losses)


def _known(file: Path, budget: dict[str, Any]) -> list[float]:
    """What candidates cost whose training has ended; raises `ConfideError` for another choice."""
    kept: dict[str, Any] = json.loads(read_text(file)) if file.exists() else {"budget": budget, "losses": []}
    check_settings(f"{file} holds a choice that", kept["budget"], budget)
    losses: list[float] = kept["losses"]
    return losses


def _keep(out: Path, best: int, candidates: int) -> None:
    """Keep the best candidate's run where `train_self_ref` takes it up."""
    if (trained := out / f"candidate-{best}" / "checkpoints").exists() and not (out / "checkpoints").exists():
        trained.rename(out / "checkpoints")
    for number in range(candidates):
        shutil.rmtree(out / f"candidate-{number}", ignore_errors=True)


def _fit(
    model: Any,
    tokenizer: Any,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    identity: str,
    progress: Progress | None,
) -> tuple[SelfRefResult, str]:
    """Train without saving; the result and a hash of the training rows."""
    chosen = mix(train, config.ratio, config.seed, config.max_rows)
    right, wrong = _counts(chosen, "training")
    ids = add_to(model, tokenizer)
    rows = build_rows(chosen, tokenizer, ids, mask_wrong_answers=config.mask_wrong_answers)
    held = None
    if validation:
        _counts(validation, "validation")
        held = HeldOut.of(build_rows(validation, tokenizer, ids), chosen, validation, config)
    room = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 20))
    check_context({row.id: len(row.input_ids) for row in (*rows, *(held.rows if held else ()))}, room)
    checkpoints = out / "checkpoints"
    data = same_rows(checkpoints, rows, held.rows if held else (), config, identity)
    start = time.perf_counter()
    fitted = fit(
        model, tokenizer, rows, ids.all, config, checkpoints, progress, whole=config.target_modules == "all-linear",
        verdict=(ids.cn, ids.un), held=held,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    merged = merge_adapter(fitted.model)
    return SelfRefResult(out, merged, tokenizer, ids, right, wrong, fitted.losses, fitted.held_losses, seconds), data


def _graded(records: Sequence[Record], split: str) -> list[Record]:
    """The graded records of a split; where none has a split, all are ``train``."""
    whole = split == "train" and all(record.split is None for record in records)
    return [record for record in records if record.correct is not None and (whole or record.split == split)]


def _counts(records: Sequence[Record], which: str) -> tuple[int, int]:
    right = sum(record.correct is True for record in records)
    wrong = sum(record.correct is False for record in records)
    if not right or not wrong:
        raise ConfideError(f"the {which} records hold {right} right and {wrong} wrong answers: both kinds are needed")
    return right, wrong
