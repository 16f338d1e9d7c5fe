"""``confide split``: give the rows of a records file new splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from confide.cli.flags import Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.outputs import say
from confide.cli.printing import names_in, print_json
from confide.errors import ConfideError


def split(
    records: Annotated[Path, Argument(help="Records, as annotate wrote them.")],
    out: Annotated[Path, Option(help="Records file to write, with the rows that are used.")],
    by: Annotated[str, Option(help="standard, answered-country or relation.")] = "standard",
    sizes: Annotated[str, Option(help="Rows in each split.")] = "train=2000,validation=500,calibration=1000,test=3000",
    held_out: Annotated[str | None, Option(help="The held-out relation, or held-out answers separated by |.")] = None,
    domains: Annotated[str | None, Option(help="answered-country: test rows come from these domains (a,b,…).")] = None,
    seed: Annotated[int, Option(help="Another seed, another draw.")] = 0,
    json: Json = False,
) -> None:
    """Assign splits by entity and write the records with them; rows that are not used are left out.

    Example: `confide split R.jsonl --by answered-country --domains city_country --out shifted.jsonl`
    """
    from confide.records import check_records_file, read_records, write_records
    from confide.tasks.splits import assign_splits, check_splits

    check_records_file(out)
    rows = read_records(records)
    assigned = assign_splits(
        rows,
        by,
        parse_sizes(sizes),
        seed,
        held_out=held_out.split("|") if held_out else None,
        domains=names_in(domains) if domains else None,
    )
    kept = [row.model_copy(update={"split": assigned[row.id]}) for row in rows if row.id in assigned]
    if not kept:
        raise ConfideError(f"--sizes {sizes} leaves no row")
    if problems := check_splits(kept):
        raise ConfideError(f"{records}: {'; '.join(problems)}")
    write_records(out, kept)
    counts = Counter(assigned.values())
    if json:
        print_json({"out": str(out), "rows": dict(counts), "unused": len(rows) - len(kept)})
    else:
        parts = ", ".join(f"{name} {count}" for name, count in counts.items())
        say(out, f"{out}: {parts}; {len(rows) - len(kept)} rows are not used")
        tell_next("confide train portable", out, "--out", beside(out, "portable"))


def parse_sizes(text: str) -> dict[str, int]:
    """Read ``train=2000,test=500``."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, count = part.partition("=")
        if not count.strip().isdecimal():
            raise ConfideError(f"sizes are written train=2000,test=500, not {text!r}")
        sizes[name.strip()] = int(count)
    return sizes
