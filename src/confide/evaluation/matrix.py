"""The matrix: what a confidence was trained on against where it is tested. Self-knowledge travels, a prior does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.evaluation.controls import MIN_CLUSTERS, MIN_KIND
from confide.evaluation.record_columns import Rows, answerable, graded, tested
from confide.evaluation.wording import side, some
from confide.metrics.bootstrap import Bootstrap, Estimate, estimate
from confide.metrics.ranking import auroc
from confide.policies.identities import check_one_model
from confide.records import Record, RecordTable
from confide.sources import family

OWN = "training split"
"""The row of a file that holds the rows it was trained on."""


@dataclass(frozen=True)
class Cell:
    """The graded test rows of one column, scored by what was trained on one row of the matrix.

    ``draws`` are the same in every cell of a column that holds the same rows. ``apart`` are others, for cells on other
    questions: the same draws would look like pairing.
    """

    trained_on: str
    tested_on: str
    in_domain: bool
    rows: Rows
    validation: Rows
    draws: Bootstrap
    apart: Bootstrap


def matrix(
    records: Sequence[Record], trained: Mapping[str, Sequence[Record]], *, seed: int, resamples: int, min_rows: int
) -> dict[str, Any] | None:
    """The block ``matrix`` of results.json; None where nothing says what a confidence was trained on.

    Rows are the names in ``trained``, or what the records say (``trained_on``), or else the file's own training
    split; columns are domains, or tasks where the records are of several (a record's ``tested_on`` wins). A
    cell is in domain where the row's name is the column's (several names are joined with +), or the training
    split holds it. The drop is the AUROC of another row trained on this column
    minus this one's, on the same questions, or else that of this row's own domain, on other questions. In a cell
    whose accuracy is not significantly above guessing nothing can be measured.
    """
    cells = _cells(records, trained, resamples, seed)
    if not cells:
        return None
    sources = [source for cell in cells.values() for source in cell.rows.competing]
    main = "stack" if "stack" in sources else sources[0] if sources else None
    entries = [_entry(cell, cells, min_rows) for cell in cells.values()]
    return {
        "rows": list(dict.fromkeys(trained_on for trained_on, _ in cells)),
        "columns": list(dict.fromkeys(tested_on for _, tested_on in cells)),
        "cells": entries,
        "source": main,
        "sentences": _sentences(main, entries),
    }


def guessing(records: Sequence[Record]) -> float:
    """Accuracy without knowing: 1 / number of choices, averaged; for open questions the commonest reference's share."""
    chance = [1 / len(r.choices) for r in records if r.choices]
    commonest = Counter(json.dumps(r.reference, default=str) for r in records if not r.choices and r.reference)
    opened = len(records) - len(chance)
    top = max(commonest.values()) / opened if commonest else 0.0
    return (sum(chance) + top * opened) / len(records)


def _cells(
    records: Sequence[Record], trained: Mapping[str, Sequence[Record]], resamples: int, seed: int
) -> dict[tuple[str, str], Cell]:
    by_training = {name: RecordTable.of(rows) for name, rows in trained.items()} or _by_training(
        RecordTable.of(records)
    )
    several = len({task for rows in by_training.values() for task in tested(rows).coded("task").present()}) > 1

    def columns_of(rows: RecordTable) -> NDArray[np.object_]:
        named, task, domain = (c.each() for c in (rows.extra("tested_on"), rows.coded("task"), rows.coded("domain")))
        told = [str(n or (t if several else d) or t or "all") for n, t, d in zip(named, task, domain, strict=True)]
        return np.array(told, dtype=np.object_)

    cells: dict[tuple[str, str], Cell] = {}
    for name, rows in by_training.items():
        check_one_model(tested(rows))
        usable = graded(answerable(rows))
        held_out = tested(usable)
        if not held_out:
            raise ConfideError(f"no graded test record was scored by what was trained on {name}")
        # Cells of a column draw the same entities only where their rows come in the same order.
        held_out = held_out.take(np.argsort(held_out.ids, kind="stable"))
        columns = columns_of(held_out)
        trained_rows = rows.take(rows.coded("split").where("train"))
        seen = set(columns_of(trained_rows)) if name == OWN else set(name.split("+"))
        validation = Rows(usable.take(usable.coded("split").where("validation")))
        for tested_on in dict.fromkeys(columns.tolist()):
            row = Rows(held_out.take(columns == tested_on))
            draws, apart = (row.bootstrap(resamples, s) for s in (seed, seed + 1))
            cells[name, tested_on] = Cell(name, tested_on, tested_on in seen, row, validation, draws, apart)
    return cells


def _by_training(records: RecordTable) -> dict[str, RecordTable]:
    """Records by what their confidences were trained on, where they say so or bring the training split along."""
    told = records.extra("trained_on")
    names = ["" if v is None else "+".join(map(str, v)) if isinstance(v, list) else str(v) for v in told.values]
    of_row = np.array(names)[told.codes]
    if named := {name: records.take(of_row == name) for name in dict.fromkeys(of_row.tolist()) if name}:
        return named
    splits, domains = records.coded("split").present(), tested(records).coded("domain").present()
    return {OWN: records} if "train" in splits and len(domains) > 1 else {}


def _entry(cell: Cell, cells: dict[tuple[str, str], Cell], min_rows: int) -> dict[str, Any]:
    y, clusters = cell.rows.correct, cell.draws.clusters
    n, right = len(y), int(y.sum())
    accuracy = estimate(cell.draws.mean(y.astype(np.float64), np.arange(n)))
    chance = guessing(cell.rows.records)
    reason = ""
    if n < min_rows or clusters < MIN_CLUSTERS:
        about = f"{some(n, 'row')} about {some(clusters, 'entity', 'entities')}"
        reason = f"{about}; a cell takes {min_rows} and {MIN_CLUSTERS}"
    elif min(right, n - right) < MIN_KIND:
        reason = f"{right} right and {n - right} wrong; a cell takes {MIN_KIND} of each"
    elif accuracy["low"] is None or accuracy["low"] <= chance:
        reason = f"accuracy {right / n:.0%} is not significantly above guessing ({chance:.0%})"
    # Chosen on these very rows the best free source is favoured; chosen on validation rows it is not.
    free, free_validation = _best_free(cell.rows), _best_free(cell.validation)

    def against(source: str, rival: str | None) -> Estimate | None:
        return None if rival is None else cell.rows.auroc_difference(source, rival, cell.draws)

    return {
        "trained_on": cell.trained_on,
        "tested_on": cell.tested_on,
        "in_domain": cell.in_domain,
        "n": n,
        "accuracy": accuracy,
        "guessing": chance,
        "measurable": not reason,
        "reason": reason,
        "free": free,
        "free_validation": free_validation,
        "sources": {
            source: {
                "auroc": estimate(cell.rows.auroc(source, cell.draws)),
                "drop": _drop(cell, source, cells),
                "against_free": against(source, free),
                "against_free_validation": against(source, free_validation),
            }
            for source in cell.rows.competing
        },
    }


def _drop(cell: Cell, source: str, cells: dict[tuple[str, str], Cell]) -> dict[str, Any] | None:
    """In-domain AUROC minus this cell's; None in domain and where there is nothing to compare with."""
    if cell.in_domain:
        return None
    home = cells.get((cell.tested_on, cell.tested_on))
    if home is not None and source in home.rows.sources:
        at_home, own = home.rows.present(source), cell.rows.present(source)
        places = dict(zip(home.rows.records.ids[at_home].tolist(), at_home.tolist(), strict=True))
        matched = [
            (row, places[name])
            for row, name in zip(own.tolist(), cell.rows.records.ids[own].tolist(), strict=True)
            if name in places
        ]
        if matched:
            here, there = np.array(matched).T
            # One bootstrap draws for both, so that the difference is paired.
            x, y = home.rows.confidence(source)[there], home.rows.correct[there]
            drawn = cell.draws.metric(auroc, x, y, here)
            drop = estimate(drawn - cell.rows.auroc(source, cell.draws, here))
            return {**drop, "paired": True, "against": f"trained on {cell.tested_on}", "n": len(here)}
    domestic = [
        c for c in cells.values() if c.trained_on == cell.trained_on and c.in_domain and source in c.rows.sources
    ]
    if not domestic:
        return None
    elsewhere = np.mean([c.rows.auroc(source, c.apart) for c in domestic], axis=0)
    drop = estimate(elsewhere - cell.rows.auroc(source, cell.draws))
    return {**drop, "paired": False, "against": f"tested on {', '.join(c.tested_on for c in domestic)}", "n": None}


def _best_free(rows: Rows) -> str | None:
    """The free source with the best AUROC on these rows; None without a free source, or without both kinds."""
    found = {}
    for source in (s for s in rows.sources if family(s) == "free"):
        kept = rows.present(source)
        if len(np.unique(rows.correct[kept])) == 2:
            found[source] = auroc(rows.confidence(source)[kept], rows.correct[kept])
    return max(found, key=found.__getitem__, default=None)


def _sentences(source: str | None, cells: list[dict[str, Any]]) -> list[str]:
    """What the matrix says about its main source, and which cells say nothing."""
    said, worse, better, compared = [], [], [], 0
    if silent := [_name(cell) for cell in cells if not cell["measurable"]]:
        said.append(f"Not measurable, so no claim: {'; '.join(silent)}.")
    for cell in (cell for cell in cells if cell["measurable"] and source in cell["sources"]):
        gap = cell["sources"][source]["against_free"]
        if gap is not None and gap["low"] is not None:
            compared += 1
            worse += [_name(cell)] if side(gap) == "below" else []
            better += [_name(cell)] if side(gap) == "above" else []
    if compared:
        said.append(
            f"{source} is significantly worse than the best free source in {len(worse)} of {compared} measurable "
            f"cells{' (' + '; '.join(worse) + ')' if worse else ''} and significantly better in {len(better)}."
        )
    return said


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['trained_on']} → {cell['tested_on']}"
