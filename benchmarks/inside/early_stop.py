"""Trajectories: what the step ends of a worked answer tell of its end, and what stopping early saves.

    python -m benchmarks.inside.chains_model             # the model and its answers
    python -m benchmarks.inside.step_rollouts                 # Monte-Carlo value of every step of 300 test problems
    python -m benchmarks.inside.early_stop

Chains of four to eight operations, answered greedily by a copy of the bundled model that has learned the form. Readings
of the states at step ends and their rivals (`step_sources`) are fitted on three draws of training problems and judged
on the same test problems: AUROC by the share of the steps seen, rank correlation with Monte-Carlo value over the steps
of one problem, and tokens saved by stopping (`stopping`) at an equal share escalated. Intervals are 95 %, from a
bootstrap by problem.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.common import RESULTS, Json, Work, parser, read_json, write_result
from benchmarks.inside import early_stop_tables
from benchmarks.inside.chains_model import adapted
from benchmarks.inside.step_rollouts import read_rollouts
from benchmarks.inside.step_sources import (
    READING,
    SOURCES,
    aggregates,
    learned_aggregate,
    read_sources,
    steps_left,
)
from benchmarks.inside.stopping import RESAMPLES, compared, lowest, scheduled, stop, threshold
from benchmarks.inside.trajectories import SIZES, Trajectories, read_answers, read_trajectories, step_ends, tested
from confide.metrics import Bootstrap, auroc, estimate
from confide.numeric import Floats, Ints

SEEDS = (0, 1, 2)
SHARES_SEEN = (0.0, 0.25, 0.5, 0.75, 1.0)
ALPHAS = (0.05, 0.1, 0.2)
EXPERT = 1.0
"""The expert is the exact result."""
EXACT = "exact"
STOPPERS = ("min", "free_learned", "portable", READING)


def main() -> None:
    options = parser(__doc__, "steps")
    options.add_argument("--chains", type=Path, default=Path("runs/chains"), help="the model and its answers")
    arguments = options.parse_args()
    work = Work(arguments.work)
    found = read_trajectories(
        lambda: adapted(arguments.chains), read_answers(arguments.chains), arguments.chains / "step-states.npy"
    )
    rolled = read_rollouts(arguments.chains / "rollouts.jsonl")
    cells = [one_draw(work, found, rolled, seed) for seed in SEEDS]
    made = {
        "machine": work.machine(),
        "resamples": RESAMPLES,
        "sizes": SIZES,
        "model": read_json(arguments.chains / "model" / "model.json"),
        "facts": facts(found),
        "rolled": len(rolled),
        "cells": cells,
    }
    result = write_result(arguments.out, "inside/early_stop.py", made)
    if arguments.out.parent == RESULTS:
        early_stop_tables.write(result)


def facts(found: Trajectories) -> Json:
    """How often test answers are right, how long they are, and what could be saved at most."""
    test = tested(found.records)
    tokens = np.array([len(record.answer_ids) for record in test])
    ends = [step_ends(record) for record in test]
    errors = [(record.model_extra or {}).get("first_error") for record in test]
    needed = [
        len(record.answer_ids) if record.correct or error is None else steps[min(error, len(steps) - 1)]
        for record, steps, error in zip(test, ends, errors, strict=True)
    ]
    return {
        "accuracy": float(np.mean([bool(record.correct) for record in test])),
        "tokens": float(tokens.mean()),
        "oracle_saved": float(1 - np.sum(needed) / tokens.sum()),
    }


def parts_of(found: Trajectories, seed: int) -> dict[str, Ints]:
    """Positions of each part: the last problems are for testing under every seed, the others are dealt by it."""
    dealt = np.random.default_rng(seed).permutation(len(found.records) - SIZES["test"])
    numbers, start = {}, 0
    for part in ("train", "validation", "calibration"):
        numbers[part] = dealt[start : start + SIZES[part]]
        start += SIZES[part]
    numbers["test"] = np.arange(len(found.records) - SIZES["test"], len(found.records))
    return {part: np.flatnonzero(np.isin(found.answer, some)) for part, some in numbers.items()}


def one_draw(work: Work, found: Trajectories, rolled: dict[str, list[float]], seed: int) -> Json:
    """Everything of one draw; what needs rollouts is measured anew once there are more of them."""
    kept = work.folder / f"sources-{seed}.npz"
    if not kept.exists():
        fitted = read_sources(found, parts_of(found, seed))
        columns: dict[str, Any] = {**fitted.values, "chosen": np.array(json.dumps(fitted.chosen))}
        np.savez(kept, **columns)
    read = np.load(kept)
    values = {name: read[name] for name in SOURCES}
    judged = work.stage(f"cell-{seed}", partial(cell, found, values, seed))
    rolled_out = work.stage(f"within-{seed}-{len(rolled)}", partial(within, found, values, rolled, seed))
    return {"seed": seed, "chosen": json.loads(str(read["chosen"])), **judged, "within": rolled_out}


def cell(found: Trajectories, values: dict[str, Floats], seed: int) -> Json:
    """How early right and wrong part, and what stopping saves."""
    parts, target = parts_of(found, seed), found.right.astype(np.float64)
    running = aggregates(found, values[READING])
    running["learned"] = learned_aggregate(running, target, parts, steps_left(found))
    ranked = values | {f"{READING} {name}": column for name, column in running.items() if name != "last"}
    return {
        "seen": {name: by_share(found, column, parts["test"], seed) for name, column in ranked.items()},
        "stops": stops(found, values | {"end": running["learned"]}, parts, seed),
    }


def by_share(found: Trajectories, values: Floats, test: Ints, seed: int) -> list[Json]:
    """AUROC for the end of an answer when a share of its steps is seen, per share."""
    made = []
    for share in SHARES_SEEN:
        rows = test[found.place[test] == np.floor(share * lengths(found)[test])]
        z, right = np.nan_to_num(values[rows], nan=0.0), found.right[rows]
        bootstrap = Bootstrap(found.answer[rows].tolist(), resamples=RESAMPLES, seed=seed)
        made.append({"share": share, **estimate(bootstrap.metric(auroc, z, right, np.arange(len(rows))))})
    return made


def lengths(found: Trajectories) -> Ints:
    """The number of lines of each position's answer, [positions]."""
    lines = np.zeros(len(found.records), np.int64)
    np.maximum.at(lines, found.answer, found.place)
    return lines[found.answer]


