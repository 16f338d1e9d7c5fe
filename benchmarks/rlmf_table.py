"""The figures of ``rlmf.py``: every row in and off its domain, between floor and ceiling, and what it is ahead by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.evaluation.agreement import Agreement, Faithful
from confide.metrics import auroc, spearman
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.metric import FloatArray
from confide.records import Record, read_records
from confide.tasks import Task
from confide.tasks.questions import question_of
from table import put

if TYPE_CHECKING:
    from rlmf import Study

HERE = Path(__file__).parent
PLACES = ("in domain", "held-out relation")
PAIRS = (
    ("RLMF", "standard RL"), ("RLMF", "RLMF, shuffled Z"), ("RLMF", "RLMF, constant Z"), ("RLMF", "RLMF, frozen Z"),
    ("RLMF", "RLCR"), ("RLMF", "format"), ("standard RL", "format"), ("RLMF", "answer probability"),
    ("RLMF", "reader on g"), ("format", "answer probability"), ("format", "reader on g"),
)  # fmt: skip
Rows = tuple[tuple[int, Record], ...]


@dataclass(frozen=True)
class Column:
    """One row of the table at one place: its test records of some seeds, in an order that all rows share."""

    name: str
    source: str
    rows: Rows
    agrees: FloatArray
    """[n, K]: whether sample k agrees with the greedy answer."""

    @cached_property
    def c(self) -> FloatArray:
        """Confidence [n], NaN where none can be read."""
        return np.array([np.nan if (v := r.confidence.get(self.source)) is None else v for _, r in self.rows])

    @property
    def g(self) -> FloatArray:
        """Consistency [n]."""
        found: FloatArray = self.agrees.mean(1)
        return found

    @property
    def y(self) -> NDArray[np.bool_]:
        """Whether the answers are right [n]."""
        return np.array([bool(r.correct) for _, r in self.rows], dtype=np.bool_)

    @property
    def keys(self) -> list[tuple[int, str]]:
        return [(seed, r.id) for seed, r in self.rows]

    def worst(self, target: FloatArray) -> FloatArray:
        """Confidences in which a missing one is as far from ``target`` as can be."""
        return np.where(np.isfinite(self.c), self.c, np.where(target < 0.5, 1.0, 0.0))


def column(
    study: Study, task: Task, name: str, file: str, source: str, seeds: Sequence[int], place: str, held: Sequence[str]
) -> Column | None:
    """A row of the table from the seeds' files that are there, None without any."""
    from rlmf import SAMPLED

    rows: list[tuple[int, Record]] = []
    for seed in seeds:
        path = study.answers(seed, file)
        if path.exists():
            new, kept = place == PLACES[1], read_records(path)
            if not any(source in r.confidence for r in kept):
                continue  # this seed's file was not asked for this source
            found = [r for r in kept if r.split == "test" and (r.domain == held[seed % len(held)]) == new]
            rows += [(seed, r) for r in sorted(found, key=lambda r: r.id)]
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
    return Column(name, source, tuple(rows), np.array(agrees, dtype=np.float64))


def judged(study: Study) -> dict[str, Any]:
    """Every row at both places, and paired differences on the seeds that both rows have."""
    from rlmf import BASE, FORMATS, HELD_OUT, SEEDS, TRAINED

    task = study.task
    plan = {BASE: (BASE, "verbalized")}
    plan |= {name: (name, "graded") for name in [*FORMATS, *TRAINED]}
    plan |= {"answer probability": (BASE, "logprob_sum"), "reader on g": ("reader", "reader")}
    out: dict[str, Any] = {"rows": {}, "differences": []}
    for place in PLACES:
        columns: dict[str, Column] = {}
        for name, (file, source) in plan.items():
            if (found := column(study, task, name, file, source, SEEDS, place, HELD_OUT)) is not None:
                columns[name] = found
        known = columns["answer probability"]
        start = {key: bool(y) for key, y in zip(known.keys, known.y, strict=True)}
        for name, one in columns.items():
            print(f"judging {name}, {place}", flush=True)
            out["rows"].setdefault(name, {"seeds": sorted({seed for seed, _ in one.rows})})[place] = numbers(one, start)
        for a, b in PAIRS:
            if a in columns and b in columns:
                out["differences"].append({"a": a, "b": b, "place": place, **difference(columns[a], columns[b])})
    for name, row in out["rows"].items():
        row |= made(study, plan[name][0], row["seeds"])
    return out


def faithful(one: Column, bootstrap: Bootstrap) -> Faithful:
    """Faithfulness in which what cannot be read counts as far off as can be."""
    samples = np.full(len(one.rows), float(one.agrees.shape[1]))
    found = Agreement(one.g, samples, bootstrap).judge(one.worst(one.g))
    assert found is not None
    return found


