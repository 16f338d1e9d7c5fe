"""RLMF: reinforcement learning with metacognitive feedback (Liu et al. 2026, 2606.32032).

A model that states its confidence (see `format_stage`) is trained further by GRPO on its own completions;
how well it judges what it stated refines their advantages. The checkpoint is the one that is best on validation rows,
and a run that collapses is stopped with the reason.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed

from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import locked, read_text, written_folder
from confide.methods import processes
from confide.methods.checkpoint import read_info
from confide.methods.finetuning.runs import last_checkpoint, merge_adapter, report_progress, same_run
from confide.methods.finetuning.supervised import add_adapter
from confide.methods.method import NAME_IT, check_answered_by
from confide.methods.rlmf.format_stage import describe_run, save_stated, train_format
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, check_resolution
from confide.methods.rlmf.rlmf_config import FormatConfig, RLMFSettings
from confide.methods.rlmf.rlmf_trainer import RLMFConfig, RLMFTrainer
from confide.methods.rlmf.rollouts import Environment
from confide.methods.rlmf.stated_model import stating_for
from confide.methods.rlmf.training_guard import GUARD_FILES, Guard, StepLog
from confide.policies.identities import weights_identity
from confide.progress import Progress
from confide.records import Record
from confide.tasks import Task

RLMF = "RLMF, which compares the completions of a question with each other,"


@dataclass(frozen=True)
class RLMFResult:
    """What a run came to.

    Attributes:
        folder: the checkpoint.
        steps: steps trained; ``best_step`` is the one that was kept.
        start: numbers of the starting model on validation rows; ``best`` are those of the model that was kept.
        stopped: the reason of an early stop, "" for a run that went to its end.
        seconds: how long the run took; ``judged_seconds`` is the self-judgement's part.
    """

    folder: Path
    steps: int
    best_step: int
    start: dict[str, float]
    best: dict[str, float]
    stopped: str
    seconds: float
    judged_seconds: float


def train_rlmf(
    model_name: str,
    task: Task,
    records: Sequence[Record],
    config: RLMFConfig,
    out: Path,
    *,
    statement: FormatConfig | None = None,
    judge: SentenceJudge | None = None,
    rank: int = 32,
    samples: int = 12,
    progress: Progress | None = None,
) -> RLMFResult:
    """Train on the ``train`` records, choose on ``validation``, save an ordinary checkpoint to ``out``.

    Args:
        model_name: a plain model, which passes the format stage first (``out/format``; its records need samples), or
            a folder that this function or `train_format` made, which goes on from there.
        task: whose grader decides.
        config: its ``max_steps`` may be 0: then the format stage alone is what ``out`` holds.
        statement: how the format stage trains; not for a model that has passed it.
        judge: compares statements in the grader's place.
        rank: of the low-rank weights on all linear layers.
        samples: answers per validation question for its g.

    Raises:
        ConfideError: rows of a split are missing, K is too small for the tolerance, a folder in use or of another run.
    """
    processes.refuse_many(RLMF)
    train, validation = ([r for r in records if r.split == part] for part in ("train", "validation"))
    passed = passed_format_stage(model_name)
    start = model_name if passed else str(out / "format")
    run = _Run(start, task, train, validation, config, out, judge, rank, samples)
    run.check()
    if passed and (config.max_steps == 0 or statement is not None):
        raise ConfideError(f"{model_name} has passed its format stage: there is nothing left to say about that stage")
    info = read_info(Path(model_name)) if passed else None
    with locked(out):
        if not passed:
            settings, folder = statement or FormatConfig(), Path(start)
            report = train_format(model_name, task, train, validation, settings, folder, judge=judge, progress=progress)
            if config.max_steps == 0:
                return _format_stage_alone(Path(start), out, report)
        weights = TransformersEngine.load(start).identity
        if info is not None:
            known = [weights, weights_identity(info.base_sha256)]
            check_answered_by([*train, *validation], [model_name, info.base_model], known, NAME_IT)
        known_before = same_run(out / "run.json", run.description(weights), [out / "checkpoints"])
        return (_finished(out) if known_before else None) or run.train(progress)


def passed_format_stage(name: str) -> bool:
    """Whether a model states its confidence already."""
    return read_info(Path(name)).confidence.statement is not None


@dataclass(frozen=True)
class _Run:
    """A run of reinforcement learning: what it starts from, learns from and is evaluated on."""

    start: str
    task: Task
    train_records: Sequence[Record]
    validation: Sequence[Record]
    config: RLMFConfig
    out: Path
    judge: SentenceJudge | None
    rank: int
    samples: int

    def check(self) -> None:
        """Raise `ConfideError` for rows that are missing, and for a K that is too small for the tolerance."""
        config, train = self.config, self.train_records
        if not train or not self.validation:
            raise ConfideError(f"{len(train)} train and {len(self.validation)} validation records: both are needed")
        check_resolution(self.samples + 1, config.tolerance)
        group = int(config.num_generations or 0)
        own = min(len(record.samples or []) for record in train) + 1
        check_resolution(group if config.intrinsic == "group" else own, config.tolerance)
        questions = int(config.generation_batch_size or 0) // max(1, group)
        if config.max_steps and len(train) < questions:
            raise ConfideError(f"{len(train)} train records are fewer than the {questions} questions of one step")

    def description(self, weights: str) -> dict[str, Any]:
        """What a folder's checkpoints belong to; ``weights`` are those that the run starts from."""
        # How long a completion may be follows from the task and the statement, and is not yet known here.
        config = {name: value for name, value in own_settings(self.config).items() if name != "max_completion_length"}
        more = {"weights": weights, "rank": self.rank, "samples": self.samples}
        return describe_run(config, self.task, self.judge, self.train_records, self.validation, **more)

    def train(self, progress: Progress | None) -> RLMFResult:
        """Train, put the best adapter back, and save."""
        trainer, guard = self.prepare()
        report_progress(trainer, progress, "rlmf")
        guard.begin()
        if not guard.stopped and not guard.ended:
            trainer.train(resume_from_checkpoint=None if guard.resume_from is None else str(guard.resume_from))
        guard.restore(trainer.model)
        merge_adapter(trainer.model)
        result = RLMFResult(
            self.out,
            int(guard.evaluations[-1]["step"] if guard.stopped or guard.ended else trainer.state.global_step),
            guard.best_step,
            guard.start,
            guard.best,
            guard.stopped,
            guard.seconds,
            trainer.judged_seconds,
        )
        training = {
            "rlmf": {name: value for name, value in vars(result).items() if name != "folder"},
            "config": own_settings(self.config),
            "looks": guard.evaluations,
        }
        base = read_info(Path(self.start)).base_sha256
        save_stated(self.out, trainer.environment.stating, training, self.train_records, base)
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        return result

    def prepare(self) -> tuple[RLMFTrainer, Guard]:
        """The trainer and its guard."""
        warnings.filterwarnings("ignore", "You are using 'rollout_func'")
        config, checkpoints = self.config, self.out / "checkpoints"
        info = read_info(Path(self.start))
        model, tokenizer = load_model(self.start)
        # The engine is made first: it reads through the very modules that PEFT then adapts in place.
        stating = stating_for(info.confidence.statement, TransformersEngine(model, tokenizer, info.base_model))
        environment = Environment(stating, self.task, self.judge)
        train = environment.question_prompts(self.train_records)
        validation = environment.question_prompts(self.validation)
        config.output_dir, config.max_completion_length = str(checkpoints), environment.room
        set_seed(config.seed)
        trainer = RLMFTrainer(
            add_adapter(model, (), FormatConfig(rank=self.rank, alpha=2 * self.rank), whole=True),
            config,
            environment=environment,
            questions=train,
            train_dataset=Dataset.from_list([{"prompt": str(row)} for row in range(len(train))]),
            processing_class=tokenizer,
            callbacks=[StepLog(self.out / "log.jsonl")],
        )

        def evaluate() -> dict[str, float]:
            temperature, seed = float(config.temperature), config.seed
            return environment.evaluate(
                validation, samples=self.samples, temperature=temperature, tolerance=config.tolerance, seed=seed
            ).numbers()

        guard = Guard(trainer, evaluate, last_checkpoint(checkpoints, GUARD_FILES))
        trainer.add_callback(guard)
        return trainer, guard


def own_settings(config: RLMFConfig) -> dict[str, Any]:
    """The settings that matter of a run, without TRL's hundred defaults."""
    names = [field.name for field in fields(RLMFSettings) if field.name not in ("report_to", "disable_tqdm")]
    return {name: getattr(config, name) for name in [*names, "seed", "max_completion_length"]}


def _finished(out: Path) -> RLMFResult | None:
    """What a folder's run came to, None while it has not ended."""
    if not (out / "confide.json").exists():
        return None
    numbers = json.loads(read_text(out / "confide.json"))["training"].get("rlmf")
    return None if numbers is None else RLMFResult(out, **numbers)


def _format_stage_alone(start: Path, out: Path, report: dict[str, Any]) -> RLMFResult:
    """Copy the format stage's checkpoint from ``start`` to ``out``."""
    with written_folder(out, "confide.json") as part:
        for path in start.iterdir():
            if path.is_file() and path.name not in ("run.json", ".lock"):
                shutil.copy2(path, part / path.name)
    numbers = report["validation"]
    return RLMFResult(out, 0, 0, numbers, numbers, "", float(report["seconds"]), 0.0)
