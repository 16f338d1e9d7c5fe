"""Runs the code blocks of a page as a reader would: in their order, in one folder, servers beside them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from page_blocks import Block, Page, PageError, read_page
from page_server import page_server

ROOT = Path(__file__).parents[2]
SERVES = re.compile(r"(?:\.venv/bin/)?confide serve(?![^\n]*--hash-key)")
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<=localhost:)\d+|(?<=--port )\d+|(?<=^port: )\d+", re.MULTILINE)
ENDPOINT = re.compile(r"\{endpoint ?([^}]*)\}")
STARTS_S = 600
WORD = re.compile(r"[^\W\d_]{2,}")


class BrokenBlockError(AssertionError):
    """A block did not do what its page says."""


@contextmanager
def commands(folder: Path) -> Iterator[Path]:
    """A folder with ``confide`` and ``python`` as a reader has them on the path; what starts them ends with it."""
    from warm_confide import SHIM

    address = str(folder / "warm")
    shim = folder / "shim.py"
    shim.write_text(SHIM.format(socket=address))
    for name, line in {"confide": f'"{sys.executable}" -S -E "{shim}"', "python": f'"{sys.executable}"'}.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        path.chmod(0o755)
    script = Path(__file__).with_name("warm_confide.py")
    with subprocess.Popen([sys.executable, script, address], stdin=subprocess.PIPE) as warm:
        try:
            _until(lambda: Path(address).exists(), warm, "confide's process")
            yield path.parent
        finally:
            assert warm.stdin is not None
            warm.stdin.close()


@dataclass
class PageRuns:
    """Runs pages, each once, below ``folder``; ``binaries`` come first on the path."""

    folder: Path
    binaries: Path
    ended: dict[Path, Path | Exception] = field(default_factory=dict)

    def run(self, path: Path) -> Path:
        """The folder that a page leaves; a page that has run is not run again.

        Raises:
            BrokenBlockError: a block failed, here or on a page in whose folder this one starts.
            PageError: what the page tells its test cannot be meant.
        """
        path = path.resolve()
        if path not in self.ended:
            self.ended[path] = BrokenBlockError(f"{path.name} was broken off")
            try:
                self.ended[path] = self._run(read_page(path))
            except (BrokenBlockError, PageError) as error:
                self.ended[path] = error
        result = self.ended[path]
        if isinstance(result, Exception):
            raise result
        return result

    def _run(self, page: Page) -> Path:
        folder = self.folder / f"{len(self.ended)}-{page.path.stem}" / "reader"
        if page.starts_from:
            shutil.copytree(self.run(page.starts_from), folder, symlinks=True)
        else:
            folder.mkdir(parents=True)
        if not (folder / ".venv").exists():
            (folder / ".venv").mkdir()
            (folder / ".venv" / "bin").symlink_to(self.binaries)
        with ExitStack() as up, contextlib.chdir(folder):
            one = _OnePage(page, folder, self.binaries, up)
            for block in page.blocks:
                one.do(block)
        return folder


class _OnePage:
    """The state between the blocks of one page."""

    def __init__(self, page: Page, folder: Path, binaries: Path, up: ExitStack):
        self.page, self.folder, self.up = page, folder, up
        self.printed = ""
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.ports: dict[str, str] = {}
        self.environment = dict(os.environ) | {
            "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(folder)]),
            "COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        page.changes = {old: ENDPOINT.sub(self._endpoint, new) for old, new in page.changes.items()}

    def _endpoint(self, found: re.Match[str]) -> str:
        """The address of a stand-in for a server of the model that the page names."""
        url = self.up.enter_context(page_server(found[1] or "tiny"))
        port = url.removesuffix("/v1").rpartition(":")[2]
        self.ports[port] = port
        return url

    def do(self, block: Block) -> None:
        """Run one block, or hold what the page shows against what was printed."""
        if block.skip:
            self.printed = ""
            return
        text = PORT.sub(self._free_port, self.page.changed(block.text))
        if block.kind == "file":
            path = self.folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif block.kind == "shell":
            self.printed = self._shell(block, text)
        elif block.kind == "python":
            self.printed = self._python(block, text)
        elif block.kind == "output" and block.compared and self.printed and (strange := unlike(text, self.printed)):
            raise self._broken(block, f"the page shows {strange!r}; printed was:\n{self.printed}")

    def _shell(self, block: Block, text: str) -> str:
        """What a block prints; its servers stay until the page ends, the rest runs when they listen."""
        printed, before = "", ""
        for line in _logical_lines(text):
            if SERVES.match(line):
                printed += self._bash(block, before)
                before = ""
                self._serve(block, line)
            else:
                before += line
        return printed + self._bash(block, before, block.exit_codes)

    def _bash(self, block: Block, script: str, codes: tuple[int, ...] = (0,)) -> str:
        if not script.strip():
            return ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode not in codes:
            due = " or ".join(map(str, codes))
            raise self._broken(block, f"{script.strip()}\nended with {done.returncode}, not {due}:\n{done.stdout}")
        return done.stdout

    def _serve(self, block: Block, line: str) -> None:
        """Start a router, and wait until it listens."""
        asked = re.search(r"--port (\d+)", line)
        port = asked[1] if asked else self._configured_port() or self._port("8000")
        command = line.strip().rstrip("&") + ("" if asked else f" --port {port}")
        command = f"exec {command}"
        log = self.folder / f"serve-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euc", command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out,
            )  # fmt: skip
        self.up.callback(_stop, process)
        try:
            _until(lambda: _listens(int(port)), process, line.strip())
        except BrokenBlockError as error:
            raise self._broken(block, f"{error}:\n{log.read_text()}") from None

    def _configured_port(self) -> str:
        """The port that a configuration in the folder names, which was made a free one when it was written."""
        told = "\n".join(path.read_text() for path in self.folder.glob("*.yaml"))
        found = re.search(r"^port: (\d+)", told, re.MULTILINE)
        return found[1] if found else ""

    def _python(self, block: Block, text: str) -> str:
        out = io.StringIO()
        name = f"{self.page.path.name}:{block.line}"
        sys.path.insert(0, str(self.folder))
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(text, name, "exec"), self.names)
        except Exception:
            raise self._broken(block, traceback.format_exc()) from None
        finally:
            sys.path.remove(str(self.folder))
        return out.getvalue()

    def _free_port(self, found: re.Match[str]) -> str:
        return self._port(found[0])

    def _port(self, named: str) -> str:
        """The free port that stands for the one that a page names."""
        if named not in self.ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.ports[named] = str(free.getsockname()[1])
            self.ports[self.ports[named]] = self.ports[named]
        return self.ports[named]

    def _broken(self, block: Block, why: str) -> BrokenBlockError:
        return BrokenBlockError(f"{self.page.path.name}, line {block.line}: {why}")


def _logical_lines(text: str) -> list[str]:
    """Lines, with those that go on behind a backslash."""
    return re.findall(r"(?:[^\n]*\\\n)*[^\n]*\n|[^\n]+$", text)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(holds: Any, process: subprocess.Popen[bytes], what: str) -> None:
    end = time.monotonic() + STARTS_S
    while not holds():
        if process.poll() is not None or time.monotonic() > end:
            raise BrokenBlockError(f"{what} did not start")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def unlike(shown: str, printed: str) -> str | None:
    """A line that a page shows and nothing printed resembles: half of its words, numbers left out, are in one line.

    Lines with "…" say that something was left out and are not compared.
    """
    lines = [set(WORD.findall(line)) for line in printed.splitlines()]
    for line in shown.splitlines():
        words = set(WORD.findall(line))
        if words and "…" not in line and not any(2 * len(words & other) >= len(words) for other in lines):
            return line
    return None
