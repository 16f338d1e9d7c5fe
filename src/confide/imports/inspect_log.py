"""Logs of inspect_ai, written as JSON: one answer for each sample and epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.imports.logged_rows import Imported, chosen, of_words, right, texts

TOOL = "inspect_ai"
_GRADES = {"C": 1, "I": 0, "N": 0, "P": None}
"""Correct, incorrect, no answer (which counts as wrong), partly correct (which is neither)."""
_CUTS = ("max_tokens", "model_length")


def is_log(data: dict[str, Any]) -> bool:
    """Whether a JSON object is a log of inspect_ai."""
    return {"eval", "status"} <= data.keys()


def read_log(data: dict[str, Any], path: Path, label: str | None) -> Imported:
    """Records of a log; of a run that failed those of the samples that it finished.

    Args:
        data: the log.
        path: its file.
        label: the scorer that says what is right; None: the first.

    Raises:
        ConfideError: a log without samples, an unknown scorer, one that does not say right or wrong, or a sample that
            lacks a part.
    """
    samples = data.get("samples") or []
    if not samples:
        ended = f"; the run ended with {data['status']}" if data["status"] != "success" else ""
        raise ConfideError(f"{path} has no samples{ended}")
    scorers = texts(name for sample in samples for name in sample.get("scores") or ())
    scorer = chosen(label, scorers, "scorer", str(path))
    found = Imported(TOOL, label=scorer, labels=scorers)
    several = any(sample.get("epoch", 1) > 1 for sample in samples)
    for sample in samples:
        where = f"{path}, sample {sample.get('id')}"
        if sample.get("error"):
            found.left_out["the run failed on it"] += 1
            continue
        try:
            row = _row(sample, data["eval"], several)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ConfideError(f"{where} is no sample of {TOOL}: {error!r}") from None
        if row is None:
            found.left_out["no answer"] += 1
            continue
        score = (sample.get("scores") or {}).get(scorer) or {}
        value = score.get("value")
        row["correct"] = right(_GRADES.get(value, value) if isinstance(value, str) else value, scorer, where)
        found.rows.append((f"sample {sample['id']}", row))
    return found


def _row(sample: dict[str, Any], run: dict[str, Any], several: bool) -> dict[str, Any] | None:
    """A sample as the values of a record; None where the model answered nothing."""
    choices = sample["output"].get("choices") or []
    if not choices:
        return None
    choice, entity = choices[0], str(sample["id"])
    messages = [turn for turn in sample["messages"] if turn["role"] in ("system", "user", "assistant", "tool")]
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    row: dict[str, Any] = {
        "id": f"{entity}-{sample['epoch']}" if several else entity,
        "entity": entity,
        "domain": run.get("task", ""),
        "model": run.get("model", ""),
        "messages": [{"role": turn["role"], "content": turn["content"]} for turn in messages],
        "reference": sample.get("target"),
        "finish": "length" if choice.get("stop_reason") in _CUTS else "stop",
        **of_words(sample["output"]["completion"]),
    }
    if sample.get("choices"):
        row |= {"kind": "choice", "choices": sample["choices"]}
    told = (choice.get("logprobs") or {}).get("content") or []
    if told:
        row["logprobs"] = [token["logprob"] for token in told]
    return row
