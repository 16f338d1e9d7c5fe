"""Tables of a terminal: a narrow one shows fewer columns, and the name in the first one always."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_COLUMNS = 120
"""The width where no terminal says another."""


def make_console() -> Console:
    """A console on standard output, as wide as the terminal."""
    console = Console(highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = PIPED_COLUMNS
    return console


def print_table(
    console: Console,
    columns: Sequence[tuple[str, Sequence[str]]],
    *,
    title: str | None = None,
    left: Sequence[str] = (),
) -> None:
    """Print a table; where it is too wide, without its less important columns, which a line below it names.

    Args:
        console: where to.
        columns: title and cells of each; the first one holds the names, the others come by their importance.
        title: what stands above.
        left: titles of the columns of text, which wraps; numbers are aligned at the right and never wrap.
    """
    widths = [max(map(cell_len, (name, *cells)), default=0) for name, cells in columns]
    least = [min(width, 14) if name in left else width for width, (name, _) in zip(widths, columns, strict=True)]
    shown = len(columns)
    while shown > 1 and sum(width + 2 for width in least[:shown]) > console.width:
        shown -= 1
    if title:
        console.print(title, markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for place, (name, _) in enumerate(columns[:shown]):
        text = place == 0 or name in left
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for cells in zip(*(cells for _, cells in columns[:shown]), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
    if hidden := [name for name, _ in columns[shown:]]:
        console.print(f"(a wider terminal also shows {', '.join(hidden)})", markup=False)