def resampling(rows: Rows) -> Bootstrap:
    return Bootstrap([(seed, record.cluster) for seed, record in rows], resamples=1000, seed=0)


def statistics(one: Column, bootstrap: Bootstrap) -> dict[str, FloatArray]:
    """cMFG* and its skill (what cannot be read counts as far off as can be), ranks, AUROC, Brier, accuracy."""
    found = faithful(one, bootstrap)
    y = one.y.astype(np.float64)
    against_g, against_y = one.worst(one.g), one.worst(y)

    def rest(w: Any) -> dict[str, FloatArray]:
        total = w.sum(axis=1)
        return {
            "spearman": spearman.resampled(against_g, one.g, w),
            "auroc": auroc.resampled(against_y, one.y, w),
            "brier": (w @ (against_y - y) ** 2) / total,
            "accuracy": (w @ y) / total,
        }

    sampled = bootstrap.sample(rest, np.arange(len(one.rows)))
    skill = found.skill("cmfg_star")
    return {
        "cmfg_star": found.scores["cmfg_star"],
        "skill": np.full(len(sampled["auroc"]), np.nan) if skill is None else skill,
        **sampled,
    }


def numbers(one: Column, start: dict[tuple[int, str], bool]) -> dict[str, Any]:
    """All figures of a row at one place, with intervals by entity."""
    bootstrap = resampling(one.rows)
    found = faithful(one, bootstrap)
    sampled = statistics(one, bootstrap)
    told = np.array([bool(r.logprobs) for _, r in one.rows])  # an empty answer has no tokens
    free = np.exp([sum(r.logprobs) for _, r in one.rows])[told]
    y, moved = one.y, np.array([start[key] != mark for key, mark in zip(one.keys, one.y, strict=True)])
    known = np.isfinite(one.c)
    said = one.worst(one.y.astype(np.float64))
    # The self-judgement is asked of the grade nearest to what is expected.
    hits = (np.abs(np.round(one.c, 1) - one.g) <= 0.1 + 1e-9).tolist()
    judged_f = [(r.confidence.get("f_pred"), hit) for (_, r), hit in zip(one.rows, hits, strict=True)]
    f = np.array([(v, hit) for v, hit in judged_f if v is not None], dtype=np.float64).reshape(-1, 2)
    bounds = found.bounds
    coupled = int(moved.sum()) >= 20 and 0 < int(y[moved].sum()) < int(moved.sum())
    return {
        "n": len(one.rows),
        **{name: estimate(values).as_dict() for name, values in sampled.items()},
        "floor": float(bounds.floors["cmfg_star"][0]),
        "ceiling": float(bounds.ceilings["cmfg_star"][0]) if "cmfg_star" in bounds.ceilings else None,
        "constant": float(bounds.constants["cmfg_star"][0]),
        "mfg": float(found.scores["mfg"][0]),
        "cmfg": float(found.scores["cmfg"][0]),
        "g_mean": float(one.g.mean()),
        "g_sd": float(one.g.std()),
        "g_entropy": entropy(one.g),
        "distinct": len(set(np.round(one.c[known], 1).tolist())),
        "unreadable": float(1 - known.mean()),
        "ece": calibration_error(said, y),
        "answer_probability_spearman": float(spearman(free, one.g[told])) if told.any() else None,
        "moved": int(moved.sum()),
        "coupling": float(auroc(said[moved], y[moved]) * 2 - 1) if coupled else None,
        "f_spearman": float(spearman(f[:, 0], f[:, 1])) if len(f) and np.ptp(f[:, 0]) and np.ptp(f[:, 1]) else None,
    }


def entropy(g: FloatArray) -> float:
    """Entropy of g in ten bins of equal width over its largest value."""
    shares = np.bincount(np.minimum((g * 10).astype(int), 9), minlength=10) / len(g)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(10))


def calibration_error(c: FloatArray, y: NDArray[np.bool_]) -> float:
    from confide.metrics import ece

    return float(ece(c, y))


def difference(a: Column, b: Column) -> dict[str, Any]:
    """``a`` minus ``b`` on the same questions of the seeds that both have, with paired intervals."""
    seeds = {seed for seed, _ in a.rows} & {seed for seed, _ in b.rows}
    a, b = (picked(one, seeds) for one in (a, b))
    assert a.keys == b.keys
    bootstrap = resampling(a.rows)
    one, other = statistics(a, bootstrap), statistics(b, bootstrap)
    return {"seeds": sorted(seeds), **{name: estimate(one[name] - other[name]).as_dict() for name in one}}


