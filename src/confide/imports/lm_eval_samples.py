"""Samples of lm-evaluation-harness (``--log_samples``): answers written, or chosen among options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json

from confide.errors import ConfideError
from confide.imports.logged_rows import Imported, asked, chosen, of_words, right, texts

TOOL = "lm-evaluation-harness"
_FILE = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T.*")

Row = tuple[str, dict[str, Any]]


def is_samples(row: dict[str, Any]) -> bool:
    """Whether a line is a sample of the harness."""
    return {"doc_id", "resps"} <= row.keys()


def read_samples(rows: Sequence[Row], path: Path, label: str | None, only: str | None) -> Imported:
    """Records of a file of samples.

    Args:
        rows: where each line is, and what it holds.
        path: the file; its name tells the task.
        label: the metric that says what is right; None: the first of a task.
        only: the filter whose answers are taken; None: the first of a task.

    Raises:
        ConfideError: an unknown metric or filter, a metric that is not 0 or 1, or a line that lacks a part.
    """
    metrics = texts(name for _, row in rows for name in row.get("metrics", ()))
    metric = chosen(label, metrics, "metric", str(path))
    by = chosen(only, texts(row.get("filter", "none") for _, row in rows), "filter", str(path))
    found = Imported(TOOL, label=metric, labels=metrics)
    match = _FILE.fullmatch(path.stem)
    task = match["task"] if match else path.stem
    for place, row in rows:
        if row.get("filter", "none") != by:
            continue
        where = f"{path}, {place}"
        try:
            name, data = row["doc_id"], _answer(row)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ConfideError(f"{where} is no sample of {TOOL}: {error!r}") from None
        if data is None:
            found.left_out["no answer of the model's own, but the log-probability of one that was given"] += 1
            continue
        grade = {"correct": right(row.get(metric), metric, where), "reference": row.get("target")}
        found.rows.append((place, {"id": f"{task}-{name}", "domain": task} | data | grade))
    return found


def _answer(row: dict[str, Any]) -> dict[str, Any] | None:
    """What the model was asked and answered; None where it answered nothing by itself."""
    calls = row["arguments"]
    calls = list(calls.values()) if isinstance(calls, dict) else calls
    pairs = [(call["arg_0"], call.get("arg_1")) if isinstance(call, dict) else (call[0], call[1]) for call in calls]
    prompt, second = pairs[0]
    if isinstance(second, dict):
        return {"messages": _messages(prompt), **of_words(str(_first(row["filtered_resps"])))}
    if len(pairs) < 2:
        return None
    # Where the prompts differ and the continuation does not, the options are in the prompts.
    options = [str(end).strip() for _, end in pairs]
    if len(set(options)) < len(options):
        options = [f"{start}{end}".strip() for start, end in pairs]
    sums = np.array([float(_first(one)) for one in row["resps"]][: len(options)])
    shares = np.exp(sums - sums.max())
    best = int(sums.argmax())
    data: dict[str, Any] = {
        "kind": "choice",
        "messages": _messages(prompt),
        "choices": options,
        "answer": options[best],
        "answered": options[best],
        "confidence": {"option_probability": float(shares[best] / shares.sum()), "logprob_sum": min(sums[best], 0.0)},
    }
    if all(len(option) == 1 for option in options):
        data["option_logprobs"] = sums.tolist()  # one token each, so that the sum is that of a token
    return data


def _first(value: Any) -> Any:
    """The first number or text inside lists."""
    while isinstance(value, list):
        value = value[0]
    return value


def _messages(prompt: Any) -> list[dict[str, Any]]:
    """A prompt as messages; of a chat template's turns, which stand in it as JSON, the turns."""
    text = str(_first(prompt))
    try:
        turns = from_json(text)
    except ValueError:
        return asked(text)
    told = isinstance(turns, list) and all(isinstance(turn, dict) and "role" in turn for turn in turns)
    return turns if told and turns else asked(text)
