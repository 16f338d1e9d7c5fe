"""What a server says of the two verdict tokens after an answer, and what it read for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What came back of one reading.

    Attributes:
        difference: log p(confident) − log p(unconfident), in nats; None where it cannot be told.
        read: tokens that were read for it.
        written: tokens that were written for it.
    """

    difference: float | None = None
    read: int = 0
    written: int = 0


def count_in(usage: Any, name: str) -> int:
    """A number of tokens that a server tells; what is missing or odd counts as 0."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and count > 0 else 0


def list_in(data: dict[str, Any], name: str) -> list[Any]:
    """What is listed under a name; what is missing or odd lists nothing."""
    listed = data.get(name)
    return listed if isinstance(listed, list) else []


def choice_in(data: Any) -> dict[str, Any]:
    """The first choice of a completion ({}: there is none)."""
    choices = data.get("choices") if isinstance(data, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
