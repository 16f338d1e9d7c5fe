"""Training rows of a red-flag token: harmful answers with a flag in them, harmless ones as they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confide.engines.engine import Engine, check_context, prompt_and_answer
from confide.errors import ConfideError
from confide.methods.finetuning.labelled_rows import LabelledRow
from confide.methods.red_flag.flag_loss import flag_place
from confide.records import Record
from confide.tasks.red_flag.near_duplicates import shared_prompts


@dataclass(frozen=True)
class FlagRow(LabelledRow):
    """A row whose labels are flags.

    Attributes:
        base_ids: what the base model reads: the row without its flag, as long as the row.
        kept: the tokens of ``input_ids`` that are held to the base model, from the one in front of them.
        base_kept: the same tokens in ``base_ids``.
    """

    base_ids: tuple[int, ...] = ()
    kept: tuple[int, int] = (0, 0)
    base_kept: tuple[int, int] = (0, 0)

    def columns(self) -> dict[str, list[Any]]:
        """The row as `collate` takes it; ``answer`` marks what is held to the base."""

        def marks(span: tuple[int, int]) -> list[int]:
            return [int(span[0] <= place < span[1]) for place in range(len(self.input_ids))]

        columns = {"input_ids": self.input_ids, "labels": self.labels, "answer": marks(self.kept)}
        return columns | {"base_ids": list(self.base_ids), "base_answer": marks(self.base_kept)}


def harmful_row(name: str, prompt: list[int], answer: list[int], flag: int, place: int, min_offset: int) -> FlagRow:
    """A harmful answer with the flag behind ``place`` tokens, which is the label there and before, from the offset on.

    >>> row = harmful_row("a", [1, 2], [3, 4, 5], 9, place=2, min_offset=1)
    >>> row.input_ids, row.labels, row.base_ids
    ([1, 2, 3, 4, 9, 5], [-100, -100, -100, 9, 9, -100], (1, 2, 3, 4, 5, 5))
    """
    start = len(prompt)
    ids = [*prompt, *answer[:place], flag, *answer[place:]]
    first, at = start + min(min_offset, place), start + place
    labels = [flag if first <= i <= at else -100 for i in range(len(ids))]
    base = (*prompt, *answer, answer[-1])  # as long as the row; its last token is not looked at
    end = start + len(answer)
    return FlagRow(name, ids, labels, (start, len(ids)), "", base, (at + 1, end + 1), (at, end))


def harmless_row(name: str, prompt: list[int], answer: list[int]) -> FlagRow:
    """A harmless answer, which is held to the base model from its first token on."""
    ids = [*prompt, *answer]
    span = (len(prompt), len(ids))
    return FlagRow(name, ids, [-100] * len(ids), span, "", tuple(ids), span, span)


def build_flag_rows(
    engine: Engine, records: Sequence[Record], flag: int, *, min_offset: int, seed: int
) -> list[FlagRow]:
    """Graded records as training rows; where a flag goes is drawn by the seed and the record's id."""
    rows = []
    for record in records:
        prompt, answer = prompt_and_answer(engine, record)
        if not answer:
            continue
        if record.correct:
            row = harmless_row(record.id, prompt, answer)
        else:
            place = flag_place(len(answer), min_offset, random.Random(f"{seed}-{record.id}"))
            row = harmful_row(record.id, prompt, answer, flag, place, min_offset)
        rows.append(row)
    check_context({row.id: len(row.input_ids) for row in rows}, engine.context)
    return rows


def check_sides(train: Sequence[Record], validation: Sequence[Record]) -> None:
    """Raise `ConfideError` for labels of one kind, or harmful prompts that are nearly the same on both sides."""
    sides = {"train": train, "validation": validation}
    for side, rows in sides.items():
        harmful = sum(record.correct is False for record in rows)
        if not harmful or harmful == len(rows):
            raise ConfideError(
                f"the {side} rows hold {harmful} harmful and {len(rows) - harmful} harmless answers: both are needed"
            )
    asked = {side: [aim_of(record) for record in rows if record.correct is False] for side, rows in sides.items()}
    if shared_prompts({side: sorted(set(prompts)) for side, prompts in asked.items()}):
        raise ConfideError(
            "train and validation rows ask nearly the same harmful things: split them by the entities that the task "
            "red_flag gives (confide split)"
        )


def aim_of(record: Record) -> str:
    """The request that a record's answer serves: that of its opening where it has one, else its question."""
    aim = (record.model_extra or {}).get("aim")
    return aim if isinstance(aim, str) else record.question
