"""Runs of TRL's trainers: what a folder's checkpoints belong to, where a run continues, how its progress is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from confide.engines.transformers.adapter import trained
from confide.files import read_text, write_text
from confide.hashing import sha256_of_rows
from confide.methods import processes
from confide.methods.finetuning.labelled_rows import LabelledRow
from confide.methods.finetuning.supervised_config import SupervisedConfig
from confide.progress import Progress
from confide.settings import check_settings


def same_run(path: Path, run: dict[str, Any], parts: Sequence[Path]) -> bool:
    """Note in ``path`` what a folder's checkpoints belong to; whether it was noted before.

    What is among ``parts`` (folders of checkpoints, files that mark an end) without such a note is of a run that nobody
    knows, and is removed: a run that went on from it would end without having learned anything.

    Raises:
        ConfideError: the folder holds another run; the settings that differ are named, with both values.
    """
    known = json.loads(read_text(path)) if path.exists() else None
    if known is None:
        for part in parts:
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    else:
        check_settings(f"{path.parent} holds a run that", known, json.loads(json.dumps(run)))
    write_text(path, json.dumps(run))
    return known is not None


def same_rows(
    checkpoints: Path, rows: Sequence[LabelledRow], held: Sequence[LabelledRow], config: SupervisedConfig, weights: str
) -> str:
    """Note in a folder which rows, settings and weights its checkpoints belong to; returns a hash of the ``rows``.

    Args:
        held: rows that choose the epoch.
        weights: the identity of the model that is trained.

    Raises:
        ConfideError: as `same_run` does.
    """
    data, held_data = (sha256_of_rows([r.id, r.input_ids, r.labels] for r in some) for some in (rows, held))
    run = {"data": data, "held": held_data, "config": asdict(config), "weights": weights}
    processes.on_main(lambda: same_run(checkpoints / "run.json", run, list(checkpoints.glob("checkpoint-*"))))
    return data


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
        self.note, self.held = title, ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Report what was logged."""
        if logs and "reward" in logs:
            unreadable = float(logs.get("format_failures", 0.0))
            self.note = f"{self.title}, reward {float(logs['reward']):.2f}, {unreadable:.0%} unreadable"
        elif logs and "loss" in logs:
            self.note = f"{self.title}, loss {float(logs['loss']):.3f}{self.held}"
        elif logs and "eval_loss" in logs:
            self.held = f", on held-out rows {float(logs['eval_loss']):.3f}"
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step."""
        self.progress(int(state.global_step), int(state.max_steps), self.note)


def report_progress(trainer: Any, progress: Progress | None, title: str) -> None:
    """Report to ``progress`` in place of the trainer's own reports on standard output, which belongs to results."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if progress is not None and processes.is_main():
        trainer.add_callback(ProgressReport(progress, title))


def merge_adapter(adapted: Any) -> Any:
    """A trained model with its low-rank weights merged in, in evaluation mode; None for None."""
    return None if adapted is None else trained(adapted.merge_and_unload())
