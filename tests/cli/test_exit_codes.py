"""One table of exit codes for all verbs, held by the real command line in a process of its own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confide.cli.exit_codes import ExitCode
from policy_runs import foreign, write
from upstreams import Upstream, policy_file

MAIN = "import sys; sys.argv[0] = 'confide'; from confide.cli.main import main; main()"
SAVED = Path(__file__).parents[1] / "methods" / "saved"


def confide(*arguments: object, before: str = "", **options) -> subprocess.CompletedProcess[bytes]:
    """``confide ARGUMENTS`` as a process, after the statements ``before``."""
    command = [sys.executable, "-c", f"{before}\n{MAIN}", *map(str, arguments)]
    return subprocess.run(command, check=False, **({"capture_output": True} | options))


@pytest.fixture
def files(tmp_path):
    """A policy and the rows that it holds on, does not hold on, and cannot be judged by."""
    rows = {
        "good": [row | {"correct": i % 10 != 0} for i, row in enumerate(foreign(900, prefix="g"))],
        "bad": [row | {"correct": i % 2 == 0} for i, row in enumerate(foreign(900, prefix="b"))],
        "few": foreign(20, seed=6, prefix="f"),
        "r": foreign(1500),
    }
    for name, some in rows.items():
        write(tmp_path / f"{name}.jsonl", some)
    done = confide("calibrate", tmp_path / "r.jsonl", "--max-risk", 0.2, "--out", tmp_path / "policy.json")
    assert done.returncode == ExitCode.DONE, done.stderr
    return tmp_path


def test_each_answer_of_validate_has_its_code(files):
    for name, code in [("good", ExitCode.DONE), ("bad", ExitCode.NO), ("few", ExitCode.CANNOT_SAY)]:
        assert confide("validate", files / "policy.json", files / f"{name}.jsonl").returncode == code, name
    assert confide("validate", files / "policy.json", files / "absent.jsonl").returncode == ExitCode.BAD_INPUT
    assert confide("validate").returncode == ExitCode.BAD_INPUT


def test_a_goal_that_cannot_be_met_is_a_no_and_writes_nothing(files):
    done = confide("calibrate", files / "bad.jsonl", "--max-risk", 0.01, "--out", files / "none.json")
    assert done.returncode == ExitCode.NO
    assert not (files / "none.json").exists()


@pytest.mark.parametrize(
    "raised", ["ValueError('boom')", "EOFError()", "AssertionError()", "RecursionError('x')", "KeyError('boom')"]
)
def test_a_fault_of_confide_is_no_verdict(files, raised):
    broken = (
        "import confide.policies.validation as v\n"
        f"def fail(*a, **k): raise {raised}\n"
        "v.validate_policy = fail"
    )  # fmt: skip
    done = confide("validate", files / "policy.json", files / "good.jsonl", before=broken)
    assert done.returncode == ExitCode.FAULT
    assert b"Traceback" in done.stderr
    assert b"please report it" in done.stderr


def test_too_little_memory_is_said_in_one_sentence(files):
    for raised in ("MemoryError('4 TiB')", "type('OutOfMemoryError', (RuntimeError,), {})('4 TiB')"):
        broken = f"import confide.policies.validation as v\ndef fail(*a, **k): raise {raised}\nv.validate_policy = fail"
        done = confide("validate", files / "policy.json", files / "good.jsonl", before=broken)
        assert done.returncode == ExitCode.BAD_INPUT
        assert b"not enough memory" in done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["tasks"], ["--help"], ["tasks", "--json"], ["validate", "policy.json", "good.jsonl"], ["validate"]]
)
def test_a_closed_pipe_is_no_verdict(files, arguments):
    read, written = os.pipe()
    os.close(read)  # nobody reads, as after `| head -1`
    both = arguments == ["validate"]  # a usage error goes to standard error
    done = confide(*arguments, cwd=files, capture_output=False, stdout=written, stderr=written if both else -1)
    os.close(written)
    assert done.returncode == ExitCode.CLOSED_PIPE
    assert not done.stderr, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_said(files):
    with open("/dev/full", "wb") as full:
        done = confide("tasks", "--json", capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == ExitCode.BAD_INPUT
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert b"No space left" in done.stderr


def test_output_may_be_closed_from_the_start(files):
    command = f"{sys.executable} -c {shlex.quote(MAIN)} tasks --json >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == ExitCode.DONE


def test_an_interrupted_verb_says_so(files):
    slow = (
        "import confide.policies.validation as v, time\n"
        "def wait(*a, **k): print('ready', flush=True); time.sleep(60)\n"
        "v.validate_policy = wait"
    )  # fmt: skip
    command = [sys.executable, "-c", f"{slow}\n{MAIN}", "validate", "policy.json", "good.jsonl"]
    process = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in told


def test_a_router_that_is_interrupted_says_so(tmp_path):
    with Upstream().running() as upstream:
        config = tmp_path / "serve.yaml"
        policy_file(tmp_path)
        config.write_text(
            f"small: {{base_url: '{upstream.url}', model: tiny}}\n"
            f"policy: {policy_file(tmp_path).name}\nstore: sqlite:///c.db\n"
        )
        command = [sys.executable, "-c", MAIN, "serve", "--config", str(config), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert b"confide serves" in process.stdout.readline()
        time.sleep(1)  # until uvicorn has put its own signal handlers in place
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, told
    assert b"Traceback" not in told
    assert (tmp_path / "c.db").exists()


def test_every_code_stands_in_the_documentation_with_its_meaning():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]
