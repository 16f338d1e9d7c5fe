"""What the verbs share: JSON on standard output, warnings, and lists that are given as one word."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

from confide.cli.outputs import say
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.records import Record


def print_json(data: Any, indent: int | None = None) -> None:
    """Print JSON on standard output."""
    typer.echo(dumps(data, ensure_ascii=False, indent=indent, default=_fields))


def print_result(out: Path, text: str, json: bool, **data: Any) -> None:
    """Print what a verb made at ``out``: in words, or as JSON with ``data`` beside them."""
    if json:
        print_json({"out": str(out), "summary": text, **data})
    else:
        say(out, text)


def _fields(value: Any) -> Any:
    """What a model of pydantic holds; raises `TypeError` for what is none."""
    if not isinstance(value, BaseModel):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return value.model_dump(mode="json")


def tell_source(sources: Sequence[str]) -> None:
    """Say on standard error whose confidence is taken where nobody named one."""
    taken = sources[0]
    if len(sources) > 1:
        taken = f"the best of {', '.join(sources)}, which share the level; --source takes one"
    typer.echo(f"Source: {taken}.", err=True)


def warn(sentence: str) -> None:
    """Print a warning on standard error."""
    typer.echo(f"Warning: {sentence}.", err=True)


def warn_of_shortages(records: Sequence[Record], *, training: bool = True) -> None:
    """Warn of what there is too little of in ``records`` for what comes next."""
    from confide.evaluation.enough_rows import shortages

    for sentence in shortages(records, training=training):
        warn(sentence)


def names_in(text: str) -> list[str]:
    """The names in a list that is separated by commas; `ConfideError` where there is none.

    >>> names_in("stack, logprob_sum,")
    ['stack', 'logprob_sum']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfideError(f"names separated by commas are expected, not {text!r}")
    return names
