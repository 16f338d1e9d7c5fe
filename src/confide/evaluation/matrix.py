"""The matrix: what a confidence was trained on against where it is tested. Self-knowledge travels, a prior does not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.controls import MIN_CLUSTERS, MIN_KIND, some
from confide.evaluation.record_columns import Rows, extra, tested
from confide.metrics.bootstrap import Bootstrap, estimate, sampled_auroc, sampled_mean
from confide.metrics.metric import FloatArray, IntArray
from confide.metrics.ranking import auroc
from confide.records import Record
from confide.sources import NO_RIVALS, family

OWN = "training split"
"""The row of a file that holds the rows it was trained on."""


@dataclass(frozen=True)
class Cell:
    """The graded test rows of one column, scored by what was trained on one row of the matrix.

    ``home`` holds the columns that the row was trained on.
    """

    trained_on: str
    tested_on: str
    home: frozenset[str]
    rows: Rows
    validation: Rows

    @property
    def in_domain(self) -> bool:
        """Whether training saw this column."""
        return self.tested_on in self.home

    @cached_property
    def sources(self) -> list[str]:
        """The learned, asked and other sources that compete here."""
        return [s for s in self.rows.sources if family(s) not in NO_RIVALS]

    @cached_property
    def free(self) -> str | None:
        """The free source with the best AUROC on these very rows, which favours the free side."""
        return _best_free(self.rows)

    @cached_property
    def free_validation(self) -> str | None:
        """The free source with the best AUROC on validation rows, None without both kinds there."""
        return _best_free(self.validation)

    def bootstrap(self, resamples: int, seed: int) -> Bootstrap:
        """Draws of this cell's entities: the same ones in every cell of a column that holds the same rows."""
        return Bootstrap([record.cluster for record in self.rows.records], resamples=resamples, seed=seed)

    def ranked(self, source: str, bootstrap: Bootstrap, among: IntArray | None = None) -> FloatArray:
        """AUROC of a source [1 + resamples] on the rows where it has a value (and that are ``among``)."""
        values = self.rows.confidence(source)
        kept = np.flatnonzero(np.isfinite(values)) if among is None else among
        if len(np.unique(self.rows.correct[kept])) < 2:
            return np.full(1 + bootstrap.resamples, np.nan)
        return sampled_auroc(values[kept], self.rows.correct[kept], kept, bootstrap)

    def difference(self, a: str, b: str | None, bootstrap: Bootstrap) -> dict[str, float | None] | None:
        """Paired AUROC difference where both sources have values."""
        if b is None:
            return None
        one, other = self.rows.confidence(a), self.rows.confidence(b)
        both = np.flatnonzero(np.isfinite(one) & np.isfinite(other))
        return estimate(self.ranked(a, bootstrap, both) - self.ranked(b, bootstrap, both)).as_dict()


def matrix(
    records: list[Record], trained: dict[str, list[Record]], *, seed: int, resamples: int, min_rows: int
) -> dict[str, Any] | None:
    """The block ``matrix`` of results.json; None where nothing says what a confidence was trained on.

    Rows are the names in ``trained``, or what the records say (``trained_on``), or else the file's own training
    split; columns are domains, or tasks where the records are of several (a record's ``tested_on`` wins). A
    cell is in domain where the row's name is the column's (several names are joined with +), or the training
    split holds it. The drop is the AUROC of another row trained on this column
    minus this one's, on the same questions, or else that of this row's own domain, on other questions. In a cell
    whose accuracy is not significantly above guessing nothing can be measured.
    """
    cells = _cells(records, trained)
    if not cells:
        return None
    draws = {key: cell.bootstrap(resamples, seed) for key, cell in cells.items()}
    # Cells on other questions are compared as independent: the same draws would look like pairing.
    apart = {key: cell.bootstrap(resamples, seed + 1) for key, cell in cells.items() if cell.in_domain}
    out: dict[str, Any] = {
        "rows": list(dict.fromkeys(trained_on for trained_on, _ in cells)),
        "columns": list(dict.fromkeys(tested_on for _, tested_on in cells)),
        "cells": [_entry(cell, cells, draws, apart, min_rows) for cell in cells.values()],
    }
    named = [source for cell in cells.values() for source in cell.sources]
    out["source"] = "stack" if "stack" in named else named[0] if named else None
    return out | {"sentences": _sentences(out)}


