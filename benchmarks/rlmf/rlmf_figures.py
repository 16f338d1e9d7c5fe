"""The figures of ``rlmf.py``: every row in and off its domain, between floor and ceiling, and what it is ahead by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.common import Json, read_json
from benchmarks.rlmf.rlmf_study import BASE, FORMATS, HELD_OUT, SAMPLED, SEEDS, TRAINED, Study
from confide.evaluation.agreement import Agreement, Faithful
from confide.methods.method import or_nan
from confide.metrics import auroc, brier, ece, spearman
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.numeric import Floats
from confide.records import Record, read_records
from confide.sources import as_probability
from confide.tasks import Task
from confide.tasks.questions import question_of

PLACES = ("in domain", "held-out relation")
PAIRS = (
    ("RLMF", "standard RL"), ("RLMF", "RLMF, shuffled Z"), ("RLMF", "RLMF, constant Z"), ("RLMF", "RLMF, frozen Z"),
    ("RLMF", "RLCR"), ("RLMF", "format"), ("standard RL", "format"), ("RLMF", "answer probability"),
    ("format", "answer probability"),
)  # fmt: skip
SPREAD = {"mean": "mean", "spread": "sd", "entropy": "entropy"}
Rows = tuple[tuple[int, Record], ...]


@dataclass(frozen=True)
class Column:
    """One row of the table at one place: its test records of some seeds, in an order that all rows share."""

    source: str
    rows: Rows
    agrees: Floats
    """[n, K]: whether sample k agrees with the greedy answer."""

    @cached_property
    def c(self) -> Floats:
        """Confidence [n], NaN where none can be read."""
        return as_probability(self.source, or_nan([record.confidence.get(self.source) for _, record in self.rows]))

    @cached_property
    def g(self) -> Floats:
        """Consistency [n]."""
        return np.asarray(self.agrees.mean(1))

    @cached_property
    def y(self) -> Floats:
        """1 where the answer is right [n]."""
        return np.array([float(bool(record.correct)) for _, record in self.rows])

    @property
    def keys(self) -> list[tuple[int, str]]:
        return [(seed, record.id) for seed, record in self.rows]

    def worst(self, target: Floats) -> Floats:
        """Confidences in which a missing one is as far from ``target`` as can be."""
        return np.where(np.isfinite(self.c), self.c, np.where(target < 0.5, 1.0, 0.0))

    @cached_property
    def agreement(self) -> Agreement:
        bootstrap = Bootstrap([(seed, record.cluster) for seed, record in self.rows], resamples=1000, seed=0)
        return Agreement(self.g, np.full(len(self.rows), float(self.agrees.shape[1])), bootstrap)

    @cached_property
    def faithful(self) -> Faithful:
        """Faithfulness in which what cannot be read counts as far off as can be."""
        found = self.agreement.judge(self.worst(self.g))
        assert found is not None
        return found

    @cached_property
    def statistics(self) -> dict[str, Floats]:
        """cMFG* and its skill, ranks, AUROC, Brier, accuracy [1 + resamples]; what cannot be read counts as above."""
        y, against_g, against_y = self.y, self.worst(self.g), self.worst(self.y)

        def rest(w: Any) -> dict[str, Floats]:
            return {
                "spearman": spearman.resampled(against_g, self.g, w),
                "auroc": auroc.resampled(against_y, y, w),
                "brier": brier.resampled(against_y, y, w),
                "accuracy": (w @ y) / w.sum(axis=1),
            }

        found, skill = self.faithful.scores["cmfg_star"], self.faithful.skill("cmfg_star")
        skill = np.full(len(found), np.nan) if skill is None else skill
        return {"cmfg_star": found, "skill": skill, **self.agreement.bootstrap.sample(rest, np.arange(len(y)))}

    def of_seeds(self, seeds: set[int]) -> Column:
        """The rows of some seeds."""
        kept = [i for i, (seed, _) in enumerate(self.rows) if seed in seeds]
        return Column(self.source, tuple(self.rows[i] for i in kept), self.agrees[kept])


def column(study: Study, task: Task, file: str, source: str, place: str) -> Column | None:
    """A row of the table from the files of its seeds; None where no seed has one."""
    rows: list[tuple[int, Record]] = []
    for seed in SEEDS:
        path, held = study.answers(seed, file), HELD_OUT[seed % len(HELD_OUT)]
        records = read_records(path) if path.exists() else []
        if any(source in record.confidence for record in records):  # else this seed was not asked for this source
            new = place == PLACES[1]
            found = [r for r in records if r.split == "test" and (r.domain == held) == new]
            rows += [(seed, record) for record in sorted(found, key=lambda r: r.id)]
    if not rows:
        return None
    # g, its floor and its ceiling depend on the number of samples: as many for every row.
    least = min(SAMPLED, *(len(record.samples or []) for _, record in rows))
    agrees = []
    for _, record in rows:
        question, told = question_of(record), [s.answer for s in record.samples or []][:least]
        assert question is not None
        known = {text: float(task.agrees(question, record.answer, text)) for text in dict.fromkeys(told)}
        agrees.append([known[text] for text in told])
    return Column(source, tuple(rows), np.array(agrees, dtype=np.float64))


def judged(study: Study) -> Json:
    """Every row at both places, and paired differences on the seeds that both rows have."""
    task = study.task
    plan = {BASE: (BASE, "verbalized")}
    plan |= {name: (name, "graded") for name in [*FORMATS, *TRAINED]}
    plan |= {"answer probability": (BASE, "logprob_sum")}
    out: Json = {"rows": {}, "differences": []}
    for place in PLACES:
        columns: dict[str, Column] = {}
        for name, (file, source) in plan.items():
            if (found := column(study, task, file, source, place)) is not None:
                columns[name] = found
        known = columns["answer probability"]
        start = dict(zip(known.keys, known.y.tolist(), strict=True))
        for name, one in columns.items():
            print(f"judging {name}, {place}", flush=True)
            out["rows"].setdefault(name, {"seeds": sorted({seed for seed, _ in one.rows})})[place] = numbers(one, start)
        for a, b in PAIRS:
            if a in columns and b in columns:
                out["differences"].append({"a": a, "b": b, "place": place, **difference(columns[a], columns[b])})
    for name, row in out["rows"].items():
        row |= made(study, plan[name][0], row["seeds"])
    return out


def numbers(one: Column, start: dict[tuple[int, str], float]) -> Json:
    """All figures of a row at one place, with intervals by entity; ``start``: which answers were right untrained."""
    found, g, y, said = one.faithful, one.g, one.y, one.worst(one.y)
    spread = one.agreement.summary()
    assert spread is not None
    told = np.array([bool(r.logprobs) for _, r in one.rows])  # an empty answer has no tokens
    free = np.exp([sum(r.logprobs) for _, r in one.rows])[told]
    moved = np.array([start[key] != mark for key, mark in zip(one.keys, y, strict=True)])
    known = np.isfinite(one.c)
    # The self-judgement is asked of the grade nearest to what is expected.
    hits = (np.abs(np.round(one.c, 1) - g) <= 0.1 + 1e-9).astype(np.float64)
    f_pred = or_nan([record.confidence.get("f_pred") for _, record in one.rows])
    f_pred, hits = (values[np.isfinite(f_pred)] for values in (f_pred, hits))
    coupled = moved.sum() >= 20 and 0 < y[moved].sum() < moved.sum()
    return {
        "n": len(one.rows),
        **{name: estimate(values) for name, values in one.statistics.items()},
        "floor": float(found.bounds["cmfg_star_floor"][0]),
        "ceiling": float(found.bounds["cmfg_star_ceiling"][0]) if "cmfg_star_ceiling" in found.bounds else None,
        **{score: float(found.scores[score][0]) for score in ("mfg", "cmfg")},
        **{f"g_{short}": spread[name]["value"] for name, short in SPREAD.items()},
        "distinct": len(set(np.round(one.c[known], 1).tolist())),
        "unreadable": float(1 - known.mean()),
        "ece": ece(said, y),
        "answer_probability_spearman": spearman(free, g[told]) if told.any() else None,
        "moved": int(moved.sum()),
        "coupling": auroc(said[moved], y[moved]) * 2 - 1 if coupled else None,
        "f_spearman": spearman(f_pred, hits) if len(hits) and np.ptp(f_pred) and np.ptp(hits) else None,
    }


def difference(a: Column, b: Column) -> Json:
    """``a`` minus ``b`` on the same questions of the seeds that both have, with paired intervals."""
    seeds = {seed for seed, _ in a.rows} & {seed for seed, _ in b.rows}
    a, b = (one.of_seeds(seeds) for one in (a, b))
    assert a.keys == b.keys
    found = {name: estimate(a.statistics[name] - b.statistics[name]) for name in a.statistics}
    return {"seeds": sorted(seeds), **found}


def made(study: Study, row: str, seeds: Sequence[int]) -> Json:
    """What a row's training took, and the steps that its runs kept."""
    seconds, runs = [], []
    for seed in seeds:
        folder = study.place(seed, row)
        path = next((p for p in (folder / "format.json", folder / "confide.json") if p.exists()), None)
        if path is not None:
            about = read_json(path)
            if path.name == "confide.json":
                about = about["training"]["rlmf"]
                runs.append({key: about[key] for key in ("steps", "best_step", "stopped", "judged_seconds")})
            seconds.append(float(about["seconds"]))
    return {"seconds": float(np.mean(seconds)) if seconds else 0.0, "runs": runs}
