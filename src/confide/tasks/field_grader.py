"""The grader of answers in JSON, leaf by leaf, against a reference that is an object.

A leaf is right where it has the reference's value: strings with the same words, numbers of the same value however they
are written, true, false and null themselves. Where the reference says null, leaving the key out is right, too. A leaf
that the reference does not have is wrong. The whole is right where every leaf of the reference is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from confide.parts.json_values import json_values, leaves
from confide.parts.part import Part
from confide.parts.part_records import PartGrader
from confide.tasks.text import spelled

_NUMBER = re.compile(r"[-+]?(?:\d{1,100}\.?\d{0,100}|\.\d{1,100})(?:[eE][-+]?\d{1,3})?")


def grade_fields(reference: Any, answer: str) -> tuple[bool | None, str | None]:
    """Whether an answer is right as a whole (None: there is no reference), and its JSON as all that agree have it."""
    found = json_values(answer)
    if found.state == "none":
        return (False if isinstance(reference, Mapping) else None), None
    told = {name: str(comparable(value)) for name, value in sorted(found.values.items()) if value is not None}
    right = None
    if isinstance(reference, Mapping):
        right = all(same_value(wanted, found.values.get(name)) for name, wanted in leaves(dict(reference)).items())
    return right, json.dumps(told, ensure_ascii=False)


def part_grader(reference: Any) -> PartGrader:
    """What grades the parts of an answer by a reference; one that is no object grades none.

    Arguments of a tool call are graded by the reference ``{"tool": {"argument": …}}``.
    """
    if not isinstance(reference, Mapping):
        return lambda _: (None, None)
    wanted = leaves(dict(reference))

    def graded(part: Part) -> tuple[bool | None, Any]:
        name = part.name if part.name.startswith("/") else f"/{part.name}"
        if name not in wanted:
            return False, None
        value = wanted[name]
        return same_value(value, part.value), [value if isinstance(value, str) else json.dumps(value)]

    return graded


def same_value(wanted: Any, given: Any) -> bool:
    """Whether a leaf has the reference's value.

    >>> same_value(100000, 1e5), same_value("Zoë", "zoe"), same_value(None, ""), same_value(True, 1)
    (True, True, False, False)
    """
    return bool(comparable(wanted) == comparable(given))


def comparable(value: Any) -> Any:
    """A leaf such that two with the same meaning are equal."""
    if value is None or isinstance(value, bool | list | dict):
        return (json.dumps(value),)  # true is not 1, nor is null "null"
    text = str(value)
    return Fraction(text.strip()) if _NUMBER.fullmatch(text.strip()) else spelled(text)
