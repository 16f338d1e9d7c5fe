"""``confide`` in copies of one process that has loaded torch already: a command then starts in no time.

    python warm_confide.py SOCKET        waits for commands at a Unix socket, until its standard input ends

A command comes as JSON (arguments, folder, environment) with its three streams; its exit code goes back.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback

SHIM = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect({socket!r})
    told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(warm, [len(told).to_bytes(8, "big")], [0, 1, 2])
    warm.sendall(told)
    code = warm.recv(1)
sys.exit(code[0] if code else 70)
"""
HEAVY = (
    "torch", "transformers", "confide.cli.main", "confide.model", "confide.engines.transformers.transformers_engine",
    "confide.methods.catalogue", "confide.methods.frozen.frozen_training", "confide.methods.self_ref.self_ref_training",
    "confide.evaluation", "confide.policies", "confide.report", "confide.serving.http.application", "openai",
)  # fmt: skip


def run(caller: socket.socket) -> None:
    """Run one command in this copy, and end."""
    size, streams, _, _ = socket.recv_fds(caller, 8, 3)
    told = b""
    while len(told) < int.from_bytes(size, "big"):
        told += caller.recv(65536)
    arguments, folder, environment = json.loads(told)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    threading.Thread(target=stop_with_caller, args=(caller,), daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, "")
    sys.argv = ["confide", *arguments]
    try:
        importlib.import_module("confide.cli.main").main()
        code: object = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code if isinstance(code, int) and 0 <= code < 256 else 1]))
    os._exit(0)


def stop_with_caller(caller: socket.socket) -> None:
    """Be stopped when the command that stands for this copy is."""
    if not caller.recv(1):
        os.kill(os.getpid(), signal.SIGTERM)


def stop_with_parent() -> None:
    """End when the one who started this process has."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        threading.Thread(target=stop_with_parent, daemon=True).start()
        while True:
            caller, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                run(caller)
            caller.close()


if __name__ == "__main__":
    main()
