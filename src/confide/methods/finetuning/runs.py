"""Runs of TRL's trainers: what a folder's checkpoints belong to, where a run continues, how its progress is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.progress import Progress


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
    names: list[str] = []
    for key in sorted({*a, *b}):
        first, second = a.get(key), b.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            names += different(first, second, f"{prefix}{key}.")
        elif first != second:
            names.append(prefix + key)
    return names


def last_checkpoint(folder: Path, also: Sequence[str] = ()) -> Path | None:
    """The newest checkpoint that was written to its end, None without one.

    The trainer's state file is the last of its own; ``also`` names files that are written after it.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if all((path / name).exists() for name in also):
            return path
    return None


class ProgressReport(TrainerCallback):
    """Reports every step of a trainer's run, with the newest loss or reward."""

    def __init__(self, progress: Progress, title: str):
        self.progress, self.title = progress, title
        self.note = title

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Report what was logged."""
        if logs and "reward" in logs:
            unreadable = float(logs.get("format_failures", 0.0))
            self.note = f"{self.title}, reward {float(logs['reward']):.2f}, {unreadable:.0%} unreadable"
        elif logs and "loss" in logs:
            self.note = f"{self.title}, loss {float(logs['loss']):.3f}"
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step."""
        self.progress(int(state.global_step), int(state.max_steps), self.note)


def report_progress(trainer: Any, progress: Progress | None, title: str) -> None:
    """Report to ``progress`` in place of the trainer's own reports on standard output, which belongs to results."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if progress is not None:
        trainer.add_callback(ProgressReport(progress, title))


def merge_adapter(trainer: Any) -> Any:
    """The trained model with its low-rank weights merged in, in evaluation mode."""
    model = trainer.model.merge_and_unload()
    model.__dict__.pop("forward", None)  # TRL's patch, which would keep the trainer's closure alive
    return model.eval()