def guessing(records: list[Record]) -> float:
    """Accuracy without knowing: 1 / number of choices, averaged; for open questions the commonest reference's share."""
    chance = [1 / len(r.choices) for r in records if r.choices]
    commonest = Counter(json.dumps(r.reference, default=str) for r in records if not r.choices and r.reference)
    opened = len(records) - len(chance)
    top = max(commonest.values()) / opened if commonest else 0.0
    return (sum(chance) + top * opened) / len(records)


def _cells(records: list[Record], trained: dict[str, list[Record]]) -> dict[tuple[str, str], Cell]:
    told = trained or _told(records)
    several = len({r.task for rows in told.values() for r in tested(rows)}) > 1

    def column(record: Record) -> str:
        return str(extra(record, "tested_on") or (record.task if several else record.domain) or record.task or "all")

    cells: dict[tuple[str, str], Cell] = {}
    for name, rows in told.items():
        usable = [r for r in rows if r.correct is not None and extra(r, "has_answer") is not False]
        columns: dict[str, list[Record]] = {}
        # Cells of a column draw the same entities only where their rows come in the same order.
        for record in sorted(tested(usable), key=lambda record: record.id):
            columns.setdefault(column(record), []).append(record)
        if not columns:
            raise ConfideError(f"no graded test record was scored by what was trained on {name}")
        seen = {column(r) for r in rows if r.split == "train"} if name == OWN else set(name.split("+"))
        validation = Rows([r for r in usable if r.split == "validation"], {}, None)
        for tested_on, inside in columns.items():
            cells[name, tested_on] = Cell(name, tested_on, frozenset(seen), Rows(inside, {}, None), validation)
    return cells


def _told(records: list[Record]) -> dict[str, list[Record]]:
    """Records by what their confidences were trained on, where they say so or bring the training split along."""
    named: dict[str, list[Record]] = {}
    for record in records:
        told = extra(record, "trained_on")
        if told is not None:
            named.setdefault("+".join(map(str, told)) if isinstance(told, list) else str(told), []).append(record)
    if not named and any(r.split == "train" for r in records) and len({r.domain for r in tested(records)}) > 1:
        return {OWN: records}
    return named


def _entry(
    cell: Cell,
    cells: dict[tuple[str, str], Cell],
    draws: dict[tuple[str, str], Bootstrap],
    apart: dict[tuple[str, str], Bootstrap],
    min_rows: int,
) -> dict[str, Any]:
    bootstrap = draws[cell.trained_on, cell.tested_on]
    n = len(cell.rows.records)
    right = int(cell.rows.correct.sum())
    accuracy = estimate(sampled_mean(cell.rows.correct.astype(np.float64), np.arange(n), bootstrap))
    chance = guessing(cell.rows.records)
    reason = ""
    if n < min_rows or bootstrap.clusters < MIN_CLUSTERS:
        reason = f"{some(n, 'row')} about {some(bootstrap.clusters, 'entity', 'entities')}; a cell takes "
        reason += f"{min_rows} and {MIN_CLUSTERS}"
    elif min(right, n - right) < MIN_KIND:
        reason = f"{right} right and {n - right} wrong; a cell takes {MIN_KIND} of each"
    elif accuracy.low is None or accuracy.low <= chance:
        reason = f"accuracy {right / n:.0%} is not significantly above guessing ({chance:.0%})"
    sources = {}
    for source in cell.sources:
        found = cell.ranked(source, bootstrap)
        sources[source] = {
            "auroc": estimate(found).as_dict(),
            "drop": _drop(cell, source, found, cells, bootstrap, apart),
            "against_free": cell.difference(source, cell.free, bootstrap),
            "against_free_validation": cell.difference(source, cell.free_validation, bootstrap),
        }
    return {
        "trained_on": cell.trained_on,
        "tested_on": cell.tested_on,
        "in_domain": cell.in_domain,
        "n": n,
        "accuracy": accuracy.as_dict(),
        "guessing": chance,
        "measurable": not reason,
        "reason": reason,
        "free": cell.free,
        "free_validation": cell.free_validation,
        "sources": sources,
    }


