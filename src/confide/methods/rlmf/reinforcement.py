"""RLMF: reinforcement learning with metacognitive feedback (Liu et al. 2026, 2606.32032).

A model that states its confidence (see `format_stage`) is trained further by GRPO on its own completions;
how well it judges what it stated refines their advantages. The checkpoint is the one that is best on validation rows,
and a run that collapses is stopped with the reason.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text
from confide.methods.checkpoint import load_checkpoint
from confide.methods.reader.closed_rows import rows_sha256
from confide.methods.reader.training_pipeline import leading_messages
from confide.methods.rlmf.format_stage import STATEMENTS, FormatConfig, about_model, train_format
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, check_resolution
from confide.methods.rlmf.rollouts import Policy, Stating, ask, look
from confide.methods.self_ref.self_ref_training import same_run, save_model
from confide.records import Record
from confide.tasks import Task

if TYPE_CHECKING:
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig, RLMFTrainer

OWN = ("best.safetensors", "guard.json")
"""Files beside TRL's in a checkpoint, written after them: the best adapter so far, and what the guard knows."""


@dataclass(frozen=True)
class RLMFResult:
    """What a run came to; ``stopped`` is the reason of an early stop, "" for a run that went to its end.

    ``start`` and ``best`` are the numbers on validation rows of the starting model and of the one that was kept.
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
    progress: Callable[[int, int, str], None] | None = None,
) -> RLMFResult:
    """Train on the ``train`` records, choose on ``validation``, save an ordinary checkpoint to ``out``.

    Args:
        model_name: a plain model, which passes the format stage first (``out/format``; its records need samples), or
            a folder that this function or `train_format` made, which goes on from there.
        statement: how the format stage trains; not for a model that has passed it.
        rank: of the low-rank weights on all linear layers.
        samples: answers a validation question for its g.

    With ``config.max_steps`` 0 the format stage alone is what ``out`` holds.

    Raises:
        ConfideError: rows of a split are missing, K is too small for the tolerance, a folder in use or of another run.
    """
    train, validation = ([r for r in records if r.split == part] for part in ("train", "validation"))
    if not train or not validation:
        raise ConfideError(f"{len(train)} train and {len(validation)} validation records: both are needed")
    check_resolution(samples + 1, config.tolerance)
    group = int(config.num_generations or 0)
    if config.intrinsic == "group":
        check_resolution(group, config.tolerance)
    else:
        check_resolution(min(len(r.samples or []) for r in train) + 1, config.tolerance)
    questions = int(config.generation_batch_size or 0) // max(1, group)
    if config.max_steps and len(train) < questions:
        raise ConfideError(f"{len(train)} train records are fewer than the {questions} questions of one step")
    formed = formed_by(model_name)
    if formed and (config.max_steps == 0 or statement is not None):
        raise ConfideError(f"{model_name} has passed its format stage: there is nothing left to say about that stage")
    with locked(out):
        start = model_name if formed else str(out / "format")
        if not formed:
            about = train_format(
                model_name, task, train, validation, statement or FormatConfig(), Path(start), judge=judge
            )
            if config.max_steps == 0:
                return _only_formed(Path(start), out, about)
        same_run(out / "run.json", _run(config, start, task, train, validation, judge, rank, samples))
        if (done := _finished(out)) is not None:
            return done
        trainer, guard, base = _prepared(start, task, train, validation, config, out, judge, rank, samples)
        if progress is not None:
            trainer.add_callback(_Told(progress, config.max_steps))
        guard.begin()
        if not guard.stopped:
            resume = None if guard.resume_from is None else str(guard.resume_from)
            trainer.train(resume_from_checkpoint=resume)
        guard.restore(trainer.model)
        model = trainer.model.merge_and_unload()
        model.__dict__.pop("forward", None)  # TRL's patch, which would keep the trainer's closure alive
        result = RLMFResult(
            out,
            int(guard.seen[-1]["step"] if guard.stopped else trainer.state.global_step),
            guard.best_step,
            guard.seen[0]["numbers"],
            guard.best,
            guard.stopped,
            guard.seconds,
            trainer.judged_seconds,
        )
        stating = trainer.stating
        training = {
            "rlmf": {k: v for k, v in vars(result).items() if k != "folder"},
            "config": added(config),
            "looks": guard.seen,
        }
        about = about_model(base, stating, training, leading_messages(train))
        save_model(model, stating.engine.tokenizer, out, about)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return result


def formed_by(name: str) -> bool:
    """Whether a model states its confidence already."""
    return Path(name).is_dir() and load_checkpoint(Path(name)).statement is not None


def _finished(out: Path) -> RLMFResult | None:
    """What a folder's run came to, None while it has not ended."""
    if not (out / "confide.json").exists():
        return None
    found = json.loads(read_text(out / "confide.json"))["training"].get("rlmf")
    return None if found is None else RLMFResult(out, **found)


