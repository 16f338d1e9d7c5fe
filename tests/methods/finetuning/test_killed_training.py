"""Training that is killed, wherever: the folder is no trained model until the run has ended, and then it is the one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import confide
from confide.errors import ConfideError
from confide.methods import checkpoint
from confide.methods.finetuning import supervised
from confide.methods.finetuning.runs import same_rows, same_run
from confide.methods.rlmf import format_stage, reinforcement, training_guard
from confide.methods.rlmf.reinforcement import RLMFResult, train_rlmf
from confide.methods.self_ref import self_ref_training
from confide.methods.self_ref.self_ref_training import train_self_ref
from confide.records import Record, write_records
from self_ref_rows import QUICK as SELF_REF
from self_ref_rows import rows_of, toy
from stating_model import QUICK, quick, saved, toy_records, toy_task
from tiny_model import tiny_model
from training_run import run, train

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = replace(SELF_REF, epochs=3, patience=1)


def split_rows() -> list[Record]:
    """Rows to train on and rows to choose the epoch on."""
    return [row.model_copy(update={"split": "train" if i % 4 else "validation"}) for i, row in enumerate(toy())]


REFUSED = re.compile("not saved to its end|is not a model folder")


class Kill(BaseException):
    """What nobody catches."""


def kill_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int = 1, *, after: bool = False) -> None:
    """Die at a call of a function, or right after it."""
    real, calls = getattr(module, name), iter(range(1, 1_000_000))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            raise Kill
        result = real(*args, **kwargs)
        if now:
            raise Kill
        return result

    monkeypatch.setattr(module, name, deadly)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def self_ref(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    train_self_ref(*tiny_model(), split_rows(), CONFIG, out)
    return out


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (supervised.SupervisedTrainer, "compute_loss", 1),
        (supervised.SupervisedTrainer, "compute_loss", 8),
        (supervised.SupervisedTrainer, "evaluate", 2),
        (supervised, "load_best", 1),
        (self_ref_training, "merge_adapter", 1),
        (self_ref_training, "save_checkpoint", 1),
        (checkpoint, "write_text", 1),
    ],
)
def test_self_ref_goes_on_and_ends_like_an_unbroken_run(
    self_ref: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, module, name, call)
        with pytest.raises(Kill):
            train_self_ref(*tiny_model(), split_rows(), CONFIG, tmp_path / "out")
    with pytest.raises(ConfideError, match=REFUSED):
        confide.load(tmp_path / "out")
    train_self_ref(*tiny_model(), split_rows(), CONFIG, tmp_path / "out")
    assert_same_weights(tmp_path / "out", self_ref)
    assert confide.load(tmp_path / "out").info.trained


@pytest.mark.parametrize(("what", "folder"), [("self_ref", "."), ("reader", "adapter")])
def test_a_run_that_was_killed_ends_bit_for_bit_like_an_unbroken_one(tmp_path: Path, what: str, folder: str) -> None:
    """By SIGKILL, in the middle of the second epoch."""
    train(what, tmp_path / "whole", {})
    killed = run(what, tmp_path / "killed", also={"KILLED_AT": "9"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in (tmp_path / "killed" / "checkpoints").glob("checkpoint-*")]
    train(what, tmp_path / "killed", {})
    written = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")}
    assert any(path.parent == Path(folder) for path in written)
    for path in written:
        assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "killed" / path).read_bytes(), path


def test_a_run_killed_while_it_clears_up_is_no_start_for_another(
    self_ref: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        kill_at(patch, shutil, "rmtree")
        with pytest.raises(Kill):
            train_self_ref(*tiny_model(), split_rows(), replace(CONFIG, seed=5), out)
    (out / "checkpoints" / "run.json").unlink()  # gone first, with all checkpoints still there
    train_self_ref(*tiny_model(), split_rows(), CONFIG, out)
    assert_same_weights(out, self_ref)


def run_rlmf(base: str, out: Path) -> RLMFResult:
    config = quick(out, save_steps=1, eval_steps=1, patience=100, max_steps=3)
    return train_rlmf(base, toy_task(), toy_records(), config, out, statement=QUICK, rank=4, samples=6)


@pytest.fixture(scope="module")
def rlmf(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, RLMFResult]:
    folder = tmp_path_factory.mktemp("rlmf")
    base = saved(folder / "base")
    return base, folder / "out", run_rlmf(base, folder / "out")


@pytest.mark.parametrize(
    ("module", "name", "call", "after"),
    [
        (format_stage, "save_stated", 1, True),
        (format_stage, "fit", 2, False),
        (training_guard.Guard, "on_save", 1, False),
        (training_guard.Guard, "on_save", 3, True),  # all steps are taken: one more would be one too many
        (reinforcement, "save_stated", 1, False),
        (checkpoint, "write_text", 2, False),
    ],
)
def test_rlmf_goes_on_and_ends_like_an_unbroken_run(
    rlmf: tuple[str, Path, RLMFResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str,
    call: int, after: bool,
) -> None:  # fmt: skip
    base, whole, expected = rlmf
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        kill_at(patch, module, name, call, after=after)
        with pytest.raises(Kill):
            run_rlmf(base, out)
    with pytest.raises(ConfideError, match=REFUSED):
        confide.load(out)
    found = run_rlmf(base, out)
    assert (found.steps, found.best_step) == (expected.steps, expected.best_step)
    assert_same_weights(out, whole)
    assert_same_weights(out / "format", whole / "format")


def test_a_trained_folder_without_a_note_of_its_run_does_not_pass_as_this_run(
    rlmf: tuple[str, Path, RLMFResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, whole, _ = rlmf
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    trained: list[int] = []
    train = reinforcement._Run.train
    monkeypatch.setattr(reinforcement._Run, "train", lambda *given: (trained.append(1), train(*given))[1])
    run_rlmf(base, tmp_path / "out")
    assert trained


def test_checkpoints_of_an_unknown_run_are_removed_and_those_of_this_one_stay(tmp_path: Path) -> None:
    part = tmp_path / "checkpoint-3"
    part.mkdir()
    assert not same_run(tmp_path / "run.json", {"seed": 1}, [part])
    assert not part.exists()
    part.mkdir()
    assert same_run(tmp_path / "run.json", {"seed": 1, "new": 2}, [part])
    assert part.exists()
    with pytest.raises(ConfideError, match="seed 1, now 2"):
        same_run(tmp_path / "run.json", {"seed": 2}, [part])


def test_other_validation_rows_are_another_run(tmp_path: Path) -> None:
    """They choose the epoch and when a run ends."""
    rows = rows_of(toy(6))[3]
    first = same_rows(tmp_path, rows[:4], rows[4:], CONFIG, "weights")
    assert same_rows(tmp_path, rows[:4], rows[4:], CONFIG, "weights") == first
    with pytest.raises(ConfideError, match="held"):
        same_rows(tmp_path, rows[:4], rows[5:], CONFIG, "weights")
    with pytest.raises(ConfideError, match="data"):
        same_rows(tmp_path, rows[:3], rows[4:], CONFIG, "weights")


def _until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not happened():
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)


def test_the_verb_killed_with_sigkill_is_run_again(tmp_path: Path) -> None:
    base, records, out = saved(tmp_path / "base"), tmp_path / "r.jsonl", tmp_path / "out"
    write_records(records, split_rows())
    config = tmp_path / "config.yaml"
    config.write_text("epochs: 40\npatience: 40\nlearning_rate: '0.02'\n")
    verb = [sys.executable, "-m", "confide.cli.main", "train", "self-ref", "--model", base, str(records)]
    verb += ["--config", str(config), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*verb, str(out)], env=environment, stderr=subprocess.DEVNULL)
    _until(lambda: any(out.glob("checkpoints/checkpoint-*/trainer_state.json")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(ConfideError, match="is not a model folder"):
        confide.load(out)
    for folder in (out, tmp_path / "whole"):
        assert subprocess.run([*verb, str(folder)], env=environment, stderr=subprocess.DEVNULL).returncode == 0
    assert_same_weights(out, tmp_path / "whole")
