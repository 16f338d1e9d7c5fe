"""The format stage: a model learns to state a confidence after its own answers, and to judge what it stated.

Supervised (2606.32032, section A5): the model's own sampled answers, each with its leave-one-out agreement g as the
target. In the paper this stage already distils consistency on every task that is tested later, so what it gives alone
must be seen: ``target`` trains on one constant, or on the targets of other questions, instead.

Answers are trained on as they were sampled. At the start the gradient of a model's own samples is zero on average, so
these tokens hold the answers where they are and cost no pass through a frozen copy.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hedging.statements import split_sentences
from confide.methods.finetuning.labelled_rows import Row, SupervisedConfig, context, option
from confide.methods.reader.closed_rows import rows_sha256
from confide.methods.reader.training_pipeline import leading_messages
from confide.methods.rlmf.graded import Graded, grade_of
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, check_resolution, leave_one_out, pairwise
from confide.methods.rlmf.rollouts import Asked, Stating, ask, look, observe, sample
from confide.methods.rlmf.tagged import Tagged
from confide.methods.self_ref.self_ref_training import same_run, save_model
from confide.records import Record
from confide.signals import add_graded
from confide.tasks import Task

Statement = Literal["graded", "tagged"]
Target = Literal["consistency", "constant", "shuffled"]
TOLERANCE = 0.1
"""How near a stated number must be to g to count as faithful (the paper's τ)."""

STATEMENTS: dict[str, Callable[[TransformersEngine], Stating]] = {"graded": Graded, "tagged": Tagged}


@dataclass(frozen=True)
class FormatConfig(SupervisedConfig):
    """How the format stage trains; rank and learning rates suit models of a few hundred million parameters."""

    statement: Statement = field(
        default="graded", metadata={"help": "How a confidence is stated: graded tokens, or tagged text."}
    )
    target: Target = field(
        default="consistency", metadata={"help": "What is stated: g, one constant, or the g of another question."}
    )
    answers: int = option(4, "Sampled answers a question to train on.")
    judged_share: float = option(0.4, "Share of the questions kept for rollouts that train the self-judgement.")
    rollouts: int = option(12, "Rollouts for each of these questions.")
    rank: int = option(32, "Rank of the low-rank weights, on all linear layers.")
    alpha: int = option(64, "Scale of the low-rank weights (alpha / rank).")
    learning_rate: float = option(5e-4, "Learning rate of the low-rank weights.")
    row_learning_rate: float | None = option(2e-3, "Learning rate of the graded tokens' rows.")
    epochs: int = option(2, "Passes over the rows.")
    batch_size: int = option(32, "Rows a step.")
    warmup_steps: int = option(20, "Warm-up steps, at most a tenth of all steps.")


def train_format(
    model_name: str,
    task: Task,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: FormatConfig,
    out: Path,
    *,
    judge: SentenceJudge | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train on ``train`` (records with samples) and save to ``out``; returns what it gives on ``validation``.

    First statements on one part of the questions; then, on rollouts of the rest, the self-judgement F_pred with
    F_gold as its target, beside more statements. A stage that was finished is not trained again. ``judge`` compares
    answers in the grader's place. Raises `ConfideError` where K is too small for g to have the stated resolution.
    """
    about = out / "format.json"
    for record in [*train, *validation]:
        if len(record.samples or []) < 2:
            told = len(record.samples or [])
            raise ConfideError(f"record {record.id} has {told} samples: annotate with --samples 20 or so")
    check_resolution(min(len(r.samples or []) for r in train), TOLERANCE)
    check_resolution(config.rollouts, TOLERANCE)
    run = {
        "config": asdict(config),
        "base": model_name,
        "task": task.name,
        "judge": None if judge is None else judge.name,
        "data": {"train": rows_sha256(train), "validation": rows_sha256(validation)},
    }
    same_run(out / "run.json", run)
    if about.exists():
        found: dict[str, Any] = json.loads(read_text(about))
        return found
    began = time.perf_counter()
    taught, held = share(train, config.judged_share, config.seed)
    model, tokenizer = load_model(model_name)
    fresh = add_graded(model, tokenizer) if config.statement == "graded" else []
    stating = STATEMENTS[config.statement](TransformersEngine(model, tokenizer, model_name))
    rows = statement_rows(stating, task, taught, config, judge)
    model = _fit(model, tokenizer, rows, fresh, config, out / "statements", progress)
    judged = 0
    if held:
        stating = STATEMENTS[config.statement](TransformersEngine(model, tokenizer, model_name))
        more = judgement_rows(stating, task, ask(stating, task, held), config, judge)
        judged = len(more)
        rows = [*more, *statement_rows(stating, task, held, config, judge)]
        model = _fit(model, tokenizer, rows, fresh, replace(config, epochs=1), out / "judgements", progress)
    stating = STATEMENTS[config.statement](TransformersEngine(model, tokenizer, model_name))
    seconds = time.perf_counter() - began
    samples = max(2, min(len(r.samples or []) for r in validation))
    asked = ask(stating, task, validation)
    measured = look(stating, task, asked, samples=samples, tolerance=TOLERANCE, judge=judge, seed=config.seed).numbers()
    seen = {name: value for name, value in measured.items() if math.isfinite(value)}
    found = {"config": asdict(config), "rows": len(rows), "judged_rows": judged, "seconds": seconds, "validation": seen}
    grades = list(stating.engine.grades)
    if grades:
        # An engine that knows nothing of confide stops where the confidence is stated.
        model.generation_config.eos_token_id = sorted(stating.engine.end_ids)
    save_model(model, tokenizer, out, about_model(model_name, stating, {"format": found}, leading_messages(train)))
    for part in ("statements", "judgements"):
        shutil.rmtree(out / part, ignore_errors=True)
    write_text(about, json.dumps(found, indent=1) + "\n")
    return found


def about_model(
    base: str, stating: Stating, training: dict[str, Any], prompts: Sequence[Sequence[dict[str, str]]]
) -> dict[str, Any]:
    """What ``confide.json`` says of a model that states its confidence; ``prompts`` are how it was asked."""
    from importlib.metadata import version

    grades = list(stating.engine.grades)
    return {
        "schema": 1,
        "signals": {
            "confidence": {
                "method": "stated",
                "statement": stating.name,
                "grade_ids": grades,
                "reads_at": "the token that closes the answer" if grades else "the answer's own text",
            }
        },
        "base_model": base,
        "prompts": list(prompts),
        "training": training,
        "versions": {name: version(name) for name in ("confide", "torch", "transformers", "peft", "trl")},
    }


def share(records: Sequence[Record], part: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Records in two parts at random, whole entities on one side, the second holding about ``part`` of them."""
    clusters = sorted({record.cluster for record in records})
    random.Random(seed).shuffle(clusters)
    second = set(clusters[: round(part * len(clusters))])
    return [r for r in records if r.cluster not in second], [r for r in records if r.cluster in second]


def statement_rows(
    stating: Stating,
    task: Task,
    records: Sequence[Record],
    config: FormatConfig,
    judge: SentenceJudge | None = None,
) -> list[Row]:
    """Rows of sampled answers that end in a stated confidence: `FormatConfig.target` says which.

    Up to ``config.answers`` samples a question, drawn as they come so that likely answers are as frequent as the model
    gives them.
    """
    chance = random.Random(config.seed)
    drawn: list[tuple[Record, Any, float]] = []
    for record, asked in zip(records, ask(stating, task, records), strict=True):
        samples = record.samples or []
        told = [s.answer for s in samples]
        if judge is None:
            agreement = leave_one_out(pairwise(task, asked.question, told))
        else:
            agreement = np.array([row[0] for row in judge.left_out(told, [[text] for text in told])])
        ended = [i for i, s in enumerate(samples) if s.finish == "stop" and s.answer.strip()]
        for i in chance.sample(ended, min(config.answers, len(ended))):
            drawn.append((record, samples[i], float(agreement[i])))
    targets = [g for _, _, g in drawn]
    if config.target == "constant":
        targets = [float(np.mean(targets))] * len(targets)
    elif config.target == "shuffled":
        chance.shuffle(targets)
    rows = []
    for (record, one, _), target in zip(drawn, targets, strict=True):
        messages = stating.messages(record.messages)
        prompt = stating.engine.encode(messages)
        completion = stated_completion(stating, one.answer, one.answer_ids, target)
        rows.append(
            Row(
                id=record.id,
                input_ids=[*prompt, *completion],
                labels=[-100] * len(prompt) + completion,
                answer=(len(prompt), len(prompt) + len(completion) - 1),
                context=context(messages),
            )
        )
    return rows


def stated_completion(stating: Stating, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
    """An answer with a stated confidence; of several sentences each states it in tagged text."""
    if stating.name == "tagged":
        sentences = split_sentences(answer)
        if len(sentences) > 1:
            from confide.hedging.statements import Statement as Said
            from confide.hedging.statements import write_tagged

            text = write_tagged([Said(sentence, confidence) for sentence in sentences])
            return [*stating.engine.encode_answer(text), stating.engine.turn_end]
    return stating.completion(answer, ids, confidence)


def judgement_rows(
    stating: Stating, task: Task, asked: Sequence[Asked], config: FormatConfig, judge: SentenceJudge | None = None
) -> list[Row]:
    """Rows that ask for the self-judgement of rollouts, with F_gold (here 0 or 1) as the target.

    Only graded statements have such rows: a model that writes its score as text is asked, not trained.
    """
    if not isinstance(stating, Graded):
        return []
    rows: list[Row] = []
    chance = random.Random(config.seed)
    for start in range(0, len(asked), 16):
        some = asked[start : start + 16]
        room = task.max_new_tokens + stating.room
        completions = sample(stating, some, config.rollouts, room, temperature=1.0, seed=config.seed * 31 + start)
        rollouts = observe(stating, task, some, completions, judge=judge)
        gold = rollouts.f_gold(TOLERANCE)
        for number, one in enumerate(some):
            span = [i for i in range(number * config.rollouts, (number + 1) * config.rollouts) if rollouts.parsed[i]]
            for i in chance.sample(span, min(config.answers, len(span))):
                ids = [*one.prompt, *stating.reply(completions[i])]
                target = stating.ids[grade_of(float(gold[i]))]
                rows.append(Row(one.question.id, [*ids, target], [-100] * len(ids) + [target], (0, 0), "judgement"))
    return rows


def _fit(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    fresh: Sequence[int],
    config: FormatConfig,
    checkpoints: Path,
    progress: bool,
) -> Any:
    from transformers import set_seed

    from confide.methods.finetuning.supervised import fit

    set_seed(config.seed)  # the low-rank weights are drawn before TRL sets its own seed
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # PEFT freezes what it does not train; an engine has frozen all
    trained, _ = fit(
        model, tokenizer, rows, fresh, config, checkpoints, progress, title=checkpoints.name, whole=True
    )  # fmt: skip
    return trained
