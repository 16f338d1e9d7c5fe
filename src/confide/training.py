"""Calibration while anyone's training runs: a callback for Transformers' ``Trainer`` and the trainers of TRL.

>>> from confide.training import CalibrationCallback  # doctest: +SKIP
>>> trainer.add_callback(CalibrationCallback(trainer, "questions.jsonl", limit=200))  # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from confide.annotation import answered_records
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.free import OPTION, free_columns
from confide.methods.self_ref.self_ref_model import SOURCE as VERDICT
from confide.methods.self_ref.verdict_reading import read_verdicts
from confide.metrics import auroc, brier, ece, smooth_ece
from confide.numeric import Floats
from confide.records import Record
from confide.signals import CONFIDENCE
from confide.sources import as_probability
from confide.tasks import Task, load_task
from confide.tasks.questions import question_of
from confide.tasks.task import drawn, plain_task


class CalibrationCallback(TrainerCallback):
    """Asks the model held-out questions at every evaluation, and logs what its confidence in the answers is worth.

    Answers are greedy and marked by the task's grader. Their confidence is e to ``logprob_sum``, the probability of the
    answer's tokens (``option_probability`` where options are given), and besides that of the verdict tokens, where the
    tokenizer has those that ``confide train self-ref`` adds. The trainer's log, and so TensorBoard, W&B and
    ``trainer.state.log_history``, gets ``eval_answer_accuracy`` and for each source ``eval_SOURCE_auroc``, ``_brier``,
    ``_ece`` and ``_smooth_ece``. The same numbers are in what ``trainer.evaluate()`` returns, so that
    ``metric_for_best_model="eval_logprob_sum_auroc"`` works. A number that is not defined, such as an AUROC without a
    wrong answer, is left out.

    The model is asked on the process that logs. It must be whole there: not with weights that are spread over
    processes (FSDP, DeepSpeed's third stage).

    Args:
        trainer: a ``transformers.Trainer`` or one of TRL's; it must evaluate for this to be called.
        questions: a task or its name, the path of a question file, or records with references that were held out.
        limit: how many of the questions are asked, drawn once by ``seed``; None: all.
        seed: of the draw.
        batch_size: questions at a time; by default the trainer's for evaluation.

    Raises:
        ConfideError: no questions, weights that are spread, a model that reads learned prompts, or no chat template.
    """

    def __init__(
        self,
        trainer: Any,
        questions: Task | str | Path | Sequence[Record],
        *,
        limit: int | None = 200,
        seed: int = 0,
        batch_size: int | None = None,
    ):
        if getattr(trainer, "is_fsdp_enabled", False) or _third_stage(trainer):
            raise ConfideError("the model's weights are spread over processes, where nobody can ask it questions")
        _plain(trainer.model)
        self.trainer = trainer
        self.task = _task(questions, limit, seed)
        self.batch_size = batch_size or int(trainer.args.per_device_eval_batch_size)
        tokenizer = trainer.processing_class
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # that of a processor
        if not getattr(self.tokenizer, "chat_template", None):
            raise ConfideError("the tokenizer has no chat template, so there is no form to ask questions in")
        self.records: list[Record] = []
        """The answers of the newest evaluation."""

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Ask, mark, and log."""
        if not state.is_world_process_zero or self._asked_with_another(metrics):
            return
        model = _plain(self.trainer.accelerator.unwrap_model(self.trainer.model))
        training = model.training
        model.eval()
        try:
            found = self._found(TransformersEngine(model, self.tokenizer))
        finally:
            model.train(training)
        self.trainer.log(dict(found))
        if metrics is not None:
            metrics.update(found)

    def _asked_with_another(self, metrics: Mapping[str, float] | None) -> bool:
        """Whether the trainer evaluates on several data sets, and this one is not the first of them."""
        several = self.trainer.eval_dataset
        if not isinstance(several, Mapping) or not metrics:
            return False
        return not any(name.startswith(f"eval_{next(iter(several))}_") for name in metrics)

    def _found(self, engine: TransformersEngine) -> dict[str, float]:
        self.records = answered_records(engine, self.task, batch_size=self.batch_size)
        graded = [record for record in self.records if record.correct is not None]
        correct = np.array([record.correct for record in graded], dtype=np.float64)
        found = {"eval_answer_accuracy": float(correct.mean())} if len(correct) else {}
        for source, values in _confidences(engine, graded).items():
            there = np.isfinite(values)
            if there.any():
                found |= _worth(source, values[there], correct[there])
        return found


def _confidences(engine: TransformersEngine, records: Sequence[Record]) -> Mapping[str, Floats]:
    """Source → its confidences [n], NaN where a record has none."""
    if not records:
        return {}
    by_options = all(record.option_logprobs for record in records)
    source = OPTION if by_options else "logprob_sum"
    found = {source: free_columns(records, [source])[source].values}
    if set(CONFIDENCE.tokens) <= engine.tokenizer.added_tokens_encoder.keys():
        found[VERDICT] = read_verdicts(engine, records)
    return found


def _worth(source: str, values: Floats, correct: Floats) -> dict[str, float]:
    """What a source is worth, by the names of the trainer's log."""
    chances = as_probability(source, values)
    numbers = {
        "auroc": auroc(values, correct),
        "brier": brier(chances, correct),
        "ece": ece(chances, correct),
        "smooth_ece": smooth_ece(chances, correct),
    }
    return {f"eval_{source}_{name}": value for name, value in numbers.items() if math.isfinite(value)}


def _task(questions: Task | str | Path | Sequence[Record], limit: int | None, seed: int) -> Task:
    """The questions to ask; those of records in the records' own words."""
    if isinstance(questions, str | Path):
        task = load_task(questions)
    elif isinstance(questions, Task):
        task = questions
    else:
        known = [(record, question_of(record)) for record in questions]
        asked = [question for record, question in known if question is not None and record.reference is not None]
        messages = {record.id: [turn.model_dump() for turn in record.messages] for record, _ in known}
        if not asked:
            raise ConfideError("no record has a question with a reference: there is nothing to ask")
        task = replace(plain_task("held-out records", asked), prompt=lambda question: messages[question.id])
    if not task.questions:
        raise ConfideError(f"{task.name} has no questions")
    return drawn(task, limit, seed)


def _plain(model: Any) -> Any:
    """The causal language model, with its adapters at work inside it, that is asked."""
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise ConfideError("the model reads learned prompts, which are not put before questions here")
    return model.get_base_model()


def _third_stage(trainer: Any) -> bool:
    plugin = getattr(getattr(trainer.accelerator, "state", None), "deepspeed_plugin", None)
    return plugin is not None and int(plugin.zero_stage) == 3
