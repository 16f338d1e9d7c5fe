"""Progress of long work: how callers are told of it, and how the command line shows it, on a terminal and in a file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, str], None]
"""What long work calls with how many steps are done, how many there are, and a note."""

SILENCE_S = 5.0
"""A line that says no more than that work goes on comes after so many seconds without another."""


class ProgressLines:
    """Progress as lines, where nobody watches a bar: one a tenth of the work, and one after every silence.

    Args:
        title: what each line starts with.
        write: takes a line.
        clock: gives seconds that only grow.
    """

    def __init__(self, title: str, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self.title = title
        self._write = write
        self._clock = clock
        self._began = self._told = clock()
        self._done, self._of, self._note = 0, 0, ""
        self._tenth = 0
        self._lock = threading.Lock()

    def update(self, done: int, of: int, note: str) -> None:
        """Take in how far work has come, and tell it where another tenth is done."""
        with self._lock:
            if of != self._of:
                self._tenth = 0
            self._done, self._of, self._note = done, of, note
            tenth = 10 * done // of if of else 0
            if tenth > self._tenth:
                self._tenth = tenth
                self._tell()

    def beat(self) -> None:
        """Tell that work goes on, where nothing was told for `SILENCE_S`."""
        with self._lock:
            if self._clock() - self._told >= SILENCE_S:
                self._tell()

    def _tell(self) -> None:
        self._told = self._clock()
        share = f" {self._done} of {self._of} ({self._done / self._of:.0%})," if self._of else ""
        note = f", {self._note}" if self._note else ""
        self._write(f"{self.title}:{share} {self._told - self._began:.0f} s{note}")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show progress on standard error, so that standard output stays clean; a changed total starts over.

    A terminal shows a bar, anything else gets lines (`ProgressLines`).
    """
    if sys.stderr is not None and not sys.stderr.isatty():
        with _lines(title) as progress:
            yield progress
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}", markup=False),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")
        total: int | None = None

        def update(done: int, of: int, note: str) -> None:
            nonlocal total
            if of != total:
                bar.reset(task, total=of)
                total = of
            bar.update(task, completed=done, note=note)

        yield update


@contextmanager
def _lines(title: str) -> Iterator[Progress]:
    lines = ProgressLines(title, lambda line: print(line, file=sys.stderr, flush=True))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(SILENCE_S / 5):
            lines.beat()

    thread = threading.Thread(target=beat, daemon=True, name="progress")
    thread.start()
    try:
        yield lines.update
    finally:
        ended.set()
        thread.join()
