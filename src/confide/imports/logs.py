"""Which tool a log is of, and its answers as records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import from_json

from confide.arguments import as_path
from confide.data_files import read_table, table_in
from confide.errors import ConfideError
from confide.files import read_bytes
from confide.imports import inspect_log, lm_eval_samples, openai_requests, trl_completions
from confide.imports.logged_rows import Imported

KNOWN = (
    "lm-evaluation-harness (samples_*.jsonl), inspect_ai (a log in JSON), TRL (completions_*.parquet), and OpenAI's "
    "shape (the output of a batch, or lines of a request and its response)"
)


def import_log(
    path: Path, *, label: str | None = None, only: str | None = None, requests: Path | None = None
) -> Imported:
    """Read answers that another tool has logged.

    Args:
        path: the log; whose it is, is seen from what it holds.
        label: the metric, scorer or reward that says which answers are right; None: the first.
        only: the filter of lm-evaluation-harness whose answers are taken; None: the first.
        requests: the input of an OpenAI batch, which holds its questions.

    Returns:
        Its answers; `Imported.records` makes records of them.

    Raises:
        ConfideError: no log of a known tool, or a broken one.
    """
    path = as_path(path)
    data = read_bytes(path)
    if data.startswith(b"PK"):
        raise ConfideError(f"{path} is packed: write it as JSON first (inspect log dump {path.name} > log.json)")
    if (whole := _object(data)) is not None and inspect_log.is_log(whole):
        return inspect_log.read_log(whole, path, label)
    table = table_in(data, path)
    if table.columns is not None:
        if trl_completions.is_completions(table.columns):
            return trl_completions.read_completions(list(table.rows), table.columns, path, label)
        raise ConfideError(f"{path} is no log of {KNOWN}; scores in columns need no import: confide evaluate {path}")
    rows = list(table.rows)
    first = rows[0][1] if rows else {}
    if lm_eval_samples.is_samples(first):
        return lm_eval_samples.read_samples(rows, path, label, only)
    if openai_requests.is_logged(first):
        return openai_requests.read_requests(rows, path, _requests(requests) if requests else {})
    raise ConfideError(f"{path} is no log of {KNOWN}")


def _object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that is all of a file; None for lines and anything else."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        found = from_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _requests(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of a batch's input by their ``custom_id``."""
    lines = {str(row.get("custom_id")): row for _, row in read_table(path).rows}
    if "None" in lines:
        raise ConfideError(f"{path} is no input of a batch: a line has no custom_id")
    return lines