def _drop(
    cell: Cell,
    source: str,
    found: FloatArray,
    cells: dict[tuple[str, str], Cell],
    bootstrap: Bootstrap,
    apart: dict[tuple[str, str], Bootstrap],
) -> dict[str, Any] | None:
    """In-domain AUROC minus this cell's; None in domain and where there is nothing to compare with."""
    if cell.in_domain:
        return None
    key = (cell.tested_on, cell.tested_on)
    if (home := cells.get(key)) is not None and source in home.rows.sources:
        ids = {record.id: row for row, record in enumerate(home.rows.records)}
        here, there = cell.rows.confidence(source), home.rows.confidence(source)
        shared = [
            (row, ids[record.id])
            for row, record in enumerate(cell.rows.records)
            if record.id in ids and np.isfinite(here[row]) and np.isfinite(there[ids[record.id]])
        ]
        if shared:
            one, other = np.array(shared, dtype=np.int64).T
            # One bootstrap draws for both, so that the difference is paired.
            y = home.rows.correct[other]
            at_home = sampled_auroc(there[other], y, one, bootstrap) if len(np.unique(y)) == 2 else found * np.nan
            drop = estimate(at_home - cell.ranked(source, bootstrap, one)).as_dict()
            return {**drop, "paired": True, "against": f"trained on {cell.tested_on}", "n": len(shared)}
    own = {key: c for key, c in cells.items() if key[0] == cell.trained_on and c.in_domain and source in c.rows.sources}
    if not own:
        return None
    at_home = np.mean([c.ranked(source, apart[key]) for key, c in own.items()], axis=0)
    names = ", ".join(c.tested_on for c in own.values())
    return {**estimate(at_home - found).as_dict(), "paired": False, "against": f"tested on {names}", "n": None}


def _best_free(rows: Rows) -> str | None:
    found = {}
    for source in (s for s in rows.sources if family(s) == "free"):
        values = rows.confidence(source)
        kept = np.isfinite(values)
        if len(np.unique(rows.correct[kept])) == 2:
            found[source] = auroc(values[kept], rows.correct[kept])
    return max(found, key=found.__getitem__, default=None)


def _sentences(out: dict[str, Any]) -> list[str]:
    """What the matrix says about its main source, and which cells say nothing."""
    source, cells = out["source"], out["cells"]
    measurable = [cell for cell in cells if cell["measurable"]]
    said = []
    if silent := [f"{c['trained_on']} → {c['tested_on']}" for c in cells if not c["measurable"]]:
        said.append(f"Not measurable, so no claim: {'; '.join(silent)}.")
    compared = [
        (f"{c['trained_on']} → {c['tested_on']}", gap)
        for c in measurable
        if (entry := c["sources"].get(source)) and (gap := entry["against_free"]) and gap["low"] is not None
    ]
    if not compared:
        return said
    worse = [name for name, gap in compared if gap["high"] < 0]
    better = [name for name, gap in compared if gap["low"] > 0]
    said.append(
        f"{source} is significantly worse than the best free source in {len(worse)} of {len(compared)} measurable "
        f"cells{' (' + '; '.join(worse) + ')' if worse else ''} and significantly better in {len(better)}."
    )
    return said