def added(config: RLMFConfig) -> dict[str, Any]:
    """The settings that matter of a run, without TRL's hundred defaults."""
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig

    names = [name for name in RLMFConfig.__annotations__ if name not in ("report_to", "disable_tqdm")]
    return {name: getattr(config, name) for name in [*names, "seed", "max_completion_length"]}


def _run(
    config: RLMFConfig,
    start: str,
    task: Task,
    train: Sequence[Record],
    validation: Sequence[Record],
    judge: SentenceJudge | None,
    rank: int,
    samples: int,
) -> dict[str, Any]:
    return {
        # How long a completion may be follows from the task and the statement, and is not yet known here.
        "config": {name: value for name, value in added(config).items() if name != "max_completion_length"},
        "start": start,
        "task": task.name,
        "judge": None if judge is None else judge.name,
        "rank": rank,
        "samples": samples,
        "data": {"train": rows_sha256(train), "validation": rows_sha256(validation)},
    }


def _only_formed(start: Path, out: Path, formed: dict[str, Any]) -> RLMFResult:
    for path in start.iterdir():
        if path.is_file() and path.name not in ("run.json", ".lock"):
            shutil.copy2(path, out / path.name)
    seen = formed["validation"]
    return RLMFResult(out, 0, 0, seen, seen, "", float(formed["seconds"]), 0.0)


def _prepared(
    start: str,
    task: Task,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: RLMFConfig,
    out: Path,
    judge: SentenceJudge | None,
    rank: int,
    samples: int,
) -> tuple[RLMFTrainer, Guard, str]:
    """The trainer, its guard, and the name of the model that all started from."""
    import warnings

    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from confide.methods.finetuning.supervised import last_checkpoint
    from confide.methods.rlmf.rlmf_trainer import Log, RLMFTrainer

    warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    checkpoint = load_checkpoint(Path(start))
    statement = str(checkpoint.about["signals"]["confidence"]["statement"])
    base = str(checkpoint.about["base_model"])
    model, tokenizer = load_model(start)
    # The engine is made first: it reads through the very modules that PEFT then adapts in place.
    stating: Stating = STATEMENTS[statement](TransformersEngine(model, tokenizer, base))
    asked, held = ask(stating, task, train), ask(stating, task, validation)
    config.output_dir = str(out / "checkpoints")
    config.max_completion_length = task.max_new_tokens + stating.room
    set_seed(config.seed)
    adapter = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, adapter)
    adapted.peft_config["default"].base_model_name_or_path = ""
    guard = Guard(stating, task, held, config, samples, judge, last_checkpoint(out / "checkpoints", OWN))
    trainer = RLMFTrainer(
        adapted,
        config,
        stating=stating,
        task=task,
        asked=asked,
        judge=judge,
        train_dataset=Dataset.from_list([{"prompt": str(row)} for row in range(len(asked))]),
        processing_class=tokenizer,
        callbacks=[Log(out / "log.jsonl"), guard],
    )
    if trainer.accelerator.num_processes > 1:
        raise ConfideError("RLMF runs in one process: groups of completions would be torn apart between several")
    guard.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer, guard, base


