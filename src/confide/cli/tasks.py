"""``confide tasks``: what can be asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer import Option

from confide.cli.printing import print_json
from confide.errors import ConfideError


def tasks(json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List the tasks that have a name: kind, number of test questions, licence, and what they need.

    Example: `confide tasks`. Any question file (JSON lines, CSV, Parquet) is a task too.
    """
    from confide.tasks import available_tasks
    from confide.tasks.generated import INSTALL, PREFIX, generators

    rows = available_tasks()
    try:
        names = generators()
    except ConfideError:
        names = []
    if json:
        print_json({"tasks": [asdict(row) for row in rows], "generators": [f"{PREFIX}{name}" for name in names]})
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("task", "kind", "size", "from", "licence"):
        table.add_column(header, no_wrap=True, justify="right" if header == "size" else "left")
    table.add_column("what it asks")
    for row in rows:
        size = "any" if row.size is None else f"{row.size:,}"
        table.add_row(row.name, row.kind, size, row.source.partition(":")[0], row.licence, row.what)
    Console(soft_wrap=True, highlight=False).print(table)
    for line in (
        f"Generators of reasoning-gym: {', '.join(names) if names else f'not installed ({INSTALL})'}.",
        "Parts: NAME is the test part, NAME/train, NAME/validation are others; mmlu_SUBJECT is one subject of MMLU.",
        "Without a network: --data-dir FOLDER with NAME-test.jsonl, NAME-train.jsonl or NAME.jsonl.",
        "A question file (JSON lines, CSV, Parquet) is a task too: give its path.",
    ):
        typer.echo(line)
