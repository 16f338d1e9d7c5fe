"""Annotating and scoring on a real cluster of two workers: `make test-ray` runs it, everything else skips it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.records import Record, read_records
from ray_head import Head, ended, kill, ray_head, script, started, wait_until
from vllm_server import PYTHON

pytestmark = [
    pytest.mark.ray,
    pytest.mark.model,
    pytest.mark.skipif(not PYTHON, reason="CONFIDE_VLLM_PYTHON is not set: run `make test-ray`"),
]
ASK = ("annotate", "--task", "geography", "--limit", "64", "--batch-size", "8")
READ = "stack,probe,portable,logprob_sum,entropy,question_only,answer_only,constant,shuffled"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("ray") / "head.log") as head:
        yield head


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of one machine."""
    out = tmp_path_factory.mktemp("one") / "records.jsonl"
    assert ended(*ASK, "--out", out)[0] == 0
    return out


def but_for_its_time(path: Path) -> list[Record]:
    return [record.model_copy(update={"cost": {}}) for record in read_records(path)]


def files(out: Path) -> list[Path]:
    return sorted(out.glob("*.parquet"))


def test_two_workers_give_the_records_of_one_machine(head: Head, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told, err = ended(*ASK, "--out", out, "--ray", head.address, "--workers", "2", "--json")
    assert code == 0
    assert json.loads(told)["new"] == 64
    assert but_for_its_time(out) == but_for_its_time(one)
    assert len(files(out)) >= 8
    assert "annotating: 64 of 64 (100%)" in err
    assert "2 workers" in err
    before = [path.stat().st_mtime_ns for path in files(out)]
    files(out)[3].unlink()
    code, told, _ = ended(*ASK, "--out", out, "--ray", head.address, "--json")
    assert code == 0
    assert 0 < json.loads(told)["new"] <= 8
    assert but_for_its_time(out) == but_for_its_time(one)
    after = [path.stat().st_mtime_ns for path in files(out)]
    assert before[:3] + before[4:] == after[:3] + after[4:]
    code, _, err = ended(*ASK, "--out", out, "--ray", head.address, "--max-new-tokens", "9")
    assert code == 2
    assert "was made with other settings (max-new-tokens 20, now 9)" in err


def test_a_worker_is_killed_twice_and_no_question_is_lost_or_there_twice(head: Head, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(*ASK, "--out", out, "--ray", head.address, "--workers", "2")
    killed: set[int] = set()
    for count in (1, 3):
        wait_until(lambda count=count: len(files(out)) >= count and set(head.workers()) - killed, process)
        victim = min(set(head.workers()) - killed)
        kill(victim)
        killed.add(victim)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(killed) == 2
    assert but_for_its_time(out) == but_for_its_time(one)


def test_a_killed_driver_goes_on_where_it_ended(head: Head, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(*ASK, "--out", out, "--ray", head.address, "--workers", "2")
    wait_until(lambda: len(files(out)) >= 2, process)
    kill(process.pid)
    process.communicate()
    there = {path: path.stat().st_mtime_ns for path in files(out)}
    assert 0 < len(there) < 8
    code, told, _ = ended(*ASK, "--out", out, "--ray", head.address, "--workers", "2", "--json")
    assert code == 0
    assert json.loads(told)["new"] < 64
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert but_for_its_time(out) == but_for_its_time(one)


def test_scores_are_those_of_one_machine(head: Head, one: Path, tmp_path: Path) -> None:
    assert ended("train", "stack", one, "--out", tmp_path / "trained")[0] == 0
    how = ("score", one, "--model", tmp_path / "trained", "--source", READ)
    assert ended(*how, "--out", tmp_path / "one.jsonl")[0] == 0
    assert ended(*how, "--out", tmp_path / "out", "--ray", head.address, "--workers", "2")[0] == 0
    ours, theirs = but_for_its_time(tmp_path / "out"), but_for_its_time(tmp_path / "one.jsonl")
    assert [row.answer_ids for row in ours] == [row.answer_ids for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert row.confidence == pytest.approx(other.confidence, abs=1e-6)
    assert sum(row.confidence["stack"] is not None for row in ours) > 20


OUT_OF_MEMORY = """
import os, signal, sys
from functools import partial
from pathlib import Path
from confide.cli.main import ended
from confide.cluster import annotate_on_ray, ray_cluster
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.tasks import load_task
from tiny_model import tiny_model

def load(how, device):
    if device == "cpu":  # the driver's
        model, tokenizer = tiny_model(context=512)
        return TransformersEngine(model.float(), tokenizer, "tiny")
    if how == "killed":  # as the system's own killer does it
        os.kill(os.getpid(), signal.SIGKILL)
    import ray.exceptions
    raise {"torch": MemoryError, "ray": ray.exceptions.OutOfMemoryError}[how]("no room")

def run():
    with ray_cluster(sys.argv[1], 1) as cluster:
        annotate_on_ray(cluster, partial(load, sys.argv[2]), load_task("geography", limit=20), Path(sys.argv[3]))

sys.exit(ended(run))
"""


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("killed", "died 4 times over the same rows, most likely because it ran out of memory"),
        ("ray", "ran out of memory"),
    ],
)
def test_a_worker_without_memory_ends_in_a_sentence_that_says_what_to_do(
    head: Head, tmp_path: Path, how: str, told: str
) -> None:
    """A worker ends while it loads its model: killed as Linux kills it, or with Ray's own exception."""
    code, err = script(OUT_OF_MEMORY, head.address, how, tmp_path / "out")
    assert code == 2, err
    assert "Traceback" not in err
    assert told in err
    assert "fewer questions at once (--batch-size)" in err


def test_where_no_cluster_answers_the_run_ends_soon(tmp_path: Path) -> None:
    with socket.socket() as other:  # takes connections and says nothing
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (1, other.getsockname()[1]):
            code, _, err = ended(*ASK, "--out", tmp_path / "out", "--ray", f"127.0.0.1:{port}")
            assert code == 2
            assert f"no Ray cluster answers at 127.0.0.1:{port} (waited at most 15 s)" in err