def picked(one: Column, seeds: set[int]) -> Column:
    kept = [i for i, (seed, _) in enumerate(one.rows) if seed in seeds]
    return Column(one.name, one.source, tuple(one.rows[i] for i in kept), one.agrees[kept])


def made(study: Study, row: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What a row's training took, and what its runs said of themselves."""
    seconds, steps = [], []
    for seed in seeds:
        formed, own = study.place(seed, row) / "format.json", study.place(seed, row) / "confide.json"
        aside = study.answers(seed, row).with_suffix(".json")
        if formed.exists():
            seconds.append(float(json.loads(formed.read_text(encoding="utf-8"))["seconds"]))
        elif own.exists():
            about = json.loads(own.read_text(encoding="utf-8"))["training"]["rlmf"]
            seconds.append(float(about["seconds"]))
            steps.append({k: about[k] for k in ("steps", "best_step", "stopped", "judged_seconds")})
        elif aside.exists():
            seconds.append(float(json.loads(aside.read_text(encoding="utf-8"))["seconds"]))
    return {"seconds": float(np.mean(seconds)) if seconds else 0.0, "runs": steps}


def shown(entry: dict[str, float | None] | None, digits: int = 3, sign: bool = False) -> str:
    if not entry or entry["value"] is None:
        return "–"
    plus = "+" if sign else ""
    text = f"{entry['value']:{plus}.{digits}f}"
    return (
        text if entry["low"] is None else f"{text} [{entry['low']:{plus}.{digits}f}, {entry['high']:{plus}.{digits}f}]"
    )


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main_table(result: dict[str, Any], place: str) -> str:
    lines = [
        "| row | seeds | cMFG* | floor – ceiling | skill | rank correlation | AUROC | Brier | accuracy | unreadable | "
        "grades used | train s |",
        "|---|---:|---|---|---|---|---|---|---|---:|---:|---:|",
    ]
    for name, row in result["rows"].items():
        if place not in row:
            continue
        x = row[place]
        lines.append(
            f"| {name} | {len(row['seeds'])} | {shown(x['cmfg_star'])} | {x['floor']:.3f} – {number(x['ceiling'], 3)} "
            f"| {shown(x['skill'], 2)} | {shown(x['spearman'])} | {shown(x['auroc'])} | {shown(x['brier'])} "
            f"| {shown(x['accuracy'])} | {x['unreadable']:.1%} | {x['distinct']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def more_table(result: dict[str, Any]) -> str:
    lines = [
        "| row | place | g: mean, sd, entropy | MFG | cMFG | ECE(15) | own answer probability with g | "
        "questions that moved | coupling | F_pred with F_gold | kept step |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in result["rows"].items():
        for place in PLACES:
            if place in row:
                x = row[place]
                spread = f"{x['g_mean']:.2f}, {x['g_sd']:.2f}, {x['g_entropy']:.2f}"
                columns = [
                    f"{x['mfg']:.3f}", f"{x['cmfg']:.3f}", f"{x['ece']:.3f}",
                    number(x["answer_probability_spearman"], 3), str(x["moved"]),
                    number(x["coupling"]), number(x["f_spearman"]),
                    ", ".join(str(run["best_step"]) for run in row["runs"]) or "–",
                ]  # fmt: skip
                lines.append(f"| {name} | {place} | {spread} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def difference_table(result: dict[str, Any]) -> str:
    lines = [
        "| | place | seeds | cMFG* | skill | rank correlation | AUROC | accuracy |",
        "|---|---|---:|---|---|---|---|---|",
    ]
    for d in result["differences"]:
        columns = [shown(d[m], 3, True) for m in ("cmfg_star", "skill", "spearman", "auroc", "accuracy")]
        lines.append(f"| {d['a']} − {d['b']} | {d['place']} | {len(d['seeds'])} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def write_tables(result: dict[str, Any], prefix: str = "") -> None:
    """Put the tables where their marks are; ``prefix`` starts the names of the marks."""
    sizes, machine = result["sizes"], result["machine"]
    facts = (
        f"{machine.get('device', 'unknown device')}; {sizes['train']} training and {sizes['validation']} validation "
        f"questions a seed, {sizes['test']} test questions on taught relations and {sizes['held_out']} on the held-out "
        f"one, {sizes['samples']} samples each; {sizes['steps']} steps of {sizes['questions a step']} questions × "
        f"{sizes['group']} completions."
    )
    parts = {"facts": facts, "differences": difference_table(result), "more": more_table(result)}
    parts |= {place: main_table(result, place) for place in PLACES}
    put(HERE.parent / "docs" / "rlmf.md", {prefix + name: text for name, text in parts.items()})
