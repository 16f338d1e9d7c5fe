"""``confide tasks``: what can be asked."""

from __future__ import annotations

from typing import Annotated

import typer


def tasks(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the bundled tasks, each with an example.

    Example: `confide tasks`. Any question file (.jsonl, .csv, .parquet) is a task too.
    """
    import json as json_module

    from rich.console import Console
    from rich.table import Table

    from confide.tasks import available_tasks, load_task

    rows = [(name, what, load_task(name, limit=1).questions[0].question) for name, what in available_tasks()]
    if json:
        keys = ("name", "what", "example")
        typer.echo(json_module.dumps([dict(zip(keys, row, strict=True)) for row in rows], ensure_ascii=False))
        return
    table = Table("task", "what it asks", "for example")
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print("A question file (.jsonl, .csv, .parquet) is a task too: give its path.", highlight=False)
