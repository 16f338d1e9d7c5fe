"""Callbacks of a reinforcement run: the guard that keeps the best policy and stops a collapse, and the step log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from confide.files import read_text, write_text, written
from confide.methods.rlmf.feedback import RunningMean
from confide.methods.rlmf.rlmf_trainer import RLMFTrainer, evaluation_mode

GUARD_FILES = ("best.safetensors", "guard.json")
"""Files beside TRL's in a checkpoint, written after them: the best adapter so far, and the guard's state."""


class Guard(TrainerCallback):
    """Evaluates the policy on validation rows while a run trains: keeps the best adapter, stops a run that collapses.

    Best is the policy whose cMFG* is furthest above the best constant's, among those whose accuracy has not fallen by
    more than the margin; cMFG* alone would be won by a policy that always says the same. The starting model is
    evaluated first: a run that only gets worse gives it back.

    Args:
        trainer: the run.
        evaluate: gives the policy's numbers on the validation rows.
        resume_from: the checkpoint that the run goes on from, None at its start.
    """

    def __init__(self, trainer: RLMFTrainer, evaluate: Callable[[], dict[str, float]], resume_from: Path | None = None):
        self.trainer, self.evaluate, self.resume_from = trainer, evaluate, resume_from
        self.evaluations: list[dict[str, Any]] = []
        self.best_step = 0
        self.adapter: dict[str, torch.Tensor] = {}
        self.stopped = ""
        self.alike = 0
        self._seconds_before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the run has taken, the time before a resume included."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def start(self) -> dict[str, float]:
        """The numbers of the starting model."""
        return dict(self.evaluations[0]["numbers"])

    @property
    def best(self) -> dict[str, float]:
        """The numbers of the policy that was kept."""
        return dict(next(seen["numbers"] for seen in self.evaluations if seen["step"] == self.best_step))

    @property
    def ended(self) -> bool:
        """Whether the run had taken all of its steps before: the trainer would take one more."""
        return self.resume_from is not None and int(self.evaluations[-1]["step"]) >= int(self.trainer.args.max_steps)

    def begin(self) -> None:
        """Evaluate the start, or go on from the guard's state in a checkpoint."""
        if self.resume_from is None:
            self.evaluate_step(0)
            return
        state = json.loads(read_text(self.resume_from / "guard.json"))
        self.evaluations, self.best_step, self.alike = state["seen"], state["best_step"], state["alike"]
        self.stopped, self._seconds_before = state["stopped"], state["seconds"]
        self.adapter = load_file(self.resume_from / "best.safetensors")
        self.trainer.mean_z = RunningMean(**state["usual"])
        self.trainer.judged_seconds = state["judged_seconds"]

    def evaluate_step(self, step: int) -> None:
        """Evaluate the policy; keep its adapter where it is the best so far, and note why the run must stop."""
        model, margin = self.trainer.model, self.trainer.args.accuracy_margin
        with evaluation_mode(model):
            numbers = self.evaluate()
        self.evaluations.append({"step": step, "numbers": numbers})
        fallen, rows = self.start["accuracy"] - numbers["accuracy"], int(numbers["n"])
        if step == 0 or (fallen <= margin and numbers["above_floor"] > self.best["above_floor"]):
            self.best_step = step
            self.adapter = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if ".default." in n}
        if numbers["distinct"] <= 1 < self.start["distinct"]:
            self.stopped = f"step {step}: one confidence for all {rows} validation rows"
        elif fallen > margin:
            self.stopped = (
                f"step {step}: accuracy on {rows} validation rows fell from {self.start['accuracy']:.3f} to "
                f"{numbers['accuracy']:.3f}, more than {margin:g}"
            )

    def restore(self, model: Any) -> None:
        """Put the best adapter back."""
        parameters = dict(model.named_parameters())
        for name, value in self.adapter.items():
            parameters[name].data.copy_(value)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Watch the step's statements; evaluate the policy every ``eval_steps`` and at the end."""
        config, batch = self.trainer.args, self.trainer.batch
        stated = {c for row in batch.rollouts.stated for c in row if c is not None} if batch else set()
        self.alike = self.alike + 1 if len(stated) <= 1 else 0
        step = int(state.global_step)
        if step % int(config.eval_steps or 1) == 0 or step == config.max_steps:
            self.evaluate_step(step)
        if self.alike >= config.patience:
            value = next(iter(stated), None)
            what = "no confidence could be read" if value is None else f"every completion stated {value:g}"
            self.stopped = f"step {step}: {what} for {self.alike} steps in a row"
        if self.stopped:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what a resumed run needs, beside TRL's own files."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with written(folder / "best.safetensors") as part:
            save_file(self.adapter, part)
        known = {
            "seen": self.evaluations,
            "best_step": self.best_step,
            "alike": self.alike,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "judged_seconds": self.trainer.judged_seconds,
            "usual": vars(self.trainer.mean_z),
        }
        write_text(folder / "guard.json", json.dumps(known))


class StepLog(TrainerCallback):
    """Every step's numbers as JSON lines; a resumed run cuts what came after its checkpoint."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the lines up to the step that the run goes on from."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                if json.loads(line)["step"] <= state.global_step:
                    lines.append(line)
            except ValueError:
                break  # a kill left it half-written
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append one line."""
        numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float) and math.isfinite(v)}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"step": state.global_step, **numbers}) + "\n")
