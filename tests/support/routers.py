"""Starts and stops servers as processes of their own: the stub and ``confide serve`` in front of it.

Layout: the router under test has one core to itself (the last one); stub and load generator share the others. On a
single core nothing is pinned.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confide.records import Record, write_records
from confide.serving.api_keys import hash_key

HERE = Path(__file__).parent
KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"
CORES = sorted(os.sched_getaffinity(0))
ROUTER_CORES = set(CORES[-1:])
OTHER_CORES = set(CORES[:-1]) or set(CORES)


@dataclass
class Server:
    """A process that listens on a port of this machine."""

    name: str
    command: list[str]
    port: int
    ready: str
    log: Path
    cores: set[int]  # where it may run; empty: anywhere
    env: dict[str, str] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, seconds: float = 120) -> Server:
        """Start it and wait until it answers; raises `SystemExit` with its last words when it does not."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.log.parent,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cores or CORES),
            )
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if self.answers():
                return self
            time.sleep(0.05)
        self.kill()
        raise SystemExit(
            f"{self.name} did not start:\n{self.log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
        )

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()

    def answers(self) -> bool:
        """Whether it says 200 to its readiness path."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.ready}", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def rss_mb(self) -> float:
        """Resident memory in MB (10⁶ bytes) of the process and its children."""
        return sum(_rss(pid) for pid in [self.pid, *_children(self.pid)]) / 1e6

    def cpu_seconds(self) -> float:
        """Processor time used so far by the process and its children."""
        return sum(_cpu(pid) for pid in [self.pid, *_children(self.pid)])

    def kill(self) -> None:
        """Kill it without a chance to clean up (SIGKILL), and its children."""
        if self.process is not None and self.process.poll() is None:
            for pid in [*_children(self.pid), self.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask it to end, then insist."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self) -> str:
        """What it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="utf-8").split():
            found += [int(child), *_children(int(child))]
    return found


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def stub(work: Path, name: str = "small", *, delay_ms: float, tokens: int = 2, token_ms: float = 0.0) -> Server:
    """The stand-in model server."""
    port = free_port()
    command = [sys.executable, str(HERE / "stub_server.py"), "--port", str(port)]
    command += ["--delay-ms", str(delay_ms), "--name", name, "--tokens", str(tokens), "--token-ms", str(token_ms)]
    return Server(f"stub-{name}", command, port, "/count", work / f"stub-{name}.log", OTHER_CORES)


def write_policy(path: Path, *, last_resort: str | None = None) -> None:
    """A policy of ``confide calibrate`` that keeps the stub's sure answers and escalates its unsure ones."""
    rows = [
        Record(id=str(n), confidence={"logprob_sum": (0.9 if n % 2 else 0.4) + 0.00005 * n}, correct=n % 2 == 1)
        for n in range(1000)
    ]
    write_records(path.parent / "calibration.jsonl", rows)
    command = [sys.executable, "-m", "confide.cli.main", "calibrate", str(path.parent / "calibration.jsonl")]
    command += ["--source", "logprob_sum", "--max-risk", "0.1", "--out", str(path)]
    command += ["--last-resort", last_resort] if last_resort else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def confide(work: Path, small: int, experts: dict[str, int] | None = None, **settings: Any) -> Server:
    """``confide serve`` in front of the stub on port ``small``, storing every decision in a new SQLite file.

    ``settings`` replace keys of serve.yaml.
    """
    (work / "confide.log").unlink(missing_ok=True)
    write_policy(work / "policy.json", last_resort=settings.pop("last_resort", None))
    config = {
        "policy": str(work / "policy.json"),
        "small": {"base_url": f"http://127.0.0.1:{small}/v1", "model": "small"},
        "experts": [
            {"name": name, "base_url": f"http://127.0.0.1:{at}/v1", "model": name}
            for name, at in (experts or {}).items()
        ],
        "api_keys": [{"name": "load", "hash": hash_key(KEY), "scopes": ["ask", "feedback", "read"]}],
    } | settings
    return serve(work, "confide", config, ROUTER_CORES)


def serve(work: Path, name: str, config: dict[str, Any], cores: set[int]) -> Server:
    """``confide serve`` with a configuration, on a free port, with a new SQLite file ``NAME.db``."""
    port, path = free_port(), work / f"{name}.yaml"
    for old in work.glob(f"{name}.db*"):
        old.unlink()
    common = {"port": port, "store": f"sqlite:///{work.resolve() / name}.db", "audit_share": 0.0}
    path.write_text(json.dumps(common | config, indent=1), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "confide.cli.main", "serve", "--config", str(path.resolve())]
    return Server(name, command, port, "/readyz", work / f"{name}.log", cores)
