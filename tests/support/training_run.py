"""A training on toy rows as a program, so that several processes can run it and one can be killed.

Arguments: what is trained (`reader`, `self_ref`), a folder, and settings as JSON. The losses go to ``FOLDER.json``.
With ``KILLED_AT`` in the environment it gets SIGKILL after so many steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import confide
from confide.methods import processes
from confide.methods.finetuning import supervised
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.self_ref.self_ref_training import train_self_ref
from confide.records import Record
from scored_model import engine, records
from self_ref_rows import QUICK, toy
from tiny_model import tiny_model

READER = ReaderConfig(epochs=3, patience=3, batch_size=8, learning_rate=2e-2, warmup_steps=0)
SELF_REF = replace(QUICK, epochs=3, patience=3, batch_size=8, learning_rate=2e-3, mask_wrong_answers=True)
SUPPORT = Path(__file__).parent


def split_rows(count: int = 64) -> list[Record]:
    """Rows to train on and rows to choose the epoch on; wrong ones, whose answers carry no label, in one piece."""
    rows = sorted(toy(count), key=lambda row: not row.correct)
    return [row.model_copy(update={"split": "train" if i % 4 else "validation"}) for i, row in enumerate(rows)]


def train(what: str, out: Path, settings: Mapping[str, Any]) -> None:
    """Train here."""
    if what == "reader":
        rows = records(80)
        some = ([r for r in rows if r.split == part] for part in ("train", "validation"))
        train_confidence(engine(), *some, FrozenOptions(), out, reader=replace(READER, **settings))
    else:
        how = {"tied": True, **settings}
        model = tiny_model(tied=how.pop("tied"))
        train_self_ref(*model, split_rows(), replace(SELF_REF, **how), out)


def run(
    what: str,
    out: Path,
    processes: int = 1,
    *,
    config: Path | None = None,
    also: Mapping[str, str] | None = None,
    **settings: Any,
) -> subprocess.CompletedProcess[str]:
    """Train in processes of their own, and wait for their end.

    Args:
        config: of ``accelerate launch``, in the place of torchrun.
    """
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    if config is not None:
        many = ["-m", "accelerate.commands.launch", "--config_file", str(config), f"--num_processes={processes}"]
        many += ["--main_process_port=0"]
    return subprocess.run(
        [sys.executable, *many, __file__, what, str(out), json.dumps(settings)],
        env=environment() | (also or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    """The environment of such processes: one thread each, and what imports this."""
    paths = [str(SUPPORT), str(Path(confide.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def told(out: Path) -> dict[str, list[float]]:
    """The losses of a run that has ended."""
    found: dict[str, list[float]] = json.loads(out.with_suffix(".json").read_text())
    return found


def shard_on_cpu() -> None:
    """Let accelerate shard on CPUs, too: it knows FSDP on accelerators only, and trains without it elsewhere."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    real = AcceleratorState.__init__

    def start(self: Any, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        real(self, *given, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
        if vars(self).get("fsdp_plugin") is not None:
            self.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = start


def every_step(config: Any, **settings: Any) -> Any:
    """Settings of TRL with which each step's loss is logged."""
    return config(**settings | {"logging_steps": 1})


@contextmanager
def recorded() -> Iterator[dict[str, list[float]]]:
    """What training logs inside."""
    history: dict[str, list[float]] = {"loss": [], "eval_loss": [], "grad_norm": []}
    real = supervised.SFTTrainer.log, supervised.SFTConfig

    def log(self: Any, logs: dict[str, float], *more: Any, **named: Any) -> None:
        for name in history.keys() & logs.keys():
            history[name].append(float(logs[name]))
        if len(history["loss"]) == int(os.environ.get("KILLED_AT", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)
        real[0](self, logs, *more, **named)

    supervised.SFTTrainer.log, supervised.SFTConfig = log, partial(every_step, real[1])
    try:
        yield history
    finally:
        supervised.SFTTrainer.log, supervised.SFTConfig = real


def main() -> None:
    out = Path(sys.argv[2])
    torch.set_num_threads(1)
    if processes.fully_sharded():
        shard_on_cpu()
    with recorded() as history:
        train(sys.argv[1], out, json.loads(sys.argv[3]))
    if processes.is_main():
        out.with_suffix(".json").write_text(json.dumps(history))


if __name__ == "__main__":
    main()
