"""Training of a red-flag token (arXiv 2502.16366): low-rank weights and the token's rows, by three terms of loss.

Cross-entropy teaches the flag at every position of a harmful answer between a least offset and a place drawn at random,
where the flag is put into the context. What follows it is held to the base model without a flag in its context, and so
are harmless answers from their first token on; no token of a harmful answer is ever taught.

How much the last term weighs is chosen on validation rows: of the weights whose harmless answers drift no more than a
bound, the one that detects most harmful answers where one harmless answer in twenty is flagged, too. In a run, the
epoch is the one with the best AUROC among those within the bound.

Where this differs from the paper: the epoch and the weight are chosen by this rule, and the score is the token's
probability, whether it is written or not.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_names
from confide.errors import ConfideError
from confide.files import locked
from confide.methods import processes
from confide.methods.checkpoint import CheckpointInfo, SignalInfo, common_chat_template_kwargs, save_checkpoint
from confide.methods.finetuning.held_out import LOSS, HeldOut
from confide.methods.finetuning.labelled_rows import collate, logits_at
from confide.methods.finetuning.runs import merge_adapter, same_rows
from confide.methods.finetuning.supervised import SupervisedTrainer, fit, kl_to_base, of_next_token
from confide.methods.method import NAME_IT, check_answered_by, labels
from confide.methods.red_flag.flag_config import FlagConfig
from confide.methods.red_flag.flag_loss import no_flag_log_odds, three_terms
from confide.methods.red_flag.flag_reading import METHOD, flag_id
from confide.methods.red_flag.flag_rows import build_flag_rows, check_sides
from confide.metrics import auroc
from confide.numeric import Bools, Floats
from confide.progress import Progress
from confide.records import Record
from confide.signals import RED_FLAG

FALSE_ALARMS = 0.05
"""The share of harmless answers at which settings are compared."""

DRIFT_ROWS = 64
"""Harmless validation rows on which the drift is measured after each epoch."""

BATCH = 8


@dataclass(frozen=True)
class Figures:
    """What a trained model is worth on validation rows.

    Attributes:
        auroc: of the lowest probability of "no flag" along an answer.
        detection: the share of harmful answers below the threshold that `FALSE_ALARMS` of the harmless ones are below.
        drift: KL to the base on harmless answers, in nats a token.
    """

    auroc: float
    detection: float
    drift: float


@dataclass(frozen=True)
class FlagResult:
    """The settings that were chosen, and what each candidate reached."""

    folder: Path
    config: FlagConfig
    chosen: Figures
    tried: list[tuple[FlagConfig, Figures]]


@dataclass(frozen=True)
class FlagHeldOut(HeldOut):
    """Held-out rows as they were answered, which of them are harmful, and how far harmless ones may drift."""

    harmful: Bools | None = None
    most_drift: float = np.inf


class FlagTrainer(SupervisedTrainer):
    """TRL's trainer with the three terms of the loss, weighted as ``settings`` say."""

    settings: FlagConfig

    def loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the flag's cross-entropy and both divergences."""
        flagged = of_next_token(inputs["labels"], -100) != -100
        kept, base_kept = (of_next_token(inputs[name], 0).bool() for name in ("answer", "base_answer"))
        kept &= ~flagged
        logits = logits_at(model, inputs, flagged | kept)
        with torch.no_grad(), model.disable_adapter():
            base = logits_at(model, inputs | {"input_ids": inputs["base_ids"]}, base_kept)
        harmful = flagged.any(1)[:, None].expand_as(kept)[kept]
        terms = three_terms(logits, flagged[flagged | kept], base, harmful, self.new_ids[0])
        weights = (self.settings.flag_weight, self.settings.follow_weight, self.settings.harmless_weight)
        return cast("Tensor", sum(weight * term for weight, term in zip(weights, terms, strict=True)))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """1 − AUROC on the held-out rows, and 1 more where harmless answers drift too far."""
        held = cast("FlagHeldOut", self.held)
        found = figures(self.accelerator.unwrap_model(self.model), held, self.new_ids[0], self.data_collator)
        metrics = {LOSS: 1 - found.auroc + (found.drift > held.most_drift)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


@torch.no_grad()
def figures(model: Any, held: FlagHeldOut, flag: int, collator: Callable[[Any], Any]) -> Figures:
    """What a model with an adapter is worth on held-out rows."""
    assert held.harmful is not None
    model.eval()
    rows, device = held.rows, next(iter(model.parameters())).device
    lowest, drifts = np.empty(len(rows)), [0.0, 0]
    measured = set(np.flatnonzero(~held.harmful)[:DRIFT_ROWS].tolist())
    order = sorted(range(len(rows)), key=lambda i: (i not in measured, len(rows[i].input_ids)))
    for some in (order[at : at + BATCH] for at in range(0, len(order), BATCH)):
        batch = {name: value.to(device) for name, value in collator([rows[i].columns() for i in some]).items()}
        kept = of_next_token(batch["answer"], 0).bool()
        logits = logits_at(model, batch, kept)
        if measured.issuperset(some):
            with model.disable_adapter():
                base = logits_at(model, batch, kept)
            drifts = [drifts[0] + float(kl_to_base(logits, base, [flag])) * len(logits), drifts[1] + len(logits)]
        z = no_flag_log_odds(logits, flag).cpu().numpy()
        for i, values in zip(some, np.split(z, np.cumsum(kept.sum(1).cpu().numpy())[:-1]), strict=True):
            lowest[i] = values[1:].min() if len(values) > 1 else values.min()
    model.train()
    fine = ~held.harmful
    return Figures(float(auroc(lowest, fine)), detection(lowest, fine, FALSE_ALARMS), drifts[0] / max(1, drifts[1]))


def detection(lowest: Floats, fine: Bools, false_alarms: float) -> float:
    """The share of flagged rows below the highest threshold that at most ``false_alarms`` of the fine rows are below.

    >>> detection(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, True, False, False]), 0.05)
    1.0
    """
    ordered = np.sort(lowest[fine])
    threshold = ordered[int(false_alarms * len(ordered))]
    return float((lowest[~fine] < threshold).mean())


def best_run(tried: Sequence[Figures], most_drift: float) -> int:
    """The place of the run that detects most within the bound on drift; without one, of that which drifts least."""
    within = [place for place, found in enumerate(tried) if found.drift <= most_drift]
    if not within:
        return min(range(len(tried)), key=lambda place: tried[place].drift)
    return max(within, key=lambda place: (tried[place].detection, tried[place].auroc))


def train_flag_token(
    load: Callable[[], tuple[Any, Any]],
    train: Sequence[Record],
    validation: Sequence[Record],
    candidates: Sequence[FlagConfig],
    out: Path,
    *,
    most_drift: float,
    base_model: str,
    progress: Progress | None = None,
) -> FlagResult:
    """Train a model to write the flag with each candidate's weights, and save the best one as an ordinary checkpoint.

    Args:
        load: gives a fresh model and its tokenizer.
        most_drift: the bound on the KL of harmless answers, in nats a token.
        base_model: the name that goes into ``confide.json``.

    Raises:
        ConfideError: labels of one kind, harmful prompts on both sides, answers of another model, rows that do not fit.
    """
    processes.refuse_many("the training of a red-flag token")
    check_sides(train, validation)
    best: tuple[Any, Any, FlagConfig] | None = None
    tried: list[tuple[FlagConfig, Figures]] = []
    with locked(out):
        for number, config in enumerate(candidates):
            model, tokenizer = load()
            base = TransformersEngine(model, tokenizer, base_model)
            sha256, identity = base.sha256, base.identity
            check_answered_by([*train, *validation], [base_model], [identity], NAME_IT)
            add_names(model, tokenizer, RED_FLAG.tokens)
            folder = out / "checkpoints" / str(number)
            adapted, found = _fit(model, tokenizer, train, validation, config, folder, most_drift, identity, progress)
            tried.append((config, found))
            if best_run([figures for _, figures in tried], most_drift) == number:
                best = adapted, tokenizer, config
        assert best is not None
        config, chosen = tried[best_run([found for _, found in tried], most_drift)]
        info = CheckpointInfo(
            signals={RED_FLAG.name: SignalInfo(method=METHOD, reads_at="after every token")},
            base_model=base_model,
            base_sha256=sha256,
            chat_template_kwargs=common_chat_template_kwargs(train),
            training=asdict(config) | {"chosen": asdict(chosen), "tried": [asdict(found) for _, found in tried]},
            training_rows={kind: sum(r.correct is fine for r in train) for kind, fine in _KINDS},
        )
        engine = TransformersEngine(merge_adapter(best[0]), best[1], base_model)
        save_checkpoint(out, engine.save, info, ("peft", "trl"))
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return FlagResult(out, config, chosen, tried)


_KINDS = ((RED_FLAG.fine, True), (RED_FLAG.flagged, False))


def _fit(
    model: Any,
    tokenizer: Any,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: FlagConfig,
    checkpoints: Path,
    most_drift: float,
    identity: str,
    progress: Progress | None,
) -> tuple[Any, Figures]:
    """Train with one candidate's weights; the model with its adapter, and its figures on validation rows."""
    flag, engine = flag_id(tokenizer), TransformersEngine(model, tokenizer, train[0].model)
    rows = build_flag_rows(
        engine, drawn(train, config.max_rows, config.seed), flag, min_offset=config.min_offset, seed=config.seed
    )
    plain = build_flag_rows(
        engine, [r.model_copy(update={"correct": True}) for r in validation], flag, min_offset=0, seed=0
    )
    kept = {row.id for row in plain}
    harmful = ~labels([record for record in validation if record.id in kept])
    held = FlagHeldOut(plain, lambda _: 0.0, config.patience, harmful, most_drift)
    same_rows(checkpoints, rows, held.rows, config, identity)

    fitted = fit(
        model, tokenizer, rows, [flag], config, checkpoints, progress, title="red flag", held=held,
        trainer_class=FlagTrainer,
    )  # fmt: skip
    if not np.isfinite(fitted.held_losses or [0.0]).all():
        raise ConfideError("training diverged: lower the learning rate")
    return fitted.model, figures(fitted.model, held, flag, lambda batch: collate(batch, 0))


def drawn(records: Sequence[Record], most: int | None, seed: int) -> list[Record]:
    """At most so many records of each label, drawn by the seed, in a random order."""
    chance, picked = random.Random(seed), []
    for fine in (True, False):
        some = [record for record in records if record.correct is fine]
        picked += some if most is None else chance.sample(some, min(most, len(some)))
    return chance.sample(picked, len(picked))
