"""Self-REF (arXiv 2410.13284): a model learns to write its verdict right after its answer.

Rows are the model's own greedy answers, each followed by ``<|confident|>`` when it was right and
``<|unconfident|>`` when it was wrong. Low-rank weights on q, k and v and the new rows are trained with
next-token cross-entropy; the tokens of wrong answers carry no gradient, so that the model is not taught to
give them.

Where this differs from the paper: the embedding and output layers are not adapted whole, only the new rows
are, and these at ten times the rate, so that a few hundred steps are enough for a mean row to be written at
all; the token that closes the turn is trained after the verdict in every row, so that the model stops there.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from confide.errors import ConfideError
from confide.files import locked, read_text, write_text
from confide.methods.finetuning.labelled_rows import Row, SupervisedConfig, context, option
from confide.methods.self_ref.verdict_reading import (
    Emission,
    answer_ids,
    answer_log_probability,
    check_fit,
    emit,
    prompt_ids,
    read_verdicts,
)
from confide.records import Record
from confide.signals import CONFIDENCE, TokenIds, add_to, turn_end_id

__all__ = [
    "RATIOS",
    "Emission",
    "RatioChoice",
    "Row",
    "SelfRefConfig",
    "SelfRefResult",
    "answer_log_probability",
    "build_rows",
    "choose_ratio",
    "emit",
    "mix",
    "read_verdicts",
    "train_self_ref",
]

RATIOS = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5)  # unconfident : confident, as in the paper's appendix C


@dataclass(frozen=True)
class SelfRefConfig(SupervisedConfig):
    """How to train Self-REF, on top of how rows are trained on."""

    ratio: float | None = option(None, "Unconfident rows per confident row, such as 0.5; natural if unset.")
    mask_wrong_answers: bool = option(True, "No gradient on the tokens of wrong answers.")
    max_rows: int | None = option(None, "Train on at most this many rows.")


@dataclass(frozen=True)
class SelfRefResult:
    """A trained model, and what its training took."""

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
    """The mixing ratio that did best on validation, and every candidate's numbers."""

    ratio: float
    by: str
    candidates: list[dict[str, float]]


def build_rows(
    records: Sequence[Record], tokenizer: Any, ids: TokenIds, *, mask_wrong_answers: bool = True
) -> list[Row]:
    """Records as training rows.

    Labels are −100 on the prompt and, with ``mask_wrong_answers``, on the tokens of wrong answers.
    """
    closing = turn_end_id(tokenizer)
    rows = []
    for record in records:
        if record.correct is None or not record.messages:
            raise ConfideError(f"record {record.id}: Self-REF needs messages and a graded answer")
        prompt, answer = prompt_ids(tokenizer, record.messages), answer_ids(tokenizer, record)
        end = [ids.cn if record.correct else ids.un, *([closing] if record.finish == "stop" else [])]
        masked = mask_wrong_answers and not record.correct
        rows.append(
            Row(
                id=record.id,
                input_ids=prompt + answer + end,
                labels=[-100] * len(prompt) + ([-100] * len(answer) if masked else answer) + end,
                answer=(len(prompt), len(prompt) + len(answer)),
                context=context(record.messages),
            )
        )
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
    if ratio <= 0:
        raise ConfideError(f"the ratio of unconfident to confident rows must be above 0, not {ratio}")
    return int(min(right * (1 + ratio), wrong * (1 + ratio) / ratio) + 1e-9)


