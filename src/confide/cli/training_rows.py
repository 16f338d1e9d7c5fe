"""The rows that ``confide train`` trains on: graded ones of two splits, and fewer where a choice is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from confide.cli.printing import warn
from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import option
from confide.methods.rlmf.rlmf_config import How
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.records import Record


@dataclass(frozen=True)
class Choice:
    """Which questions to train on."""

    select: How | None = option(None, "Train on some questions only: by the model's own rating, random, active.")
    select_rows: int = option(1000, "How many `--select` keeps.", min=1)
    select_source: str = option("logprob_sum", "The confidence that `--select active` holds against g.")


def learning_rows(path: Path) -> tuple[list[Record], list[Record]]:
    """The graded records of the train split and of the validation split."""
    graded = graded_rows(path)
    train, validation = graded["train"], graded["validation"]
    if not train or not validation:
        raise ConfideError(f"{path}: {len(train)} graded train and {len(validation)} validation rows; both are needed")
    return train, validation


def graded_rows(path: Path) -> dict[str, list[Record]]:
    """The graded records of the train split and of the validation split, by its name; says how many have no label."""
    from confide.evaluation.enough_rows import cut, shortages
    from confide.records import read_records

    everything = read_records(path)
    train = [record for record in everything if record.split == "train"]
    for sentence in shortages(train):
        if sentence != cut(train):  # `confide annotate` says it, of the whole file
            warn(sentence)
    rows = [record for record in everything if record.split in ("train", "validation")]
    graded = [record for record in rows if record.correct is not None]
    if len(graded) < len(rows):
        warn(f"{len(rows) - len(graded)} of the {len(rows)} train and validation rows have no label and are left out")
    return {split: [r for r in graded if r.split == split] for split in ("train", "validation")}


def chosen_rows(rows: list[Any], model: str, choice: Choice, seed: int) -> list[Any]:
    """The records with fewer train rows, where a choice is asked for; says how many could not be rated."""
    if choice.select is None:
        return rows
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.free import free_confidence
    from confide.methods.rlmf.selection import rate, select

    train = [record for record in rows if record.split == "train"]
    ratings = None
    if choice.select == "metacognitive":
        with progress_bar("rating") as progress:
            ratings = rate(TransformersEngine.load(model), train, progress=progress)
    elif choice.select == "active":
        for record in train:
            record.confidence = free_confidence(record) | record.confidence
    chosen = select(train, ratings, choice.select_rows, choice.select, seed, source=choice.select_source)
    typer.echo(f"{len(chosen.records)} of {len(train)} train rows kept, {chosen.dropped} had no score", err=True)
    return [*chosen.records, *(record for record in rows if record.split != "train")]
