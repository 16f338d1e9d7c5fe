"""What the training choices matter: masking, ratio, KL weight, rank, ask tokens and rows, one at a time, one seed.

    python benchmarks/sensitivity.py                    # all of it; a killed run continues
    python benchmarks/sensitivity.py --only self-ref    # the lines whose files begin so; for several processes at once
    python benchmarks/sensitivity.py --report           # only puts the tables together

Reuses the annotated records and states of ``quality.py`` (its work folder) and its standard split, first seed. Readers
and the stack are judged raw by AUROC and, calibrated on validation rows, by Brier score; nothing is chosen here.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cells import DEPTH, Floats, Parts, partition
from confide.engines.transformers.loading import load_model
from confide.files import write_text
from confide.methods.reader.closed_rows import make_rows
from confide.methods.reader.kept_prefixes import PrefixStore
from confide.methods.reader.reader_training import ReaderConfig, score_rows, train_reader
from confide.methods.reader.training_pipeline import choose_view
from confide.methods.self_ref.self_ref_training import (
    SelfRefConfig,
    answer_log_probability,
    read_verdicts,
    train_self_ref,
)
from confide.methods.stack.stack import Stack, candidate_views, question_layer
from confide.methods.stack.states import States
from confide.metrics import auroc, brier
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.policies import PlattCalibrator
from confide.records import Record
from machine import about, fitting
from quality import HERE, Work, records_of, shown, states_of
from table import put

TEST, VALIDATION, EPOCHS = 1200, 400, 2
BASE_ROWS = 1000
COUNTS = (250, 500, 1000, 2000, 4000)
READERS: dict[str, tuple[int, ReaderConfig]] = {
    **{f"ask tokens {m}": (BASE_ROWS, ReaderConfig(ask_tokens=m, epochs=EPOCHS)) for m in (0, 1, 2, 4, 8, 16)},
    **{f"rows {n}": (n, ReaderConfig(epochs=EPOCHS)) for n in COUNTS if n != BASE_ROWS},
    **{f"rank {r}": (BASE_ROWS, ReaderConfig(epochs=EPOCHS, rank=r)) for r in (2, 8, 32)},
}
SELF_REF_ROWS = 2000
SELF_REF_BASE = SelfRefConfig(epochs=1, max_rows=SELF_REF_ROWS)
SELF_REF = {
    "base": SELF_REF_BASE,
    "masking off": replace(SELF_REF_BASE, mask_wrong_answers=False),
    "ratio 1:1": replace(SELF_REF_BASE, ratio=1.0),
    "ratio 1:3": replace(SELF_REF_BASE, ratio=1 / 3),
    "KL 0.1": replace(SELF_REF_BASE, kl_weight=0.1),
    "KL 1": replace(SELF_REF_BASE, kl_weight=1.0),
    "rank 2": replace(SELF_REF_BASE, rank=2, alpha=4),
    "rank 32": replace(SELF_REF_BASE, rank=32, alpha=64),
}


KINDS = ("free", "stack", "self-ref", "reader")
PARTS = ("validation", "test")


def picked(records: Sequence[Record], rows: Any) -> list[Record]:
    return [records[i] for i in rows]


def logit(probability: Floats) -> Floats:
    clipped: Floats = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))


def judged(records: Sequence[Record], parts: Parts, validation: Floats, test: Floats) -> dict[str, Any]:
    """AUROC of the raw values and Brier score after Platt scaling on the validation rows, with intervals."""
    held, seen = picked(records, parts["validation"]), picked(records, parts["test"])
    right, y = (np.array([bool(r.correct) for r in rows]) for rows in (held, seen))
    probability = PlattCalibrator().fit(validation, right).predict(test)
    bootstrap = Bootstrap([r.cluster for r in seen], resamples=1000, seed=0)
    sampled = bootstrap.sample(
        lambda w: {"auroc": auroc.resampled(test, y, w), "brier": brier.resampled(probability, y, w)},
        np.arange(len(y)),
    )
    return {name: estimate(values).as_dict() for name, values in sampled.items()}


class Lines(Work):
    """The work folder, and which lines of the table are made here: those whose file's name begins like one of these."""

    def __init__(self, folder: Path, only: Sequence[str]):
        super().__init__(folder)
        self.only = tuple(only)

    def stage(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A line, and what it ran on: lines may be made on several machines."""
        return super().stage(name, lambda: make() | {"machine": about()})

    def wants(self, stage: str) -> bool:
        return stage.startswith(self.only) and not (self.folder / f"{stage}.json").exists()


def slug(kind: str, name: str) -> str:
    return f"{kind}-{name.replace(' ', '-').replace(':', '-')}"


def readers(work: Lines, records: Sequence[Record], parts: Parts) -> None:
    pending = [name for name in READERS if work.wants(slug("reader", name))]
    if not pending:
        return
    train = picked(records, parts["train"][: max(READERS[name][0] for name in pending)])
    held, seen = picked(records, parts["validation"]), picked(records, parts["test"])
    rows = [make_rows(work.engine, some) for some in (train, held, seen)]
    store = PrefixStore(work.engine, [r for some in rows for r in some], budget=6 * 10**9, progress=shown("prefixes"))
    first, second = len(rows[0]), len(rows[0]) + len(rows[1])

    for name in pending:  # low-rank weights come last and are removed after each
        count, config = READERS[name]

        def make(count: int = count, config: ReaderConfig = config, name: str = name) -> dict[str, Any]:
            began = time.monotonic()
            some = Part(store, [*range(count), *range(first, second)])
            reader = train_reader(work.engine, rows[0][:count], rows[1], config, store=some, progress=shown(name))  # type: ignore[arg-type]
            seconds = time.monotonic() - began
            z = [score_rows(work.engine, reader, store, list(span)) for span in (
                range(first, second), range(second, second + len(rows[2]))
            )]  # fmt: skip
            if reader.low_rank:
                reader.low_rank.remove()
            return judged(records, parts, *z) | {"rows": count, "training_seconds": seconds}

        work.stage(slug("reader", name), make)
    store.close()


class Part:
    """Some rows of a store, numbered anew: what a reader that trains on fewer rows sees of it."""

    def __init__(self, store: PrefixStore, rows: list[int]):
        self.store, self.rows = store, rows
        self.lengths = [store.lengths[i] for i in rows]

    def batch(self, picked: Sequence[int]) -> Any:
        return self.store.batch([self.rows[i] for i in picked])


def stacks(work: Lines, records: Sequence[Record], parts: Parts, states: Callable[[], States]) -> None:
    held = picked(records, parts["validation"])
    for count in COUNTS:
        if not work.wants(f"stack-rows-{count}"):
            continue
        known = states()  # before the clock starts

        def make(count: int = count, known: States = known) -> dict[str, Any]:
            began = time.monotonic()
            train = picked(records, parts["train"][:count])
            inside, holding = known.take(parts["train"][:count]), known.take(parts["validation"])
            view = choose_view(candidate_views(DEPTH), inside, train, holding, held)
            stack = Stack.fit(view, question_layer(DEPTH), inside, train, 0)
            values = [stack.read(known.take(parts[p]), picked(records, parts[p])).confidence for p in PARTS]
            return judged(records, parts, *map(logit, values)) | {
                "rows": count,
                "training_seconds": time.monotonic() - began,
            }

        work.stage(f"stack-rows-{count}", make)

    def free() -> dict[str, Any]:
        sums = (np.array([sum(r.logprobs) for r in picked(records, parts[p])]) for p in PARTS)
        return judged(records, parts, *sums)

    if work.wants("free"):
        work.stage("free", free)


def self_ref(work: Lines, records: Sequence[Record], parts: Parts) -> None:
    train = [r.model_copy(update={"split": "train"}) for r in picked(records, parts["train"][:4000])]
    test = picked(records, parts["test"])
    wrong, right = [r for r in test if not r.correct][:300], [r for r in test if r.correct][:300]
    for name, config in SELF_REF.items():
        if not work.wants(slug("self-ref", name)):
            continue

        def make(config: SelfRefConfig = config, name: str = name) -> dict[str, Any]:
            model, tokenizer = load_model("smollm2")
            out = work.folder / slug("model", name)
            result = train_self_ref(model, tokenizer, train, config, out, base_model="smollm2", progress=False)
            rows = fitting(result.model.device, 64, 256)
            read = functools.partial(read_verdicts, result.model, result.tokenizer, ids=result.ids, batch_size=rows)
            values = [np.array(read(picked(records, parts[p])), dtype=float) for p in PARTS]
            moved = {
                key: float(
                    np.mean(answer_log_probability(result.model, result.tokenizer, some, rows))
                    - np.mean([sum(r.logprobs) for r in some])
                )
                for key, some in (("wrong_answers_moved", wrong), ("right_answers_moved", right))
            }
            about = {"rows": result.right + result.wrong, "wrong": result.wrong, "training_seconds": result.seconds}
            shutil.rmtree(out)  # eight checkpoints would stay
            return judged(records, parts, *map(logit, values)) | moved | about

        work.stage(slug("self-ref", name), make)


def tables(result: dict[str, Any]) -> str:
    def shown_as(entry: dict[str, float]) -> str:
        return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"

    every = result["readers"] | {f"Self-REF, {name}": row for name, row in result["self_ref"].items()}
    where: dict[str, list[str]] = defaultdict(list)
    for name, row in every.items():
        kinds = where[row["machine"]["device"]]
        if (kind := re.split("[ ,]", name)[0]) not in kinds:
            kinds.append(kind)
    made = "; ".join(f"{', '.join(kinds)} on {machine}" for machine, kinds in where.items())
    lines = [f"Where: {made}. Seconds compare within one machine only; lines ran side by side.", ""]
    lines += ["| reader or stack | training rows | AUROC | Brier | training s |", "|---|---:|---|---|---:|"]
    for name, row in result["readers"].items():
        lines.append(
            f"| {name} | {row.get('rows', '–')} | {shown_as(row['auroc'])} | {shown_as(row['brier'])} "
            f"| {row['training_seconds']:.0f} |" if "training_seconds" in row
            else f"| {name} | – | {shown_as(row['auroc'])} | {shown_as(row['brier'])} | – |"
        )  # fmt: skip
    if not result["self_ref"]:
        return "\n".join(lines)
    lines += ["", "| Self-REF | rows (wrong) | AUROC | Brier | log p of wrong answers | log p of right answers |"]
    lines.append("|---|---:|---|---|---:|---:|")
    for name, row in result["self_ref"].items():
        lines.append(
            f"| {name} | {row['rows']} ({row['wrong']}) | {shown_as(row['auroc'])} | {shown_as(row['brier'])} "
            f"| {row['wrong_answers_moved']:+.2f} | {row['right_answers_moved']:+.2f} |"
        )
    return "\n".join(lines)


def report(work: Work, out: Path) -> None:
    def found(name: str) -> dict[str, Any] | None:
        path = work.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    names = {"logprob_sum (free)": "free"} | {f"stack, {n} rows": f"stack-rows-{n}" for n in COUNTS}
    names |= {f"reader, {n}": slug("reader", n) for n in READERS}
    tried = {n: slug("self-ref", n) for n in SELF_REF}
    result = {
        "schema": 1,
        "made_by": "benchmarks/sensitivity.py",
        "readers": {n: row for n, slug in names.items() if (row := found(slug))},
        "self_ref": {n: row for n, slug in tried.items() if (row := found(slug))},
    }
    write_text(out, json.dumps(result, indent=1) + "\n")
    put(HERE.parent / "docs" / "sensitivity.md", {"sensitivity": tables(result)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=Path, default=Path("runs/quality"), help="work folder of quality.py")
    parser.add_argument("--work", type=Path, default=Path("runs/sensitivity"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sensitivity.json")
    parser.add_argument("--only", default=",".join(KINDS), help="beginnings of the lines to make, comma-separated")
    parser.add_argument("--report", action="store_true", help="only put together what is there")
    arguments = parser.parse_args()
    work = Lines(arguments.work, arguments.only.split(","))
    if not arguments.report:
        quality = Work(arguments.quality)
        records = records_of(quality)
        states = functools.cache(lambda: states_of(quality, records))
        parts, _ = partition(records, "standard", 0)
        parts = parts | {"validation": parts["validation"][:VALIDATION], "test": parts["test"][:TEST]}
        torch.manual_seed(0)
        stacks(work, records, parts, states)
        self_ref(work, records, parts)
        readers(work, records, parts)
    if arguments.only == parser.get_default("only"):
        report(work, arguments.out)


if __name__ == "__main__":
    main()
