"""A real vLLM in a process of its own, from the environment that `make test-vllm` builds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PYTHON = os.environ.get("CONFIDE_VLLM_PYTHON", "")
STARTS_S = 240
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class Server:
    """A running server; ``post`` asks it."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """What it answers, or ``{"status": 400, "error": …}``."""
        data = json.dumps({"model": "m", **body}).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                told: dict[str, Any] = json.loads(response.read())
                return told
        except urllib.error.HTTPError as error:
            return {"status": error.code, "error": error.read().decode()}

    def chat(self, messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
        """A chat completion of up to 24 tokens, whose token ids come along."""
        return self.post(
            "/v1/chat/completions", **{"messages": messages, "max_tokens": 24, "return_token_ids": True} | more
        )

    def stream(self, messages: list[dict[str, str]], **more: Any) -> list[dict[str, Any]]:
        """The pieces of a streamed chat completion."""
        body = {"model": "m", "messages": messages, "max_tokens": 24, "stream": True, **more}
        request = urllib.request.Request(
            self.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            lines = [line.decode().removeprefix("data: ").strip() for line in response]
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def vllm_server(folder: Path, log: Path, dtype: str = "float32", *flags: str, threads: int = 1) -> Iterator[Server]:
    """Serve a folder as the model ``m``; its output goes to ``log``. It is stopped at the end.

    ``threads`` compute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "m",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", dtype, "--enforce-eager", "--max-model-len", "1024",
        "--kv-cache-memory-bytes", "200000000", "--max-num-seqs", "16", *flags,
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= SETTINGS | {"OMP_NUM_THREADS": str(threads)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Server(port)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then insist; the processes that it started end with it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when ``url`` answers; raises with the end of the log when the process ends before."""
    ends = time.monotonic() + STARTS_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    lines = log.read_text(errors="replace").splitlines()
    causes = [line for line in lines if "Error: " in line]  # the end of the log is only what came of them
    raise RuntimeError("\n".join(["vLLM did not start:", *causes, *lines[-20:]]))
