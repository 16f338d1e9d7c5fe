"""What every importer makes: the rows of a log, and what it had to leave out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confide.data_files import check_unique
from confide.errors import ConfideError
from confide.records import Record
from confide.records.record_files import validated

_TAG = r"<{0}>\s*(.*?)\s*</{0}>"


@dataclass
class Imported:
    """The answers of a log.

    Attributes:
        tool: whose log it is.
        rows: where each answer stands, and its values by the keys of a record.
        label: the metric, scorer or reward that said which answers are right ("": the log has none).
        labels: all that it has, ``label`` among them.
        left_out: reason → how many answers were left out for it.
    """

    tool: str
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    label: str = ""
    labels: Sequence[str] = ()
    left_out: Counter[str] = field(default_factory=Counter)

    def records(self, name: str) -> list[Record]:
        """The rows as records.

        Args:
            name: what errors call the log.

        Raises:
            ConfideError: a bad value, with its place; no row, or an id that occurs twice.
        """
        if not self.rows:
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in self.left_out.items())
            raise ConfideError(f"{name} holds no answer{f' ({reasons})' if reasons else ''}")
        records = list(validated(self.rows, name))
        check_unique((record.id for record in records), name)
        return records


def chosen(wanted: str | None, there: Sequence[str], what: str, name: str) -> str:
    """The one of a log's metrics or filters that is wanted, or its first ("" where there is none).

    Args:
        wanted: its name; None: the first.
        there: the names of all.
        what: what they are.
        name: what errors call the log.

    Raises:
        ConfideError: there is none of this name.
    """
    if wanted is None:
        return there[0] if there else ""
    if wanted not in there:
        raise ConfideError(f"{name} has no {what} {wanted}; there are: {', '.join(there) or 'none'}")
    return wanted


def right(value: Any, label: str, where: str) -> bool | None:
    """What a metric says of an answer: right (1), wrong (0), or nothing (None).

    >>> right(1.0, "acc", "line 1")
    True

    Raises:
        ConfideError: any other value, with the place ``where`` it stands.
    """
    if value is None or value in (0, 1):
        return None if value is None else bool(value)
    raise ConfideError(f"{where}: {label} is {value!r}, and only 0 or 1 says wrong or right; choose another by --label")


def of_words(text: str) -> dict[str, Any]:
    """An answer that may state its confidence in tags, as models trained by RLCR do (arXiv 2507.16806).

    >>> of_words("<think>Cusco?</think><answer>Peru</answer><confidence>0.9</confidence>")
    {'answer': 'Peru', 'reasoning': 'Cusco?', 'confidence': {'verbalized': 0.9}}
    >>> of_words(" Peru ")
    {'answer': 'Peru'}
    """
    answer, stated = _last(text, "answer"), _last(text, "confidence")
    if answer is None or stated is None:
        return {"answer": text.strip()}
    found: dict[str, Any] = {"answer": answer}
    if (reasoning := _last(text, "think")) is not None:
        found["reasoning"] = reasoning
    try:
        share = float(stated)
    except ValueError:
        share = -1.0
    return found | {"confidence": {"verbalized": share if 0 <= share <= 1 else None}}


def asked(prompt: Any) -> list[dict[str, Any]]:
    """A prompt, text or turns of a conversation, as the messages of a record."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def said(completion: Any) -> str:
    """A completion, text or turns of a conversation, as text: what was said last."""
    return completion if isinstance(completion, str) else str(completion[-1].get("content") or "")


def texts(values: Iterable[Any]) -> list[str]:
    """The distinct texts of ``values``, in their order."""
    return list(dict.fromkeys(map(str, values)))


def _last(text: str, tag: str) -> str | None:
    found = re.findall(_TAG.format(tag), text, re.DOTALL)
    return found[-1] if found else None