def train_self_ref(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    *,
    base_model: str | None = None,
    progress: bool = True,
) -> SelfRefResult:
    """Train on the records of the split ``train`` (on all, if none has a split) and save to ``out``.

    ``out`` becomes an ordinary checkpoint with ``confide.json`` beside it; this function holds the folder's
    lock. A run that was killed continues from its last checkpoint. ``model`` and ``tokenizer`` are changed in
    place; ``base_model`` is the name that goes into ``confide.json``.
    """
    with locked(out):
        name = base_model or str(getattr(model.config, "_name_or_path", ""))
        result, rows = _fit(model, tokenizer, _split(records, "train"), config, out, name, progress)
        about = {
            "schema": 1,
            "signals": {
                CONFIDENCE.name: {
                    "verdict_ids": dict(zip(CONFIDENCE.verdict, (result.ids.cn, result.ids.un), strict=True)),
                    "ask_tokens": 0,
                    "method": "self_ref",
                    "reads_at": "after the answer, before the end of the turn",
                }
            },
            "base_model": name,
            "training": asdict(config),
            "training_rows": {"right": result.right, "wrong": result.wrong},
            "training_data_sha256": _data_sha256(rows),
            "versions": {p: version(p) for p in ("confide", "torch", "transformers", "peft", "trl")},
        }
        save_model(result.model, tokenizer, out, about)
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
    progress: bool = True,
) -> RatioChoice:
    """Train once for each UN:CN ratio and choose on the split ``validation``.

    Every candidate starts from a fresh ``load()`` and gets the same number of rows, the largest that all
    ratios can fill (and at most ``config.max_rows``), for ``config.epochs``: the whole choice costs
    ``len(ratios)`` such runs. ``log_loss`` is taken after a logistic fit of the verdict, because mixing
    shifts the base rate that the verdict reflects. Numbers are kept in ``out/ratios.json``; candidates found
    there are not trained again.
    """
    train, validation = _graded(_split(records, "train")), _graded(_split(records, "validation"))
    right, wrong = _counts(train, "training")
    _counts(validation, "validation")
    total = min(largest(right, wrong, ratio) for ratio in ratios)
    total = total if config.max_rows is None else min(total, config.max_rows)
    with locked(out):
        budget = {
            "rows": total,
            "config": asdict(replace(config, ratio=None)),
            "data": _records_sha256(records),
        }
        kept = out / "ratios.json"
        candidates: list[dict[str, float]] = []
        if kept.exists():
            data = json.loads(read_text(kept))
            if data["budget"] != budget:
                raise ConfideError(f"{kept} holds a choice with other records or settings: remove it first")
            candidates = data["candidates"]
        done = {candidate["ratio"] for candidate in candidates}
        for ratio in ratios:
            if ratio in done:
                continue
            folder = out / f"ratio-{ratio:.3f}"
            model, tokenizer = load()
            settings = replace(config, ratio=ratio, max_rows=total)
            result, _ = _fit(model, tokenizer, train, settings, folder, "", progress)
            values = read_verdicts(result.model, tokenizer, validation, result.ids)
            numbers = _verdict_numbers(values, [bool(record.correct) for record in validation])
            candidates.append(
                {
                    "ratio": ratio,
                    "rows": result.right + result.wrong,
                    "right": result.right,
                    "wrong": result.wrong,
                    "seconds": result.seconds,
                    **numbers,
                }
            )
            write_text(kept, json.dumps({"budget": budget, "candidates": candidates}, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
    sign = 1 if by == "log_loss" else -1
    best = min((c for c in candidates if c["ratio"] in ratios), key=lambda c: sign * c[by])
    return RatioChoice(best["ratio"], by, candidates)


def _fit(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    config: SelfRefConfig,
    out: Path,
    name: str,
    progress: bool,
) -> tuple[SelfRefResult, list[Row]]:
    chosen = mix(_graded(records), config.ratio, config.seed, config.max_rows)
    right, wrong = _counts(chosen, "training")
    # Seeded here: the low-rank weights are drawn before TRL sets its own seed.
    from transformers import set_seed

    set_seed(config.seed)
    ids = add_to(model, tokenizer, CONFIDENCE)
    rows = build_rows(chosen, tokenizer, ids, mask_wrong_answers=config.mask_wrong_answers)
    check_fit(model, [(row.id, len(row.input_ids)) for row in rows])
    checkpoints = out / "checkpoints"
    run = {"data": _data_sha256(rows), "config": asdict(config), "base_model": name}
    same_run(checkpoints / "run.json", run)
    from confide.methods.finetuning.supervised import fit

    start = time.perf_counter()
    model, losses = fit(model, tokenizer, rows, ids.all, config, checkpoints, progress)
    seconds = time.perf_counter() - start
    result = SelfRefResult(out, model, tokenizer, ids, right, wrong, losses, seconds, seconds / config.epochs)
    return result, rows


def same_run(path: Path, run: dict[str, Any]) -> None:
    """Note what a folder's checkpoints belong to; `ConfideError` naming the keys when they belong to another run."""
    if path.exists() and (known := json.loads(read_text(path))) != json.loads(json.dumps(run)):
        keys = ", ".join(different(known, run))
        raise ConfideError(
            f"{path.parent} holds a run with other records or settings ({keys}): remove it or choose another folder"
        )
    write_text(path, json.dumps(run))


def different(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys, dotted, whose values differ between two nested dictionaries.

    >>> different({"config": {"rank": 8, "seed": 0}}, {"config": {"rank": 4, "seed": 0}, "base": "m"})
    ['base', 'config.rank']
    """
    found = []
    for key in sorted({*a, *b}):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += different(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(prefix + key)
    return found


def _split(records: Sequence[Record], split: str) -> list[Record]:
    if split == "train" and all(record.split is None for record in records):
        return list(records)
    return [record for record in records if record.split == split]


def _graded(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.correct is not None]


def _counts(records: Sequence[Record], which: str) -> tuple[int, int]:
    right = sum(record.correct is True for record in records)
    wrong = sum(record.correct is False for record in records)
    if not right or not wrong:
        raise ConfideError(f"the {which} records hold {right} right and {wrong} wrong answers: both kinds are needed")
    return right, wrong


def _data_sha256(rows: Sequence[Row]) -> str:
    lines = (json.dumps([row.id, row.input_ids, row.labels]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _records_sha256(records: Sequence[Record]) -> str:
    lines = (json.dumps([r.id, r.question, r.answer, r.correct, r.split]) for r in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _verdict_numbers(values: Sequence[float], correct: Sequence[bool]) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score

    c = np.clip(np.asarray(values), 1e-6, 1 - 1e-6)
    logit = np.log(c / (1 - c))[:, None]
    fitted = LogisticRegression(C=1e6).fit(logit, correct).predict_proba(logit)[:, 1]
    return {
        "auroc": float(roc_auc_score(correct, c)),
        "log_loss": float(log_loss(correct, fitted)),
        "log_loss_raw": float(log_loss(correct, c)),
    }


def save_model(model: Any, tokenizer: Any, out: Path, about: dict[str, Any]) -> None:
    """Write the checkpoint beside its place, then move it in: ``confide.json`` comes last."""
    (out / "confide.json").unlink(missing_ok=True)
    half_done = out / ".saving"
    shutil.rmtree(half_done, ignore_errors=True)
    model.save_pretrained(half_done)
    tokenizer.save_pretrained(half_done)
    for path in half_done.iterdir():
        os.replace(path, out / path.name)
    half_done.rmdir()
    write_text(out / "confide.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
