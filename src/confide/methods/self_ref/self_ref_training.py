"""Self-REF (arXiv 2410.13284): a model learns to write its verdict right after its answer.

Rows are the model's own greedy answers, each followed by ``<|confident|>`` when it was right and ``<|unconfident|>``
when it was wrong. Low-rank weights on q, k and v and the new rows are trained with next-token cross-entropy. The tokens
of wrong answers carry no gradient, so that the model is not taught to give them.

Where this differs from the paper: the embedding and output layers are not adapted whole. Only the new rows are, at ten
times the rate, so that a few hundred steps are enough for a mean row to be written at all. The token that closes the
turn is trained after the verdict in every row, so that the model stops there.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from confide.engines.engine import check_context, check_tokens
from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.engines.transformers.loading import freeze
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.turn_end import turn_end_id
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.checkpoint import CheckpointInfo, SignalInfo, common_chat_template_kwargs, save_checkpoint
from confide.methods.finetuning.labelled_rows import LabelledRow, context
from confide.methods.finetuning.runs import same_run
from confide.methods.finetuning.supervised import fit
from confide.methods.method import NAME_IT, check_answered_by, labels
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.self_ref.verdict_reading import read_verdicts
from confide.numeric import logit
from confide.progress import Progress
from confide.records import Record
from confide.report_tokens import CONFIDENCE, TokenIds
from confide.settings import check_settings

RATIOS = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5)  # unconfident : confident, as in the paper's appendix C


@dataclass(frozen=True)
class SelfRefResult:
    """A trained model, how many right and wrong answers it was trained on, and what its training took."""

    folder: Path
    model: Any
    tokenizer: Any
    ids: TokenIds
    right: int
    wrong: int
    losses: list[float]
    seconds: float
    epoch_seconds: float


@dataclass(frozen=True)
class RatioChoice:
    """The mixing ratio that did best on validation, by which number, and every candidate's numbers."""

    ratio: float
    by: str
    candidates: list[dict[str, float]]


