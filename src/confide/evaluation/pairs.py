"""The pairs: two runs' graded answers to the same questions, matched by id, and what has no partner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.record_columns import Rows, extra, tested
from confide.evaluation.samples import folded
from confide.evaluation.wording import some
from confide.metrics.bootstrap import Bootstrap
from confide.numeric import Bools
from confide.policies.identities import check_one_model
from confide.records import Record, RecordTable
from confide.records.score_tables import numbered

NAMED = 20
"""Ids that are named of each kind of row that counts no further."""


@dataclass(frozen=True)
class Pairs:
    """The rows of two runs, the same question in the same place of both, and what was left out.

    ``only_a`` and ``only_b`` are ids that the other run does not have, ``ungraded`` ids that lack a grade in either.
    ``by_row`` says that neither file has ids, so that rows are matched by their numbers.
    """

    a: Rows
    b: Rows
    only_a: list[str]
    only_b: list[str]
    ungraded: list[str]
    by_row: bool = False

    @classmethod
    def of(cls, a: list[Record], b: list[Record]) -> Pairs:
        """Match two files of graded records; of each only the test split counts where it carries splits.

        Where each has one source, and they differ, they become one under both names.

        Raises:
            ConfideError: One is empty, holds several models' answers or an id twice; the tasks or the questions
                differ; no id is shared; no shared one is graded in both; or rows without ids cannot be told apart.
        """
        if by_row := _matched_by_row(a, b):
            a, b = ([r.model_copy(update={"id": str(i)}) for i, r in enumerate(rows, 1)] for rows in (a, b))
        first, second = _by_id(a, "A"), _by_id(b, "B")
        _check_tasks(first, second)
        common = [name for name in first if name in second]
        if not common:
            raise ConfideError(
                f"A and B share no id (A has {_some_ids(first)}, B {_some_ids(second)}): a comparison needs the same "
                "questions with the same ids in both"
            )
        for name in common:
            ours, theirs = _asked(first[name]), _asked(second[name])
            if ours and theirs and ours != theirs:
                raise ConfideError(f"the id {name!r} is another question in B than in A: they are not the same rows")
        graded = [name for name in common if first[name].correct is not None and second[name].correct is not None]
        if not graded:
            which = " and ".join(
                n for n, rows in (("A", first), ("B", second)) if all(rows[i].correct is None for i in common)
            )
            raise ConfideError(
                f"none of the {some(len(common), 'common row')} is graded in {which or 'both'}: "
                "`confide label` takes labels in"
            )
        one, other = (Rows(RecordTable.of([rows[name] for name in graded])) for rows in (first, second))
        if len({signal for rows in (one, other) for signal in rows.records.coded("signal").present()}) > 1:
            raise ConfideError("the labels of A and B are about different signals")
        known = set(graded)
        return cls(
            *_under_one_name(one, other),
            [name for name in first if name not in second],
            [name for name in second if name not in first],
            [name for name in common if name not in known],
            by_row,
        )

    def __len__(self) -> int:
        return len(self.a.records)

    @cached_property
    def gained(self) -> Bools:
        """Whether B is right where A was wrong [n]."""
        return self.b.correct & ~self.a.correct

    @cached_property
    def lost(self) -> Bools:
        """Whether B is wrong where A was right [n]."""
        return self.a.correct & ~self.b.correct

    @cached_property
    def reworded(self) -> Bools:
        """Whether B's answer is another one than A's [n]: another candidate, or another text where none is named."""
        return np.array(
            [_said(a, b) != _said(b, a) for a, b in zip(self.a.records, self.b.records, strict=True)], dtype=np.bool_
        )

    def bootstrap(self, resamples: int, seed: int) -> Bootstrap:
        """Draws of the questions' entities, the same ones for both runs."""
        return self.a.bootstrap(resamples, seed)

    def left_out(self) -> dict[str, dict[str, Any]]:
        """What counts no further: how many rows, and the first ids."""
        return {
            name: {"n": len(ids), "ids": ids[:NAMED]}
            for name, ids in (("only_a", self.only_a), ("only_b", self.only_b), ("ungraded", self.ungraded))
        }


def _matched_by_row(a: list[Record], b: list[Record]) -> bool:
    """Whether rows are to be matched by their numbers; raises `ConfideError` where these cannot tell."""
    without = [which for which, rows in (("A", a), ("B", b)) if numbered(rows)]
    if len(without) == 1:
        (which,) = without
        raise ConfideError(
            f"the rows of {which} have no ids, those of {'A' if which == 'B' else 'B'} have: name {which}'s column of "
            "ids with --id-column"
        )
    if without and len(a) != len(b):
        raise ConfideError(
            f"A has {some(len(a), 'row')}, B {len(b):,}, and neither has ids, so that nobody knows which belong "
            "together: name the column of ids with --id-column"
        )
    return bool(without)


def _under_one_name(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """The rows with a single source of each under both names, where the names differ."""
    if not (len(a.sources) == len(b.sources) == 1) or a.sources == b.sources:
        return a, b
    both = " / ".join((*a.sources, *b.sources))
    renamed = (
        [r.model_copy(update={"confidence": {both: r.confidence.get(rows.sources[0])}}) for r in rows.records]
        for rows in (a, b)
    )
    one, other = (replace(rows, records=RecordTable.of(records)) for rows, records in zip((a, b), renamed, strict=True))
    return one, other


def _by_id(records: list[Record], which: str) -> dict[str, Record]:
    """The rows that count, by id."""
    rows = [record for record in tested(records) if extra(record, "has_answer") is not False]
    if not rows:
        raise ConfideError(f"{which} holds no records to compare")
    try:
        check_one_model(rows)
    except ConfideError:
        raise ConfideError(
            f"{which} holds answers or confidences of several models: give each model a file of its own"
        ) from None
    found: dict[str, Record] = {}
    for record in rows:
        if record.id in found:
            raise ConfideError(f"{which} holds the id {record.id!r} twice: a comparison needs one row a question")
        found[record.id] = record
    return found


def _check_tasks(a: dict[str, Record], b: dict[str, Record]) -> None:
    ours, theirs = ({record.task for record in rows.values()} - {""} for rows in (a, b))
    if ours and theirs and not ours & theirs:
        raise ConfideError(
            f"A is of the task {', '.join(sorted(ours))} and B of {', '.join(sorted(theirs))}: "
            "only answers to the same questions can be compared"
        )


def _asked(record: Record) -> str:
    """The question as it was asked, "" where the record does not hold it."""
    return str(record.messages[-1].content or "").strip() if record.messages else ""


def _said(one: Record, other: Record) -> str:
    """What ``one`` answers, as it is compared with the ``other``."""
    if one.answered is not None and other.answered is not None:
        return one.answered
    return folded(one.answer)


def _some_ids(ids: Sequence[str] | dict[str, Record]) -> str:
    first = list(ids)[:2]
    return ", ".join(map(repr, first)) + (", …" if len(ids) > len(first) else "")
