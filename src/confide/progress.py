"""Progress of long work: how callers are told of it, and the bar that the command line shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, str], None]
"""What long work calls with how many steps are done, how many there are, and a note."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar on standard error, so that standard output stays clean; a changed total starts the bar over."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")
        total: int | None = None

        def update(done: int, of: int, note: str) -> None:
            nonlocal total
            if of != total:
                bar.reset(task, total=of)
                total = of
            bar.update(task, completed=done, note=note)

        yield update