def build_rows(
    records: Sequence[Record], tokenizer: Any, ids: TokenIds, *, mask_wrong_answers: bool = True
) -> list[LabelledRow]:
    """Records as training rows.

    Labels are −100 on the prompt and, with ``mask_wrong_answers``, on the tokens of wrong answers.
    """
    closing = turn_end_id(tokenizer)
    rows = []
    for record in records:
        if record.correct is None or not record.messages:
            raise ConfideError(f"record {record.id}: Self-REF needs messages and a graded answer")
        check_tokens(record.id, [*record.answer_ids, *record.reasoning_ids], len(tokenizer))
        messages = [message.model_dump() for message in record.messages]
        prompt = encode_chat(tokenizer, messages, record.chat_template_kwargs) + record.reasoning_ids
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

    A run that was killed continues from its last checkpoint.

    Args:
        model: as `load_model` gives it; it and its ``tokenizer`` are changed in place.
        out: the checkpoint's folder, which this run holds alone.
        base_model: the name that goes into ``confide.json``.

    Raises:
        ConfideError: answers of one kind only or of another model, rows longer than the context, a folder in use or of
            another run.
    """
    name = base_model or str(getattr(model.config, "_name_or_path", ""))
    base = TransformersEngine(model, tokenizer, name)
    sha256, identity = base.sha256, base.identity
    train = _graded(records, "train")
    check_answered_by(train, [name], [identity], NAME_IT)
    with locked(out):
        result, data = _fit(model, tokenizer, train, config, out, identity, progress)
        signal = SignalInfo(
            method="self_ref",
            ask_tokens=0,
            verdict_ids=dict(zip(CONFIDENCE.verdict, (result.ids.cn, result.ids.un), strict=True)),
            reads_at="after the answer, before the end of the turn",
        )
        info = CheckpointInfo(
            signals={CONFIDENCE.name: signal},
            base_model=name,
            base_sha256=sha256,
            chat_template_kwargs=common_chat_template_kwargs(records),
            training=asdict(config),
            training_rows={"right": result.right, "wrong": result.wrong},
            training_data_sha256=data,
        )
        engine = TransformersEngine(result.model, tokenizer, name)
        save_checkpoint(out, engine.save, info, ("peft", "trl"))
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return result


def choose_ratio(
    load: Callable[[], tuple[Any, Any]],
    records: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    *,
    ratios: Sequence[float] = RATIOS,
    by: Literal["log_loss", "auroc"] = "log_loss",
    progress: Progress | None = None,
) -> RatioChoice:
    """Train once for each UN:CN ratio and choose on the split ``validation``.

    Every candidate starts from a fresh ``load()`` and gets the same number of rows, the largest that all ratios can
    fill (and at most ``config.max_rows``), for ``config.epochs``: the choice costs ``len(ratios)`` such runs. Numbers
    are kept in ``out/ratios.json``; candidates found there are not trained again.

    Args:
        load: gives a fresh model and its tokenizer.
        by: ``log_loss`` is taken after a logistic fit of the verdict, because mixing shifts the base rate that the
            verdict reflects.
    """
    train, validation = _graded(records, "train"), _graded(records, "validation")
    right, wrong = _counts(train, "training")
    _counts(validation, "validation")
    total = min(largest(right, wrong, ratio) for ratio in ratios)
    total = total if config.max_rows is None else min(total, config.max_rows)
    budget: dict[str, Any] = {
        "rows": total,
        "config": asdict(replace(config, ratio=None)),
        "data": sha256_of_rows([r.id, r.question, r.answer, r.correct, r.split] for r in records),
    }
    first = load()
    engine = TransformersEngine(*first, str(getattr(first[0].config, "_name_or_path", "")))
    identity = budget["weights"] = engine.identity
    check_answered_by([*train, *validation], [engine.name], [identity], NAME_IT)
    with locked(out):
        file = out / "ratios.json"
        kept: dict[str, Any] = json.loads(read_text(file)) if file.exists() else {"budget": budget, "candidates": []}
        check_settings(f"{file} holds a choice that", kept["budget"], budget)
        candidates: list[dict[str, float]] = kept["candidates"]
        done = {candidate["ratio"] for candidate in candidates}
        for number, ratio in enumerate(ratio for ratio in ratios if ratio not in done):
            settings = replace(config, ratio=ratio, max_rows=total)
            folder = out / f"ratio-{ratio:.3f}"
            numbers = _try_ratio(load() if number else first, train, validation, settings, folder, identity, progress)
            candidates.append({"ratio": ratio, **numbers})
            write_text(file, json.dumps(kept, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
    sign = 1 if by == "log_loss" else -1
    best = min((c for c in candidates if c["ratio"] in ratios), key=lambda c: sign * c[by])
    return RatioChoice(best["ratio"], by, candidates)


def _try_ratio(
    loaded: tuple[Any, Any],
    train: Sequence[Record],
    validation: Sequence[Record],
    config: SelfRefConfig,
    folder: Path,
    identity: str,
    progress: Progress | None,
) -> dict[str, float]:
    """Train at ``config.ratio``: rows, seconds, and how well the verdict ranks and predicts correctness."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score

    result, _ = _fit(*loaded, train, config, folder, identity, progress)
    values = read_verdicts(TransformersEngine(freeze(result.model), result.tokenizer), validation)
    c, correct = np.clip(values, 1e-6, 1 - 1e-6), labels(validation)
    z = np.asarray(logit(c))[:, None]
    fitted = LogisticRegression(C=1e6).fit(z, correct).predict_proba(z)[:, 1]
    return {
        "rows": result.right + result.wrong,
        "right": result.right,
        "wrong": result.wrong,
        "seconds": result.seconds,
        "auroc": float(roc_auc_score(correct, c)),
        "log_loss": float(log_loss(correct, fitted)),
        "log_loss_raw": float(log_loss(correct, c)),
    }


def _fit(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    identity: str,
    progress: Progress | None,
) -> tuple[SelfRefResult, str]:
    """Train without saving; the result and a hash of the training rows."""
    chosen = mix(records, config.ratio, config.seed, config.max_rows)
    right, wrong = _counts(chosen, "training")
    ids = add_to(model, tokenizer)
    rows = build_rows(chosen, tokenizer, ids, mask_wrong_answers=config.mask_wrong_answers)
    room = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 20))
    check_context({row.id: len(row.input_ids) for row in rows}, room)
    data = sha256_of_rows([row.id, row.input_ids, row.labels] for row in rows)
    checkpoints = out / "checkpoints"
    run = {"data": data, "config": asdict(config), "weights": identity}
    same_run(checkpoints / "run.json", run, list(checkpoints.glob("checkpoint-*")))
    start = time.perf_counter()
    model, losses = fit(model, tokenizer, rows, ids.all, config, checkpoints, progress)
    seconds = time.perf_counter() - start
    return SelfRefResult(out, model, tokenizer, ids, right, wrong, losses, seconds, seconds / config.epochs), data


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
