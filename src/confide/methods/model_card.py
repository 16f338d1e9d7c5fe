"""The model card of an exported folder: what it is and what it is worth, how to load it, and its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.engines.openai.exported_reader import FILE as READER
from confide.engines.openai.exported_reader import FOLDER
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.methods.checkpoint import CheckpointInfo
from confide.sources import in_order

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"
_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_BUNDLED = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the hub calls the model that confide brings."""
_METRICS = {"auroc": ("AUROC", "roc_auc"), "brier": ("Brier", "brier_score"), "ece": ("ECE", "ece"),
            "smooth_ece": ("smooth ECE", "smooth_ece")}  # fmt: skip
"""Metric → what the table and the card's metadata call it."""
_GIVES = {"self_ref": ("self_ref",), "reader": ("reader",), "served": ("stack_served",), "stated": ("graded", "tagged")}
"""Kind of export → the sources that it gives; others of a table are what it is compared with."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def write_card(folder: Path, info: CheckpointInfo, results: Mapping[str, Any] | None, name: str) -> None:
    """Write the card of an exported folder.

    Args:
        folder: the exported folder.
        info: what ``confide.json`` of the trained folder says.
        results: what `read_results` gives; None: no table.
        name: what the hub will call the model.
    """
    from huggingface_hub import ModelCard, ModelCardData

    kind = _kind(folder, info)
    base = _BUNDLED.get(info.base_model, info.base_model)
    data = ModelCardData(
        model_name=name,
        base_model=base if _HUB_NAME.fullmatch(base) and not Path(base).exists() else None,
        library_name="transformers" if kind != "served" else "vllm",
        pipeline_tag="text-generation",
        tags=["confidence", "calibration", "uncertainty", "confide"],
        eval_results=_eval_results(results or {}, kind) or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=name,
        kind=kind,
        tokens=list(info.confidence.verdict_ids),
        ids=list(info.confidence.verdict_ids.values()),
        base=base if data.base_model else Path(base).name or "not known",
        versions=", ".join(f"{package} {number}" for package, number in info.versions.items()).removeprefix("confide "),
        rows=_counted(info.training_rows),
        data=f"`{info.training_data_sha256}`" if info.training_data_sha256 else "not kept",
        judged=_judged(results) if results else "",
        table=_table(results) if results else "",
    )
    write_text(folder / CARD, str(card).rstrip() + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """What ``confide evaluate`` wrote; raises `ConfideError` for anything else."""
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise ConfideError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("schema") != 1 or not found.get("estimators"):
        raise ConfideError(f"{path} is no results.json of `confide evaluate`")
    return found


def _kind(folder: Path, info: CheckpointInfo) -> str:
    """How the confidence of an exported folder is read, as the template tells kinds apart."""
    if "confide" in json.loads(read_text(folder / "config.json")):
        return "served"
    if info.confidence.method in ("self_ref", "stated"):
        return info.confidence.method
    return "reader" if (folder / FOLDER / READER).exists() else "plain"


def _counted(rows: int | Mapping[str, int] | None) -> str:
    if isinstance(rows, Mapping):
        return ", ".join(f"{count:,} {label}" for label, count in rows.items())
    return "not kept" if rows is None else f"{rows:,}"


def _judged(results: Mapping[str, Any]) -> str:
    split = f" of the split `{results['split']}`" if results.get("split") else ""
    right = "" if results.get("accuracy") is None else f", of whose answers {results['accuracy']:.1%} are right"
    return f"On {results['n']:,} graded rows{split}{right}:"


def _table(results: Mapping[str, Any]) -> str:
    """The judged sources as a Markdown table, in the order of reports."""
    there = [name for name in _METRICS if any(_value(one, name) for one in results["estimators"].values())]
    lines = [f"| source | {' | '.join(_METRICS[name][0] for name in there)} |", f"|---|{'---:|' * len(there)}"]
    for source in in_order(results["estimators"]):
        cells = [_value(results["estimators"][source], name) or "–" for name in there]
        lines.append(f"| `{source}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(estimator: Mapping[str, Any], name: str) -> str:
    """A figure with its interval; "" where there is none."""
    found = estimator.get(name) or {}
    if found.get("value") is None:
        return ""
    span = "" if found.get("low") is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{span}"


def _eval_results(results: Mapping[str, Any], kind: str) -> list[EvalResult]:
    """What the hub's metadata say of the sources that this export gives."""
    from huggingface_hub import EvalResult

    judged = results.get("estimators", {})
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Predicting whether an answer is right",
            dataset_type="confide-records",
            dataset_name=f"{results['n']} graded rows",
            dataset_split=results.get("split") or None,
            metric_type=told,
            metric_name=f"{shown} of {source}",
            metric_value=round(judged[source][name]["value"], 4),
        )
        for source in _GIVES.get(kind, ())
        if source in judged
        for name, (shown, told) in _METRICS.items()
        if _value(judged[source], name)
    ]
