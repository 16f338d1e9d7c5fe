"""RLMF: reinforcement learning with metacognitive feedback (Liu et al. 2026, 2606.32032).

A model that states its confidence (`confide.training.format_stage`) is trained further by GRPO on its own completions;
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

from confide.checkpoint import load_checkpoint
from confide.engines.transformers import TransformersEngine
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text
from confide.models import load_model
from confide.records import Record
from confide.tasks import Task
from confide.training.agreement import SentenceJudge, check_resolution
from confide.training.format_stage import STATEMENTS, FormatConfig, about_model, train_format
from confide.training.rollouts import Policy, Stating, ask, look
from confide.training.self_ref import same_run, save_model

if TYPE_CHECKING:
    from confide.training.rlmf_trainer import RLMFConfig, RLMFTrainer

OWN = ("best.safetensors", "guard.json")
"""Files beside TRL's in a checkpoint: the best adapter so far, and what the guard knows."""


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
    if config.intrinsic == "group":
        check_resolution(int(config.num_generations or 0), config.tolerance)
    check_resolution(samples + 1, config.tolerance)
    with locked(out):
        start = model_name
        if load_checkpoint_method(model_name) != "graded":
            start = str(out / "format")
            formed = train_format(model_name, task, train, validation, statement or FormatConfig(), Path(start))
            if config.max_steps == 0:
                return _only_formed(Path(start), out, formed)
        began = time.perf_counter()
        trainer, guard, base = _prepared(start, model_name, task, train, validation, config, out, judge, rank, samples)
        if progress is not None:
            trainer.add_callback(_Told(progress, config.max_steps))
        same_run(out / "run.json", _run(config, start, train, validation, rank, samples))
        guard.begin(guard.resume_from)
        trainer.train(resume_from_checkpoint=None if guard.resume_from is None else str(guard.resume_from))
        guard.restore(trainer.model)
        steps = int(trainer.state.global_step)
        model = trainer.model.merge_and_unload()
        model.__dict__.pop("forward", None)  # TRL's patch, which would keep the trainer's closure alive
        result = RLMFResult(
            out,
            steps,
            guard.best_step,
            guard.seen[0]["numbers"],
            guard.best,
            guard.stopped,
            time.perf_counter() - began,
            trainer.judged_seconds,
        )
        stating = trainer.stating
        training = {
            "rlmf": {k: v for k, v in vars(result).items() if k != "folder"},
            "config": added(config),
            "looks": guard.seen,
        }
        save_model(
            model,
            stating.engine.tokenizer,
            out,
            about_model(base, stating.name, list(stating.engine.grades), training),
        )
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return result


def load_checkpoint_method(name: str) -> str | None:
    """How a model folder was trained, None for any other model."""
    return load_checkpoint(Path(name)).method if Path(name).is_dir() else None


def added(config: RLMFConfig) -> dict[str, Any]:
    """The settings that matter of a run, without TRL's hundred defaults."""
    from confide.training.rlmf_trainer import RLMFConfig

    names = [name for name in RLMFConfig.__annotations__ if name not in ("report_to", "disable_tqdm")]
    return {name: getattr(config, name) for name in [*names, "seed", "max_completion_length"]}


def _run(
    config: RLMFConfig, start: str, train: Sequence[Record], validation: Sequence[Record], rank: int, samples: int
) -> dict[str, Any]:
    data = {"train": [r.id for r in train], "validation": [r.id for r in validation]}
    return {"config": added(config), "start": start, "rank": rank, "samples": samples, "data": data}


def _only_formed(start: Path, out: Path, formed: dict[str, Any]) -> RLMFResult:
    for path in start.iterdir():
        if path.is_file() and path.name not in ("run.json", ".lock"):
            shutil.copy2(path, out / path.name)
    seen = formed["validation"]
    return RLMFResult(out, 0, 0, seen, seen, "", float(formed["seconds"]), 0.0)


def _prepared(
    start: str,
    model_name: str,
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

    from confide.training.rlmf_trainer import Log, RLMFTrainer
    from confide.training.supervised import last_checkpoint

    warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    checkpoint = load_checkpoint(Path(start))
    statement = str(checkpoint.about["signals"]["confidence"]["statement"])
    base = str(checkpoint.about.get("base_model", model_name))
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
    guard = Guard(stating, task, held, config, samples, last_checkpoint(out / "checkpoints"))
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
    guard.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer, guard, base


class Guard(TrainerCallback):
    """Looks at validation rows while a run trains: keeps the best adapter, stops a run that collapses.

    Best is the highest cMFG* among the looks whose accuracy has not fallen by more than the margin. The starting model
    is the first look: a run that only gets worse gives it back.
    """

    def __init__(
        self,
        stating: Stating,
        task: Task,
        asked: Sequence[Any],
        config: RLMFConfig,
        samples: int,
        resume_from: Path | None,
    ):
        self.stating, self.task, self.asked, self.config, self.samples = stating, task, asked, config, samples
        self.resume_from = resume_from
        self.trainer: RLMFTrainer | None = None
        self.seen: list[dict[str, Any]] = []
        self.best_step = 0
        self.adapter: dict[str, torch.Tensor] = {}
        self.stopped = ""
        self.alike = 0

    @property
    def best(self) -> dict[str, float]:
        """The numbers of the look that was kept."""
        return dict(next(look["numbers"] for look in self.seen if look["step"] == self.best_step))

    def begin(self, checkpoint: Path | None) -> None:
        """Look at the start, or go on from what a checkpoint's guard knew."""
        if checkpoint is None:
            self.look(0)
            return
        from safetensors.torch import load_file

        state = json.loads(read_text(checkpoint / "guard.json"))
        self.seen, self.best_step, self.alike = state["seen"], state["best_step"], state["alike"]
        self.adapter = load_file(checkpoint / "best.safetensors")
        assert self.trainer is not None
        self.trainer.usual.load_state_dict(state["usual"])

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
            seed=self.config.seed,
        )
        model.train(training)
        numbers = {name: value for name, value in found.numbers().items() if math.isfinite(value)}
        self.seen.append({"step": step, "numbers": numbers})
        fallen = self.seen[0]["numbers"]["accuracy"] - numbers["accuracy"]
        if len(self.seen) == 1 or (
            fallen <= self.config.accuracy_margin and numbers["cmfg_star"] > self.best["cmfg_star"]
        ):
            self.best_step = step
            self.adapter = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if "lora_" in n}
        if fallen > self.config.accuracy_margin:
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
