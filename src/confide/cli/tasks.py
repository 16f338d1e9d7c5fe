"""``confide tasks``: what can be asked."""

from __future__ import annotations

from dataclasses import asdict

import typer

from confide.cli.flags import Json
from confide.cli.last_lines import tell_next
from confide.cli.printing import print_json
from confide.cli.terminal_tables import make_console, print_table
from confide.errors import ConfideError


def tasks(json: Json = False) -> None:
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
    columns = [
        ("task", [row.name for row in rows]),
        ("what it asks", [row.what for row in rows]),
        ("kind", [row.kind for row in rows]),
        ("size", ["any" if row.size is None else f"{row.size:,}" for row in rows]),
        ("from", [row.source.partition(":")[0] for row in rows]),
        ("licence", [row.licence for row in rows]),
    ]
    print_table(make_console(), columns, left=("what it asks", "kind", "from", "licence"))
    for line in (
        f"Generators of reasoning-gym: {', '.join(names) if names else f'not installed ({INSTALL})'}.",
        "Parts: NAME is the test part, NAME/train, NAME/validation are others; mmlu_SUBJECT is one subject of MMLU.",
        "Without a network: --data-dir FOLDER with NAME-test.jsonl, NAME-train.jsonl or NAME.jsonl.",
        "A question file (JSON lines, CSV, Parquet) is a task too: give its path.",
    ):
        typer.echo(line)
    tell_next("confide annotate --task geography --out records.jsonl")
