"""What the served stack loses: its AUROC beside the stack's and those of other sources, on the same test rows.

Everything is read in process, from one pass over geography's answers (`study`): `parity` says how far an engine is from
that. Rows are those of the standard split (`cells`), 6,500 of them to train; answers that were cut have no served value
and are left out for every source.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.common import Json
from benchmarks.engines.prepared import Prepared
from benchmarks.quality.cells import in_process_sources, partition, picked
from benchmarks.quality.study import geography_records, geography_states
from confide.evaluation.record_columns import Rows
from confide.methods.method import labels
from confide.methods.stack.served_stack import SERVED
from confide.methods.stack.states import States
from confide.metrics import auroc
from confide.metrics.bootstrap import estimate
from confide.numeric import Floats, Ints
from confide.records import Record

SEEDS = (0, 1, 2)


def measure(prepared: Prepared) -> Json:
    """A cell for each seed."""
    records = geography_records(prepared.quality)
    states = geography_states(prepared.quality, records)
    seeds = SEEDS[:1] if prepared.quick else SEEDS
    cells = [prepared.stage(f"served-variant-{seed}", partial(cell, records, states, seed)) for seed in seeds]
    return {"cells": cells, "questions": len(records)}


def cell(records: Sequence[Record], states: States, seed: int) -> Json:
    """One seed's AUROC of every source, and what the served stack is ahead of each by."""
    parts, _ = partition(records, "standard", seed)
    sources = in_process_sources(records, states, parts, seed)
    test = parts["test"]
    columns = {name: values[test] for name, values in sources.items()}
    return judged(picked(records, test), columns, seed) | {"seed": seed, "train": len(parts["train"])}


def judged(tested: Sequence[Record], columns: dict[str, Floats], seed: int) -> Json:
    """AUROC of every source on the rows that the served stack has, and paired differences."""
    y = labels(tested)
    rows: Ints = np.flatnonzero(np.isfinite(columns[SERVED]))
    bootstrap = Rows(list(tested), {}, "test").bootstrap(1000, seed)
    drawn = {
        name: bootstrap.metric(auroc, values[rows], y[rows], rows)
        for name, values in columns.items()
        if np.isfinite(values[rows]).all()
    }
    return {
        "n": len(rows),
        "cut": len(tested) - len(rows),
        "auroc": {name: estimate(values) for name, values in drawn.items()},
        "ahead_of": {name: estimate(drawn[SERVED] - values) for name, values in drawn.items() if name != SERVED},
    }
