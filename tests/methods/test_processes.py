"""Training in two processes gives what one process gives: the same losses, and a folder that reads alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import confide
from confide.errors import ConfideError
from confide.methods import processes
from confide.methods.reader.reader import FOLDER
from confide.records import write_records
from scored_model import records
from stating_model import saved
from training_run import environment, recorded, run, split_rows, told, train

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_close(one: Path, other: Path, atol: float = 1e-4) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], atol=atol, err_msg=name)


FSDP = Path(__file__).parents[2] / "examples" / "fsdp.yaml"


@pytest.mark.parametrize(
    ("what", "config", "settings"),
    [
        ("self_ref", None, {"kl_weight": 0.1}),
        ("reader", None, {}),
        ("self_ref", FSDP, {"kl_weight": 0.1, "tied": False, "gradient_checkpointing": True}),
        ("reader", FSDP, {}),
    ],
)
def test_two_processes_train_as_one(tmp_path, what, config, settings):
    one, two = tmp_path / "one", tmp_path / "two"
    with recorded() as alone:
        train(what, one, settings)
    ended = run(what, two, 2, config=config, **settings)
    assert ended.returncode == 0, ended.stderr
    for name, values in told(two).items():
        assert values == pytest.approx(alone[name], rel=1e-3, abs=1e-4), name
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())
    known, known_two = (json.loads((out / "confide.json").read_text()) for out in (one, two))
    assert known.keys() == known_two.keys()
    assert known["training_data_sha256"] == known_two["training_data_sha256"]
    rows = split_rows(4) if what == "self_ref" else records(4)
    if what == "reader":
        assert_close(one / FOLDER / "adapter_model.safetensors", two / FOLDER / "adapter_model.safetensors")
        first, second = (load_file(out / "confide.safetensors") for out in (one, two))
        assert all(np.array_equal(first[name], second[name]) for name in first), "the stack is the very same"
    else:
        assert_close(one / "model.safetensors", two / "model.safetensors")
    asked = [[message.model_dump() for message in row.messages] for row in rows]
    said = [[confide.load(out).answer(question).confidence for question in asked] for out in (one, two)]
    assert said[0] == pytest.approx(said[1], abs=1e-3)


def test_the_command_line_speaks_and_writes_once(tmp_path):
    rows = tmp_path / "rows.jsonl"
    write_records(rows, [row.model_copy(update={"model": ""}) for row in records(60)])
    model = saved(tmp_path / "base")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "confide"]
    command += ["train", "stack", str(rows), "--model", model, "--out", str(tmp_path / "two")]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("stack on layers") == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("training:")]
    assert len(lines) == len(set(lines))
    assert (tmp_path / "two" / "confide.json").exists()


def test_a_process_alone_agrees_with_itself():
    array = np.arange(3.0)
    processes.merge(array)
    assert array.tolist() == [0.0, 1.0, 2.0]
    assert (processes.rank(), processes.count(), processes.is_main()) == (0, 1, True)
    assert processes.on_main(lambda: 7) == 7


def test_batches_go_round_and_the_last_one_fills_up(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, expected in (("0", [("a", True), ("d", True)]), ("1", [("b", True), ("d", False)])):
        monkeypatch.setenv("RANK", rank)
        assert processes.shared(["a", "b", "c", "d"]) == expected
    assert processes.shared([]) == []


def test_what_only_one_process_can_do_is_refused(monkeypatch):
    processes.refuse_many("this")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfideError, match="this runs in one process, not in 2: start it without torchrun"):
        processes.refuse_many("this")
