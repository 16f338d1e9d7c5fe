"""A real Ray cluster of one machine and two CPUs, from the environment that `make test-ray` builds."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vllm_server import PYTHON, stop

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
        parents = {pid: parent for pid, parent, _ in _processes()}
        return [pid for pid, _, title in _processes() if title.startswith(WORKER) and self._is_mine(pid, parents)]

    def _is_mine(self, pid: int, parents: dict[int, int]) -> bool:
        while pid in parents:
            if pid == self._process.pid:
                return True
            pid = parents[pid]
        return False


@contextmanager
def ray_head(log: Path) -> Iterator[Head]:
    """Start a cluster, whose output goes to ``log``; it is stopped at the end."""
    ports = _free_ports(2)
    command = [
        PYTHON, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(ports[0]), "--num-cpus", "2",
        "--include-dashboard", "false", "--disable-usage-stats",
        "--temp-dir", f"/tmp/ray-{ports[0]}",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(), start_new_session=True)
    try:
        wait_until(lambda: b"Ray runtime started" in log.read_bytes(), process)
        yield Head(process, ports[0])
    finally:
        stop(process)


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


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
