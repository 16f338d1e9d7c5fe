"""Arguments of tool calls as parts of what a model wrote.

Models write a call as a JSON object with the tool's name and its arguments, by itself or between tags. Servers parse
that away; what they told of the tokens still spells it, so that the arguments of `tool_calls` are found there again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from confide.parts.json_values import all_json_values, leaves
from confide.parts.part import Part

_NAME = "/name"
_ARGUMENTS = ("/arguments", "/parameters")


def argument_parts(text: str, calls: Sequence[Mapping[str, Any]] | None = None) -> list[Part]:
    """The arguments of every call in a text, named ``tool/argument``, those of a tool's second call ``tool#2/…``.

    Args:
        text: what the model wrote, the calls in it.
        calls: the calls as a server tells them (`tool_calls`); only these count then, each where it stands in the
            text, whatever stands around its arguments. None: those that the text shows.

    >>> [part.name for part in argument_parts('<tool_call>{"name": "look", "arguments": {"at": "x"}}</tool_call>')]
    ['look/at']
    """
    found = [call for values in all_json_values(text) for call in _calls(values.parts)]
    if calls is not None:
        found = [located for call in calls if (located := _located(text, found, call)) is not None]
    counts: Counter[str] = Counter()
    parts = []
    for tool, arguments in found:
        counts[tool] += 1
        name = tool if counts[tool] == 1 else f"{tool}#{counts[tool]}"
        parts += [replace(part, name=f"{name}{part.name}") for part in arguments]
    return parts


def _calls(parts: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """Tool and arguments of each call among the leaves of one JSON value: one call, or a list of them."""
    by_name = {part.name: part for part in parts}
    calls = []
    for name, part in by_name.items():
        front = name.removesuffix(_NAME)
        if not name.endswith(_NAME) or not isinstance(part.value, str) or front.count("/") > 1:
            continue
        for key in _ARGUMENTS:
            inside = [replace(p, name=n.removeprefix(front + key)) for n, p in by_name.items() if _in(n, front + key)]
            if inside:
                calls.append((part.value, inside))
                break
    return calls


def _in(name: str, pointer: str) -> bool:
    return name.startswith(f"{pointer}/")


def _located(text: str, found: list[tuple[str, list[Part]]], call: Mapping[str, Any]) -> tuple[str, list[Part]] | None:
    """The call of ``found`` that a server tells, taken out; else its arguments where they stand in the text."""
    function = call.get("function")
    told = function if isinstance(function, Mapping) else call
    tool, raw = str(told.get("name", "")), told.get("arguments")
    wanted: Any = raw
    if isinstance(raw, str):
        with suppress(ValueError, RecursionError):
            wanted = json.loads(raw)
    if not isinstance(wanted, dict) or not wanted:
        return None
    values = leaves(wanted)
    for place, (name, arguments) in enumerate(found):
        if name == tool and {part.name: part.value for part in arguments} == values:
            return found.pop(place)
    for whole in all_json_values(text):
        if whole.values == values:
            return tool, whole.parts
    return None
