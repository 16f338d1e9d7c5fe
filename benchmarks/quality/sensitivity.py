"""How much the training choices matter: masking, ratio, KL weight, rank, ask tokens and rows, one at a time, one seed.

    python -m benchmarks.quality.sensitivity                    # all of it; a killed run continues
    python -m benchmarks.quality.sensitivity --only self-ref    # lines whose files begin so; several processes at once
    python -m benchmarks.quality.sensitivity --report           # only puts the tables together

Starts from geography's records and states (`study`, which makes them where they are missing) and the standard split,
first seed. Readers and the stack are judged raw by AUROC and, calibrated on validation rows, by Brier score; nothing
is chosen here.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from answer_probability import answer_log_probability
from benchmarks import common
from benchmarks.common import Json, Work, interval, table
from benchmarks.quality.cells import Parts, fit_stack, partition, picked, sampled_metrics
from benchmarks.quality.study import (
    fit_readers,
    fit_self_ref,
    geography_records,
    geography_states,
    of_split,
    read_logits,
    self_ref_confidence,
)
from confide.methods.method import labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.stack.states import States
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.numeric import Floats
from confide.policies.calibrators import fit_calibrator
from confide.records import Record

TEST, VALIDATION, EPOCHS = 1200, 400, 2
BASE_ROWS = 1000
COUNTS = (250, 500, 1000, 2000, 4000)
READERS: dict[str, tuple[int, ReaderConfig]] = {
    **{f"ask tokens {m}": (BASE_ROWS, ReaderConfig(ask_tokens=m, epochs=EPOCHS)) for m in (0, 1, 2, 4, 8, 16)},
    **{f"rows {n}": (n, ReaderConfig(epochs=EPOCHS)) for n in COUNTS if n != BASE_ROWS},
    **{f"rank {r}": (BASE_ROWS, ReaderConfig(epochs=EPOCHS, rank=r)) for r in (2, 8, 32)},
}
SELF_REF_BASE = SelfRefConfig(epochs=1, max_rows=2000, learning_rate=1e-4, batch_size=8)
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


class Lines(Work):
    """The work folder, the rows of every line, and which lines are made here."""

    def __init__(self, folder: Path, only: str, records: Sequence[Record], parts: Parts):
        super().__init__(folder)
        self.only = tuple(only.split(","))
        self.train = picked(records, parts["train"])
        self.held, self.tested = (of_split(records, part, parts[part]) for part in ("validation", "test"))

    def line(self, name: str, make: Callable[[], Json]) -> None:
        """Make a line, if it is wanted, and note what it ran on: lines may be made on several machines."""
        if self.wants(name):
            self.stage(name, lambda: make() | {"machine": common.machine()})

    def wants(self, name: str) -> bool:
        return name.startswith(self.only) and not (self.folder / f"{name}.json").exists()

    def judge(self, read: Callable[[list[Record]], Floats]) -> Json:
        """AUROC of the raw values and Brier score after Platt scaling on the validation rows, with intervals."""
        validation, test = read(self.held), read(self.tested)
        probability = fit_calibrator(validation, labels(self.held), "platt").predict(test)
        bootstrap = Bootstrap([r.cluster for r in self.tested], resamples=1000, seed=0)
        sampled = sampled_metrics(bootstrap, np.arange(len(test)), test, probability, labels(self.tested))
        return {name: estimate(sampled[name]) for name in ("auroc", "brier")}


def slug(kind: str, name: str) -> str:
    return f"{kind}-{name.replace(' ', '-').replace(':', '-')}"


def readers(work: Lines) -> None:
    """Readers by ask tokens, rows and rank."""

    def make(reader: Reader, count: int) -> Json:
        seconds = sum(epoch["seconds"] for epoch in reader.history)
        return work.judge(partial(read_logits, work.engine, reader)) | {"rows": count, "training_seconds": seconds}

    for count in COUNTS:
        wanted = {n: config for n, (rows, config) in READERS.items() if rows == count and work.wants(slug("reader", n))}
        for name, reader in fit_readers(work.engine, work.train[:count], work.held, wanted) if wanted else ():
            work.line(slug("reader", name), partial(make, reader, count))


def stacks(work: Lines, parts: Parts, states: Callable[[], States]) -> None:
    """Stacks by training rows, and the free signal."""

    def make(count: int) -> Json:
        known = states()  # before the clock starts
        began = time.monotonic()
        held, tested = known.take(parts["validation"]), known.take(parts["test"])
        signals = fit_signals(work.train[:count])
        stack = fit_stack(known.take(parts["train"][:count]), work.train[:count], held, work.held, signals, 0)
        seconds = time.monotonic() - began
        judged = work.judge(lambda rows: stack.read(held if rows is work.held else tested, rows)["stack"])
        return judged | {"rows": count, "training_seconds": seconds}

    for count in COUNTS:
        work.line(f"stack-rows-{count}", partial(make, count))
    work.line("free", lambda: work.judge(lambda rows: np.array([sum(r.logprobs) for r in rows])))


def self_ref(work: Lines) -> None:
    """Self-REF by each of its choices."""
    train = of_split(work.train[:4000], "train")
    groups = {
        f"{name}_answers_moved": [r for r in work.tested if r.correct == right][:300]
        for name, right in (("wrong", False), ("right", True))
    }

    def make(name: str) -> Json:
        out = work.folder / slug("model", name)
        trained = fit_self_ref(train, SELF_REF[name], out)
        judged = work.judge(partial(self_ref_confidence, trained))
        for group, rows in groups.items():
            after = answer_log_probability(trained.model, trained.tokenizer, rows)
            judged[group] = float(np.mean(after) - np.mean([sum(r.logprobs) for r in rows]))
        shutil.rmtree(out)  # eight checkpoints would stay
        about = {"rows": trained.right + trained.wrong, "wrong": trained.wrong, "training_seconds": trained.seconds}
        return judged | about

    for name in SELF_REF:
        work.line(slug("self-ref", name), partial(make, name))


def tables(result: Json) -> str:
    """Where the lines were made, and a table of readers and one of Self-REF."""
    where: dict[str, list[str]] = defaultdict(list)
    lines = result["readers"] | {f"Self-REF, {name}": row for name, row in result["self_ref"].items()}
    for name, row in lines.items():
        kinds = where[row["machine"]["device"]]
        if (kind := re.split("[ ,]", name)[0]) not in kinds:
            kinds.append(kind)
    made = "; ".join(f"{', '.join(kinds)} on {device}" for device, kinds in where.items())
    read = [
        [name, row.get("rows", "–"), interval(row["auroc"]), interval(row["brier"]),
         f"{row['training_seconds']:.0f}" if "training_seconds" in row else "–"]
        for name, row in result["readers"].items()
    ]  # fmt: skip
    said = [
        [name, f"{row['rows']} ({row['wrong']})", interval(row["auroc"]), interval(row["brier"]),
         f"{row['wrong_answers_moved']:+.2f}", f"{row['right_answers_moved']:+.2f}"]
        for name, row in result["self_ref"].items()
    ]  # fmt: skip
    texts = [
        f"Where: {made}. Seconds compare within one machine only; lines ran side by side.",
        table("reader or stack | >training rows | AUROC | Brier | >training s", read),
    ]
    head = "Self-REF | >rows (wrong) | AUROC | Brier | >log p of wrong answers | >log p of right answers"
    return "\n\n".join([*texts, *([table(head, said)] if said else [])])


def report(folder: Path, out: Path) -> None:
    """Put the lines together that are there."""
    names = {"logprob_sum (free)": "free"} | {f"stack, {n} rows": f"stack-rows-{n}" for n in COUNTS}
    names |= {f"reader, {n}": slug("reader", n) for n in READERS}
    blocks = {"readers": names, "self_ref": {n: slug("self-ref", n) for n in SELF_REF}}
    result = {
        block: {n: common.read_json(path) for n, file in files.items() if (path := folder / f"{file}.json").exists()}
        for block, files in blocks.items()
    }
    write(common.write_result(out, "quality/sensitivity.py", result))


def write(result: Json) -> None:
    """Put the tables into the page."""
    common.put("docs/sensitivity.md", {"sensitivity": tables(result)})


def main() -> None:
    options = common.parser(__doc__, "sensitivity")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument("--only", default=",".join(KINDS), help="beginnings of the lines to make, comma-separated")
    options.add_argument("--report", action="store_true", help="only put together what is there")
    arguments = options.parse_args()
    if not arguments.report:
        quality = Work(arguments.quality)
        records = geography_records(quality)
        states = cache(lambda: geography_states(quality, records))
        parts, _ = partition(records, "standard", 0)
        parts |= {"validation": parts["validation"][:VALIDATION], "test": parts["test"][:TEST]}
        work = Lines(arguments.work, arguments.only, records, parts)
        stacks(work, parts, states)
        self_ref(work)
        readers(work)
    if arguments.only == options.get_default("only"):
        report(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
