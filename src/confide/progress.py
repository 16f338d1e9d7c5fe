"""One progress bar for every long verb, on standard error so that standard output stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar; yields a function of (done, total, note). A changed total starts the bar over."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")
        total: int | None = None

        def update(done: int, of: int, note: str) -> None:
            nonlocal total
            if of != total:
                bar.reset(task, total=of)
                total = of
            bar.update(task, completed=done, note=note)

        yield update