def within(found: Trajectories, values: dict[str, Floats], rolled: dict[str, list[float]], seed: int) -> Json:
    """Spearman correlation with Monte-Carlo value over the step ends of a problem, averaged over problems.

    A problem counts where its values differ; a source that is the same at all of its steps gets 0 there. `EXACT` is no
    source: it knows which steps are right, and shows how much of the value that explains.
    """
    positions: dict[int, list[int]] = {}
    for at in np.flatnonzero(found.place > 0).tolist():
        positions.setdefault(int(found.answer[at]), []).append(at)
    problems = [
        (rows, rolled[found.records[answer].id])
        for answer, rows in positions.items()
        if len(set(rolled.get(found.records[answer].id, []))) > 1
    ]
    if not problems:
        return {"problems": 0}
    values = values | {EXACT: right_so_far(found)}
    columns = {
        name: np.array([_spearman(values[name][rows], mc) for rows, mc in problems]) for name in (*SOURCES, EXACT)
    }
    bootstrap, every = Bootstrap(range(len(problems)), resamples=RESAMPLES, seed=seed), np.arange(len(problems))
    drawn = {name: bootstrap.mean(column, every) for name, column in columns.items()}
    rivals = {name: estimate(drawn[READING] - drawn[name]) for name in SOURCES if name != READING}
    return {
        "problems": len(problems),
        "rolled": len(rolled),
        "sources": {name: estimate(one) for name, one in drawn.items()},
        "differences": rivals,
    }


def right_so_far(found: Trajectories) -> Floats:
    """At each position 0 where a step before it is wrong, else 1 and the share of the steps that are done."""
    errors = [(record.model_extra or {}).get("first_error") for record in found.records]
    wrong_at = np.array([np.inf if error is None else error + 1 for error in errors])
    return np.where(found.place >= wrong_at[found.answer], 0.0, 1 + found.place / np.maximum(lengths(found), 1))


def _spearman(a: Floats, b: list[float]) -> float:
    return 0.0 if np.ptp(a) == 0 else float(spearmanr(a, b).statistic)


def stops(found: Trajectories, values: dict[str, Floats], parts: dict[str, Ints], seed: int) -> list[Json]:
    """Early stopping by each source, bound and schedule, beside deciding at the end alone."""
    n = {part: np.unique(found.answer[rows]) for part, rows in parts.items()}
    right = np.array([bool(record.correct) for record in found.records])
    tokens = np.array([len(record.answer_ids) for record in found.records])
    last = np.append(np.diff(found.answer) > 0, True)
    end = values["end"][last]
    share = float(1 - right[n["calibration"]].mean())
    made = []
    for source in STOPPERS:
        for from_prompt in (False, True):
            at = scheduled(found, from_prompt)
            z = np.nan_to_num(values[source], nan=np.inf)
            score = lowest(found, z, at)[n["calibration"]]
            for alpha in ALPHAS:
                below = threshold(score[right[n["calibration"]]], alpha)
                stopped = stop(found, z, at, below).take(n["test"])
                told = compared(right[n["test"]], tokens[n["test"]], stopped, end[n["test"]], share, EXPERT, seed)
                made.append({"source": source, "from_prompt": from_prompt, "alpha": alpha, **told})
    return made


if __name__ == "__main__":
    main()
