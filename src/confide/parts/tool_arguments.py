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
_AROUND = {"/id", "/type", "/function"}
"""What stands in a call of the OpenAI API."""

_Call = tuple[str, list[Part]]


def argument_parts(text: str, calls: Sequence[Mapping[str, Any]] | None = None) -> list[Part]:
    """The arguments of every call in a text, named ``tool/argument``, those of a tool's second call ``tool#2/…``.

    Args:
        text: what the model wrote, the calls in it.
        calls: the calls as a server tells them (`tool_calls`); only these count then, each where it stands in the
            text, whatever stands around its arguments. None: those that the text shows.

    >>> [part.name for part in argument_parts('<tool_call>{"name": "look", "arguments": {"at": "x"}}</tool_call>')]
    ['look/at']
    """
    take = _bare_calls if calls is None else _possible_calls
    found = [call for values in all_json_values(text) for call in take({part.name: part for part in values.parts})]
    if calls is not None:
        found = [located for call in calls if (located := _located(text, found, call)) is not None]
    counts: Counter[str] = Counter()
    parts = []
    for tool, arguments in found:
        counts[tool] += 1
        name = tool if counts[tool] == 1 else f"{tool}#{counts[tool]}"
        parts += [replace(part, name=f"{name}{part.name}") for part in arguments]
    return parts


def _bare_calls(parts: Mapping[str, Part]) -> list[_Call]:
    """The call, or list of calls, that one JSON value is: a person's data may have a name and parameters, too."""
    if call := _call(parts, alone=True):
        return [call]
    inside = _by_step(parts)
    if inside.keys() <= _AROUND:
        inside = {"/function": inside.get("/function", {})}
    elif not all(step[1:].isdigit() for step in inside):
        return []
    found = [_call(group, alone=True) for group in inside.values()]
    return [call for call in found if call] if all(found) else []


def _possible_calls(parts: Mapping[str, Part]) -> list[_Call]:
    """Whatever in one JSON value may be a call, to be held against what a server tells."""
    found = [_call(group, alone=False) for group in (parts, *_by_step(parts).values())]
    return [call for call in found if call]


def _by_step(parts: Mapping[str, Part]) -> dict[str, dict[str, Part]]:
    """The leaves below each first step of their pointers, by the rest of them."""
    groups: dict[str, dict[str, Part]] = {}
    for name, part in parts.items():
        cut = name.find("/", 1)
        step = name if cut < 0 else name[:cut]
        groups.setdefault(step, {})[name[len(step) :]] = part
    return groups


def _call(parts: Mapping[str, Part], *, alone: bool) -> _Call | None:
    """Tool and arguments where an object's leaves are those of a call, ``alone`` where they must be all there is."""
    tool = parts.get(_NAME)
    if tool is None or not isinstance(tool.value, str):
        return None
    for key in _ARGUMENTS:
        inside = [replace(part, name=n.removeprefix(key)) for n, part in parts.items() if n.startswith(f"{key}/")]
        none = key in parts and parts[key].value == {}
        if inside or none:
            return None if alone and len(inside) + none + 1 < len(parts) else (tool.value, inside)
    return None


def _located(text: str, found: list[_Call], call: Mapping[str, Any]) -> _Call | None:
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
