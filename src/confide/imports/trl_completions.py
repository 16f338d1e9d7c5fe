"""Completions that TRL's trainers log (``log_completions=True``), among them those of RLCR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.hashing import key_of_text
from confide.imports.logged_rows import Imported, asked, chosen, of_words, right, said

TOOL = "TRL"
_COLUMNS = ("step", "prompt", "completion")


def is_completions(columns: Sequence[str]) -> bool:
    """Whether a table is one of completions that TRL logged."""
    return set(_COLUMNS) <= set(columns)


def read_completions(
    rows: Sequence[tuple[str, dict[str, Any]]], columns: Sequence[str], path: Path, label: str | None
) -> Imported:
    """Records of a table of completions; those of one prompt belong together.

    Args:
        rows: where each row is, and its values.
        columns: the names of the table's columns; what is neither prompt nor completion may be a reward.
        path: the file.
        label: the reward that says what is right; None: the first of 0 and 1 alone.

    Raises:
        ConfideError: an unknown reward, or one that is not 0 or 1.
    """
    rewards = [name for name in columns if name not in (*_COLUMNS, "advantage")]
    two = [name for name in rewards if all(row.get(name) in (0, 1, None) for _, row in rows)]
    reward = chosen(label, rewards if label else two, "reward", str(path))
    found = Imported(TOOL, label=reward, labels=rewards)
    written: Counter[object] = Counter()
    for place, row in rows:
        try:
            messages, step, answer = asked(row["prompt"]), row["step"], said(row["completion"])
        except (KeyError, IndexError, AttributeError) as error:
            raise ConfideError(f"{path}, {place} is no completion of {TOOL}: {error!r}") from None
        written[step] += 1
        values = {
            "id": f"{step}-{written[step]}",
            "entity": key_of_text(str(messages)),
            "messages": messages,
            "correct": right(row.get(reward), reward, f"{path}, {place}") if reward else None,
            "step": step,
            **of_words(answer),
        }
        found.rows.append((place, values))
    return found
