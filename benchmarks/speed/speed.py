"""How fast confide is beside its peers, as ratios within one run: ``python -m benchmarks.speed.speed``.

Each peer runs in an environment of its own (``--environments``; built where it is missing), both sides with the same
threads, weights, prompts and rows, in turn. What both found is compared before a ratio is believed. A section that has
been measured is not measured again: ``--only`` names one, ``--again`` forgets it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import MODEL, Json, Work, parser, write_result
from benchmarks.speed import own_work, speed_tables
from benchmarks.speed.side_process import compared, sides, versions_of
from benchmarks.speed.training_jobs import training_jobs

TASK = "geography"
ESTIMATORS = {"logprob_sum": "MaximumSequenceProbability", "logprob_mean": "Perplexity", "entropy": "MeanTokenEntropy"}
"""Source → lm-polygraph's estimator, which counts the token that ends an answer, too."""
SAME = 1e-3
"""Sums of log-probabilities in float32 that differ by less are the same."""


def prompts(count: int) -> Json:
    """The questions as token ids and as the text that gives them, in the order of the task."""
    from confide.annotation.asked_question import AskedQuestion
    from confide.engines.transformers.loading import resolve
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.tasks import load_task

    folder = resolve(MODEL)
    engine, task = TransformersEngine.load(folder, dtype="float32"), load_task(TASK, limit=count, seed=0)
    asked = [AskedQuestion.of(engine, task, question, None, None) for question in task.questions]
    rows = [
        {"id": one.id, "ids": one.prompt, "text": engine.tokenizer.decode(one.prompt, skip_special_tokens=False)}
        for one in asked
    ]
    return {"model": folder, "task": TASK, "count": count, "prompts": rows, "max_new_tokens": task.max_new_tokens}


def annotation(options: argparse.Namespace, folder: Path) -> Json:
    """Answers with their log-probabilities and grades, against generation and log-likelihood of the harness."""
    config = prompts(options.questions) | {
        "section": "annotation", "threads": options.threads, "confide_batch": 64, "lm_eval_batch": options.batch
    }  # fmt: skip
    with sides(config, "lm_eval", options.environments, folder) as (ours, theirs):
        figures, found, other = compared(ours, theirs, ("annotate", "annotate"), options.rounds)
        told = versions_of(ours, theirs)
    same = [a == b for a, b in zip(found["answers"], other["answers"], strict=True)]
    texts = [a.strip() == b.strip() for a, b in zip(found["texts"], other["texts"], strict=True)]
    gaps = [abs(a - b) for a, b, equal in zip(found["logprob_sum"], other["logprob_sum"], same, strict=True) if equal]
    return figures | {
        "questions": options.questions, "batch": {"confide": 64, "lm_eval": options.batch}, "versions": told,
        "same_texts": sum(texts), "same_answers": sum(same), "same_sums": sum(gap < SAME for gap in gaps),
        "largest_gap": max(gaps),
    }  # fmt: skip


def scoring(options: argparse.Namespace, folder: Path) -> Json:
    """Answers with the uncertainty that one generation tells, against lm-polygraph."""
    from confide.metrics import auroc

    config = prompts(options.questions) | {
        "section": "scoring", "threads": options.threads, "confide_batch": 64, "polygraph_batch": options.batch
    }  # fmt: skip
    with sides(config, "polygraph", options.environments, folder) as (ours, theirs):
        figures, found, other = compared(ours, theirs, ("score", "score"), options.rounds)
        told = versions_of(ours, theirs)
    closed = [end is not None for end in found["end_logprob"]]
    ended = [answer[:-1] if end else answer for answer, end in zip(other["answers"], closed, strict=True)]
    rows = [i for i, (a, b) in enumerate(zip(found["answers"], ended, strict=True)) if a == b]
    gaps = [
        abs(a - b)
        for i in rows
        for name in ("logprobs", "entropies")
        for a, b in zip(found[name][i], other[name][i], strict=False)
    ]
    right = np.array([found["correct"][i] for i in rows], dtype=np.float64)
    own: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "logprob_sum": ("logprobs", np.sum), "logprob_mean": ("logprobs", np.mean), "entropy": ("entropies", np.mean)
    }  # fmt: skip
    quality = {}
    for source, (key, over) in own.items():
        sign = -1.0 if key == "entropies" else 1.0
        alike = [sign * over(other[key][i][: len(found[key][i])]) for i in rows]  # without the token that ends it
        quality[source] = {
            "confide": auroc(np.array(found[source])[rows], right),
            "peer": auroc(alike, right),
            "peer_with_end": auroc(-np.array(other["values"][ESTIMATORS[source]])[rows], right),
        }
    return figures | {
        "questions": options.questions, "batch": {"confide": 64, "polygraph": options.batch}, "versions": told,
        "same_answers": len(rows), "largest_gap": max(gaps), "auroc": quality,
    }  # fmt: skip


