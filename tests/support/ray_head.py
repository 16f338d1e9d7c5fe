"""A real Ray cluster of one machine and two CPUs, from the environment that `make test-ray` builds."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vllm_server import PYTHON

ROOT = Path(__file__).parents[2]
WAIT_S = 240
TOKEN = secrets.token_hex(32)
"""What clusters of these tests want of whoever joins them."""

WORKER = "ray::MapWorker"
"""What Ray calls the process of a worker that holds a model."""


class Head:
    """A running cluster: its ``address``, and the pids of its ``workers``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int):
        self.address = f"127.0.0.1:{port}"
        self._process = process

    def workers(self) -> list[int]:
        """Pids of the processes that hold a model."""
        return [pid for pid, _, title in _processes() if title.startswith(WORKER) and _descends(pid, self._process.pid)]


@contextmanager
def ray_head(log: Path) -> Iterator[Head]:
    """Start a cluster, whose output goes to ``log``; it is stopped at the end."""
    port = _free_port()
    folder = Path(tempfile.gettempdir()) / f"ray-{port}"  # sockets have short paths
    command = [
        PYTHON, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port), "--num-cpus", "2",
        "--include-dashboard", "false", "--disable-usage-stats",
        "--temp-dir", str(folder),
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(), start_new_session=True)
    try:
        wait_until(lambda: b"Ray runtime started" in log.read_bytes(), process)
        yield Head(process, port)
    finally:
        mine = [pid for pid, _, _ in _processes() if _descends(pid, process.pid)]
        for pid in [process.pid, *mine]:
            kill(pid)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def environment() -> dict[str, str]:
    """What processes of that environment get: one thread each, and the tests' own helpers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "support")))
    kept |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "NO_COLOR": "1"}


def started(*arguments: object) -> subprocess.Popen[str]:
    """A running ``confide`` of that environment."""
    return subprocess.Popen(
        [PYTHON, "-m", "confide", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def ended(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``confide``."""
    process = started(*arguments)
    out, err = process.communicate(timeout=WAIT_S)
    print(err, file=sys.stderr)
    return process.returncode, out, err


def script(text: str, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of a script in that environment."""
    command: Sequence[str] = [PYTHON, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=WAIT_S)
    return done.returncode, done.stderr


def wait_until(so: object, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Return when ``so`` is true; fails when the process ends before."""
    assert callable(so)
    ends = time.monotonic() + WAIT_S
    while not so():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.05)


def kill(pid: int) -> None:
    """End a process as a machine without memory does."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _processes() -> list[tuple[int, int, str]]:
    """Pid, parent and title of every process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(folder.name), parent, title))
    return found


def _descends(pid: int, ancestor: int) -> bool:
    """Whether a process was started by another one, or by one that it started."""
    parents = {pid: parent for pid, parent, _ in _processes()}
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