class Guard(TrainerCallback):
    """Looks at validation rows while a run trains: keeps the best adapter, stops a run that collapses.

    Best is the look whose cMFG* is furthest above the best constant's, among those whose accuracy has not fallen by
    more than the margin; cMFG* alone would be won by a policy that always says the same. The starting model is the
    first look: a run that only gets worse gives it back.
    """

    def __init__(
        self,
        stating: Stating,
        task: Task,
        asked: Sequence[Any],
        config: RLMFConfig,
        samples: int,
        judge: SentenceJudge | None,
        resume_from: Path | None,
    ):
        self.stating, self.task, self.asked, self.config, self.samples = stating, task, asked, config, samples
        self.judge, self.resume_from = judge, resume_from
        self.trainer: RLMFTrainer | None = None
        self.seen: list[dict[str, Any]] = []
        self.best_step = 0
        self.adapter: dict[str, torch.Tensor] = {}
        self.stopped = ""
        self.alike = 0
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the run has taken, the time before a resume included."""
        return self._before + time.perf_counter() - self._began

    @property
    def best(self) -> dict[str, float]:
        """The numbers of the look that was kept."""
        return dict(next(look["numbers"] for look in self.seen if look["step"] == self.best_step))

    def begin(self) -> None:
        """Look at the start, or go on from what a checkpoint's guard knew."""
        if self.resume_from is None:
            self.look(0)
            return
        from safetensors.torch import load_file

        state = json.loads(read_text(self.resume_from / "guard.json"))
        self.seen, self.best_step, self.alike = state["seen"], state["best_step"], state["alike"]
        self.stopped, self._before = state["stopped"], state["seconds"]
        self.adapter = load_file(self.resume_from / "best.safetensors")
        assert self.trainer is not None
        self.trainer.usual.load_state_dict(state["usual"])
        self.trainer.judged_seconds = state["judged_seconds"]

    def look(self, step: int) -> None:
        """Measure the policy on the validation rows; keep its adapter where it is the best so far."""
        assert self.trainer is not None
        model = self.trainer.model
        training = model.training
        model.eval()
        found: Policy = look(
            self.stating,
            self.task,
            self.asked,
            samples=self.samples,
            temperature=float(self.config.temperature),
            tolerance=self.config.tolerance,
            judge=self.judge,
            seed=self.config.seed,
        )
        model.train(training)
        numbers = {name: value for name, value in found.numbers().items() if math.isfinite(value)}
        self.seen.append({"step": step, "numbers": numbers})
        fallen = self.seen[0]["numbers"]["accuracy"] - numbers["accuracy"]
        if len(self.seen) == 1 or (
            fallen <= self.config.accuracy_margin and numbers["above_floor"] > self.best["above_floor"]
        ):
            self.best_step = step
            self.adapter = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if ".default." in n}
        if numbers["distinct"] <= 1 < self.seen[0]["numbers"]["distinct"]:
            self.stopped = f"step {step}: one confidence for all {len(self.asked)} validation rows"
        elif fallen > self.config.accuracy_margin:
            self.stopped = (
                f"step {step}: accuracy on {len(self.asked)} validation rows fell from "
                f"{self.seen[0]['numbers']['accuracy']:.3f} to {numbers['accuracy']:.3f}, "
                f"more than {self.config.accuracy_margin:g}"
            )

    def restore(self, model: Any) -> None:
        """Put the best adapter back."""
        parameters = dict(model.named_parameters())
        for name, value in self.adapter.items():
            parameters[name].data.copy_(value)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Watch the step's statements; every ``eval_steps`` and at the end, look."""
        assert self.trainer is not None
        scored = self.trainer.scored
        stated = {c for row in scored.rollouts.stated for c in row if c is not None} if scored else set()
        self.alike = self.alike + 1 if len(stated) <= 1 else 0
        step = int(state.global_step)
        if step % int(self.config.eval_steps or 1) == 0 or step == self.config.max_steps:
            self.look(step)
        if self.alike >= self.config.patience:
            value = next(iter(stated), None)
            what = "no confidence could be read" if value is None else f"every completion stated {value:g}"
            self.stopped = f"step {step}: {what} for {self.alike} steps in a row"
        if self.stopped:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What a resumed run needs, beside TRL's own files."""
        from safetensors.torch import save_file

        assert self.trainer is not None
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_file(self.adapter, folder / "best.safetensors")
        known = {
            "seen": self.seen,
            "best_step": self.best_step,
            "alike": self.alike,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "judged_seconds": self.trainer.judged_seconds,
            "usual": self.trainer.usual.state_dict(),
        }
        write_text(folder / "guard.json", json.dumps(known))


class _Told(TrainerCallback):
    """Progress after every step, with what matters most."""

    def __init__(self, progress: Callable[[int, int, str], None], steps: int):
        self.progress, self.steps = progress, steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Tell the step, the reward and how many completions failed the format."""
        if logs and "reward" in logs:
            note = f"reward {float(logs['reward']):.2f}, {float(logs.get('format_failures', 0.0)):.0%} unreadable"
            self.progress(int(state.global_step), self.steps, note)