def reading(options: argparse.Namespace, folder: Path) -> Json:
    """Confidences from log-probabilities that are there, against uqlm."""
    rng = np.random.default_rng(0)
    rows = [(-rng.exponential(0.3, size)).tolist() for size in rng.integers(1, 12, options.logged)]
    correct = rng.random(len(rows)) < np.exp([sum(row) for row in rows])
    config = {"section": "reading", "threads": options.threads, "logprobs": rows}
    with sides(config, "uqlm", options.environments, folder) as (ours, theirs):
        figures, found, other = compared(ours, theirs, ("read", "read"), max(5, options.rounds))
        told = versions_of(ours, theirs)
    from confide.metrics import auroc

    quality = {name: {"confide": auroc(found[name], correct), "peer": auroc(other[name], correct)} for name in found}
    return figures | {"answers": options.logged, "versions": told, "auroc": quality}


def training(options: argparse.Namespace, folder: Path) -> Json:
    """Self-REF and the reader, against TRL and PEFT alone on the same rows."""
    from confide.numeric import logistic_loss

    jobs = training_jobs(options.rows, folder / "start")
    config = {"section": "training", "threads": options.threads, "jobs": jobs}
    result: Json = {"rows": options.rows, "epochs": next(iter(jobs.values()))["epochs"]}
    with sides(config, "trl", options.environments, folder) as (ours, theirs):
        for name, job in jobs.items():
            figures, found, other = compared(ours, theirs, (name, name), min(2, options.rounds))
            right = np.array(job["right"], dtype=np.float64)
            losses = {side: logistic_loss(np.array(one["held"]), right)
                      for side, one in (("confide", found), ("peer", other))}  # fmt: skip
            gap = float(np.max(np.abs(np.array(found["held"]) - np.array(other["held"]))))
            result[name] = figures | {"loss": losses, "largest_gap": gap, "batch": job["batch"]}
        result["versions"] = versions_of(ours, theirs)
    return result


def metrics(options: argparse.Namespace, folder: Path) -> Json:
    """Metrics and calibrators of many rows, against netcal, scikit-learn and torchmetrics."""
    pairs = {
        "ece netcal": "ece", "ece torchmetrics": "ece", "auroc scikit-learn": "auroc", "auroc torchmetrics": "auroc",
        "brier scikit-learn": "brier", "temperature netcal": "temperature", "isotonic scikit-learn": "isotonic",
    }  # fmt: skip
    result: Json = {}
    for rows in options.metric_rows:
        rng = np.random.default_rng(0)
        confidence = rng.random(rows)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rows-{rows}.npz"
        np.savez(path, confidence=confidence, correct=rng.random(rows) < confidence**1.5)
        config = {"section": "metrics", "threads": options.threads, "arrays": str(path)}
        with sides(config, "metrics", options.environments, folder) as (ours, theirs):
            for peer, own in pairs.items():
                figures, found, other = compared(ours, theirs, (own, peer), max(5, options.rounds))
                figures["values"] = {"confide": found["value"], "peer": other["value"]}
                result.setdefault(str(rows), {})[peer] = figures
            result["versions"] = versions_of(ours, theirs)
        path.unlink()
    return result


SECTIONS: dict[str, Callable[[argparse.Namespace, Path], Json]] = {
    "own work": lambda options, folder: own_work.measured(),
    "metrics": metrics,
    "reading": reading,
    "annotation": annotation,
    "scoring": scoring,
    "training": training,
}


def options() -> argparse.Namespace:
    found = parser(__doc__, "speed")
    found.add_argument("--only", choices=SECTIONS, action="append", help="this section (may be repeated)")
    found.add_argument("--again", action="store_true", help="measure sections anew that have been measured")
    found.add_argument("--environments", type=Path, default=Path("runs/speed/environments"))
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--questions", type=int, default=128)
    found.add_argument("--batch", type=int, default=32, help="the peers' batch (default: the fastest of 8 to 64)")
    found.add_argument("--rows", type=int, default=24, help="training rows")
    found.add_argument("--logged", type=int, default=20_000, help="answers whose log-probabilities are read")
    found.add_argument("--metric-rows", type=int, nargs="+", default=[100_000, 1_000_000])
    found.add_argument("--check", action="store_true", help="only our own work: fail where a ratio is above its limit")
    return found.parse_args()


def main() -> None:
    given = options()
    if given.check:
        own_work.check()
        return
    work, names = Work(given.work), given.only or list(SECTIONS)
    for name in names:
        if given.again:
            (given.work / f"{name}.json").unlink(missing_ok=True)
        work.stage(name, lambda name=name: _measured(name, given))  # type: ignore[misc]
    result: dict[str, Any] = {"machine": work.machine(), "threads": given.threads}
    for name in SECTIONS:
        if (path := given.work / f"{name}.json").exists():
            result[name] = json.loads(path.read_text(encoding="utf-8"))
    speed_tables.write(write_result(given.out, "speed/speed.py", result))


def _measured(name: str, given: argparse.Namespace) -> Json:
    folder = given.work / name
    load = os.getloadavg()[0]
    found = SECTIONS[name](given, folder) | {"load_before": load}
    shutil.rmtree(folder / "start", ignore_errors=True)
    return found


if __name__ == "__main__":
    main()
