"""The format stage: a model learns to state a confidence after its own answers, and to judge what it stated.

Supervised (2606.32032, section A5): the model's own sampled answers, each with its leave-one-out agreement g as the
target. In the paper this stage already distils consistency on every task that is tested later, so what it gives alone
must be seen: ``target`` trains on one constant, or on the targets of other questions, instead.

Answers are trained on as they were sampled. At the start the gradient of a model's own samples is zero on average, so
these tokens hold the answers where they are and cost no pass through a frozen copy.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from confide.engines.engine import check_tokens
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_graded
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods.checkpoint import (
    CheckpointInfo,
    SignalInfo,
    common_chat_template_kwargs,
    leading_messages,
    save_checkpoint,
)
from confide.methods.finetuning.labelled_rows import LabelledRow, context
from confide.methods.finetuning.runs import merge_adapter, same_run
from confide.methods.finetuning.supervised import fit
from confide.methods.method import NAME_IT, check_answered_by
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, check_resolution, support_within
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.methods.rlmf.rollouts import Environment, QuestionPrompt
from confide.methods.rlmf.stated_model import stating_for
from confide.methods.rlmf.stating import Graded, Stating, grade_of
from confide.policies.identities import weights_identity
from confide.progress import Progress
from confide.records import Record, Sample
from confide.signals import CONFIDENCE
from confide.tasks import Task

TOLERANCE = 0.1
"""How near a stated number must be to g to count as faithful (the paper's τ)."""


def train_format(
    model_name: str,
    task: Task,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: FormatConfig,
    out: Path,
    *,
    judge: SentenceJudge | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on ``train`` (records with samples) and save to ``out``.

    First statements on one part of the questions; then, on rollouts of the rest, the self-judgement F_pred with
    F_gold as its target, beside more statements. A stage that was finished is not trained again.

    Args:
        judge: compares answers in the grader's place.

    Returns:
        What is written to ``format.json``: settings, rows, seconds, and the numbers on ``validation``.

    Raises:
        ConfideError: K is too small for g to have the stated resolution, another model gave the answers, or ``out``
            holds another run.
    """
    _check_samples(train, validation, config)
    base = TransformersEngine(*load_model(model_name), model_name)
    sha256 = base.sha256
    check_answered_by([*train, *validation], [model_name], [weights_identity(sha256)], NAME_IT)
    run = describe_run(asdict(config), task, judge, train, validation, weights=weights_identity(sha256))
    parts = [out / part for part in ("statements", "judgements", "format.json")]
    if same_run(out / "run.json", run, parts) and (out / "format.json").exists():
        earlier: dict[str, Any] = json.loads(read_text(out / "format.json"))
        return earlier
    began = time.perf_counter()
    environment, counts = _train(base, task, train, config, out, judge, progress)
    report = {"config": asdict(config), **counts, "seconds": time.perf_counter() - began}
    samples = max(2, min(len(record.samples or []) for record in validation))
    questions = environment.question_prompts(validation)
    evaluation = environment.evaluate(questions, samples=samples, tolerance=TOLERANCE, seed=config.seed)
    report["validation"] = evaluation.numbers()
    save_stated(out, environment.stating, {"format": report}, train, sha256)
    for part in ("statements", "judgements"):
        shutil.rmtree(out / part, ignore_errors=True)
    write_text(out / "format.json", json.dumps(report, indent=1) + "\n")
    return report


def save_stated(
    out: Path, stating: Stating, training: dict[str, Any], records: Sequence[Record], base_sha256: str | None
) -> None:
    """Save a model that states its confidence; ``records`` tell how it was asked."""
    grades = list(stating.engine.grades)
    signal = SignalInfo(
        method="stated",
        statement=stating.name,
        grade_ids=grades,
        reads_at="the token that closes the answer" if grades else "the answer's own text",
    )
    info = CheckpointInfo(
        signals={CONFIDENCE.name: signal},
        base_model=stating.engine.name,
        base_sha256=base_sha256,
        prompts=leading_messages(records),
        chat_template_kwargs=common_chat_template_kwargs(records),
        training=training,
    )
    save_checkpoint(out, stating.engine.save, info, ("peft", "trl"))


def describe_run(
    config: dict[str, Any],
    task: Task,
    judge: SentenceJudge | None,
    train: Sequence[Record],
    validation: Sequence[Record],
    **more: Any,
) -> dict[str, Any]:
    """What a folder's checkpoints belong to: settings, and a hash of all that training reads in the records."""
    return {
        "config": config,
        "task": task.name,
        "judge": None if judge is None else judge.name,
        "data": {"train": _sha256(train), "validation": _sha256(validation)},
        "asked": sha256_of_rows(
            [
                record.id,
                record.cluster,
                record.chat_template_kwargs,
                [sample.answer_ids for sample in record.samples or []],
            ]
            for record in [*train, *validation]
        ),
        **more,
    }


def _sha256(records: Sequence[Record]) -> str:
    return sha256_of_rows(
        [
            record.id,
            [message.model_dump() for message in record.messages],
            record.answer,
            record.reference,
            [(sample.answer, sample.finish) for sample in record.samples or []],
        ]
        for record in records
    )


def split_entities(records: Sequence[Record], part: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Records in two parts at random, whole entities on one side, the second holding about ``part`` of them."""
    clusters = sorted({record.cluster for record in records})
    random.Random(seed).shuffle(clusters)
    second = set(clusters[: round(part * len(clusters))])
    return [r for r in records if r.cluster not in second], [r for r in records if r.cluster in second]


def statement_rows(environment: Environment, records: Sequence[Record], config: FormatConfig) -> list[LabelledRow]:
    """Rows of sampled answers that end in a stated confidence: `FormatConfig.target` says which.

    Up to ``config.answers`` samples per question, drawn as they come so that likely answers are as frequent as the
    model gives them.
    """
    stating, chance = environment.stating, random.Random(config.seed)
    drawn: list[tuple[Record, Sample, float]] = []
    for record, asked in zip(records, environment.question_prompts(records), strict=True):
        samples = record.samples or []
        answers = [sample.answer for sample in samples]
        claims = [[text] for text in answers]
        agreement = support_within(environment.task, asked.question, answers, claims, environment.judge)
        ended = [i for i, s in enumerate(samples) if s.finish == "stop" and s.answer.strip()]
        for i in chance.sample(ended, min(config.answers, len(ended))):
            drawn.append((record, samples[i], agreement[i][0]))
    targets = [g for _, _, g in drawn]
    if config.target == "constant":
        targets = [float(np.mean(targets))] * len(targets)
    elif config.target == "shuffled":
        chance.shuffle(targets)
    rows = []
    for (record, sample, _), target in zip(drawn, targets, strict=True):
        messages = stating.messages(record.messages, record.own_turns)
        prompt = stating.prompt(record)
        check_tokens(record.id, sample.answer_ids, stating.engine.vocabulary)
        *answer, end = stating.completion(sample.answer, sample.answer_ids, target)
        rows.append(LabelledRow.of(record.id, prompt, answer, [end], context(messages)))
    return rows


def judgement_rows(
    environment: Environment, questions: Sequence[QuestionPrompt], config: FormatConfig
) -> list[LabelledRow]:
    """Rows that ask for the self-judgement of rollouts, with F_gold (here 0 or 1) as the target.

    Only graded statements have such rows: a model that writes its score as text is asked, not trained.
    """
    stating, size, chance = environment.stating, config.rollouts, random.Random(config.seed)
    if not isinstance(stating, Graded):
        return []
    rows: list[LabelledRow] = []
    for start in range(0, len(questions), 16):
        batch = questions[start : start + 16]
        completions = environment.sample(batch, size, temperature=1.0, seed=config.seed * 31 + start)
        rollouts = environment.grade(batch, completions)
        gold = rollouts.f_gold(TOLERANCE)
        for number, asked in enumerate(batch):
            parsed = [i for i in range(number * size, (number + 1) * size) if rollouts.parsed[i]]
            for i in chance.sample(parsed, min(config.answers, len(parsed))):
                prompt = [*asked.prompt, *stating.judge_tail(completions[i])]
                target = stating.ids[grade_of(float(gold[i]))]
                rows.append(LabelledRow.of(asked.question.id, prompt, [], [target], "judgement"))
    return rows


def _check_samples(train: Sequence[Record], validation: Sequence[Record], config: FormatConfig) -> None:
    for record in [*train, *validation]:
        if (count := len(record.samples or [])) < 2:
            raise ConfideError(f"record {record.id} has {count} samples: annotate with --samples 20 or so")
    check_resolution(min(len(record.samples or []) for record in train), TOLERANCE)
    check_resolution(config.rollouts, TOLERANCE)


def _train(
    base: TransformersEngine,
    task: Task,
    records: Sequence[Record],
    config: FormatConfig,
    out: Path,
    judge: SentenceJudge | None,
    progress: Progress | None,
) -> tuple[Environment, dict[str, Any]]:
    """Train on ``records``; the trained model in its environment, and how many rows it saw in the last part."""
    stated, judged = split_entities(records, config.judged_share, config.seed)
    model, tokenizer = base.model, base.tokenizer
    new_ids = add_graded(model, tokenizer) if config.statement == "graded" else []

    def environment() -> Environment:
        return Environment(stating_for(config.statement, TransformersEngine(model, tokenizer, base.name)), task, judge)

    def train(rows: Sequence[LabelledRow], settings: FormatConfig, part: str) -> Any:
        if not rows:
            raise ConfideError(f"no row for the part {part}: of {len(records)} questions too few have a closed sample")
        fitted = fit(model, tokenizer, rows, new_ids, settings, out / part, progress, title=part, whole=True)
        return merge_adapter(fitted.model)

    rows, judgements = statement_rows(environment(), stated, config), []
    model = train(rows, config, "statements")
    if judged:
        policy = environment()
        judgements = judgement_rows(policy, policy.question_prompts(judged), config)
        rows = [*judgements, *statement_rows(policy, judged, config)]
        model = train(rows, replace(config, epochs=1), "judgements")
    trained = environment()
    if new_ids:
        # An engine that knows nothing of confide stops where the confidence is stated.
        model.generation_config.eos_token_id = sorted(trained.stating.engine.end_ids)
    return trained, {"rows": len(rows), "judged_rows": len(judgements)}
