"""How questions are asked, in what can be seen without their words, and in what a request is unlike calibration rows.

The calibration rows leave the values that each feature had. A request is marked when it has one that none of the n
rows had. If requests are drawn like the rows, it is then one of those among n + 1 that hold a value of their own, and
each of these is the request with the same probability: while at most k rows hold a value that no other row has, a
request is marked with probability (k + 1) / (n + 1) at most. So features are compared, in a fixed order, while k stays
small enough (`most_alone`). The least max_tokens of the rows adds 1 / (n + 1). Together these are at most 1 % from 199
rows on, whatever the distribution, and at most 2 / (n + 1) with fewer. Prompt lengths get a margin on top of their
range. What falls beyond it comes on top: 2 / (n + 1) at most, and next to nothing unless lengths spread over many
powers of ten.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from confide.hashing import sha256_of_text
from confide.records import Record, RequestShape

UNSEEN = 0.0075
"""The probability with which a request like the rows may hold a value that none of them had."""
MARKED = 0.01
"""The same with a max_tokens below that of every row."""
MARGIN = 2.0
"""How many times shorter or longer than every calibration row's a prompt may be, and more with fewer rows than"""
ENOUGH_ROWS = 300
LEAST_ROWS = 30
"""Fewer rows do not tell what requests look like."""
_MOST_VALUES = 50
_DIGITS = 12

# What an option is when a request leaves it out, in the API that all servers follow.
_DEFAULTS: dict[str, Any] = {
    "temperature": 1, "top_p": 1, "n": 1, "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1,
    "top_k": -1, "min_p": 0, "best_of": 1, "modalities": ["text"], "response_format": {"type": "text"},
    "parallel_tool_calls": True,
}  # fmt: skip
_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")
_NAMES = {
    **{name: name for name in ("temperature", "top_p", "n", "stop", "logit_bias", "tools", "response_format")},
    **dict.fromkeys(_PENALTIES, "penalties"),
    **dict.fromkeys(("functions", "tool_choice", "function_call", "parallel_tool_calls"), "tools"),
    **dict.fromkeys(
        ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar",
         "json_schema"), "response_format",
    ),
}  # fmt: skip
# They say nothing of the answer (who asks, how it is sent, how fast it comes), or stand in `RequestShape.max_tokens`.
_INERT = frozenset(
    {"seed", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "max_tokens",
     "max_completion_tokens", "priority", "cache_salt", "prediction", "prompt_cache_options", "prompt_cache_retention"}
)  # fmt: skip
_NEVER_PLAIN = ("tools", "response_format", "logit_bias", "n")
"""Options with which no answer is like one to a plain question, whatever is known of the rows."""
_KINDS = (*_NEVER_PLAIN, "temperature", "penalties", "top_p", "stop", "options")
_ORDER = (*_NEVER_PLAIN, "system", "turns", "content", "temperature", "penalties", "top_p", "stop", "domain", "options")


def request_of(messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], max_tokens: int) -> RequestShape:
    """What can be seen of a request; no text is kept, of values other than numbers only hashes.

    Args:
        messages: the conversation that the model reads, in OpenAI's shape.
        options: the other keys of a request's body.
        max_tokens: the longest answer allowed (0: no limit).
    """
    kinds: set[str] = set()
    system, length, turns = [], 0, 0
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        texts = [part.get("text") or "" for part in parts if part.get("type") == "text"]
        length += sum(map(len, texts))
        kinds |= {"other" for part in parts if part.get("type") != "text"}
        kinds |= {"tool" for key in ("tool_calls", "function_call") if message.get(key)}
        if message["role"] in ("system", "developer"):
            system += texts
        else:
            turns += 1
            kinds |= {"tool"} & {message["role"].replace("function", "tool")}
    return RequestShape(
        system=sha256_of_text("\n".join(system))[:_DIGITS] if any(system) else "",
        turns=turns,
        length=length,
        content=" ".join(sorted(kinds)),
        options=request_options(options),
        max_tokens=max_tokens,
    )


def request_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The options that bear on the answer and are not as if left out: name → number, or a hash of anything else."""
    known: dict[str, Any] = {}
    for name, value in sorted(telling_options(options).items()):
        kind = _NAMES.get(name, "options")
        known[kind] = {**known.get(kind, {}), name: value}
    return {kind: _canonical(kind, values) for kind, values in known.items()}


def telling_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that bear on the answer, length aside, and are not as if left out."""
    told = {name: value for name, value in options.items() if name not in _INERT and not _says_nothing(value)}
    if not told.keys() & {"tools", "functions"}:
        told = {name: value for name, value in told.items() if _NAMES.get(name) != "tools"}
    if told.get("temperature") == 0:  # the likeliest token is taken, whatever would be drawn from
        told = {name: value for name, value in told.items() if name not in ("top_p", "top_k", "min_p")}
    return {name: value for name, value in told.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}


def request_of_record(record: Record) -> RequestShape:
    """How a record's question was asked: what it says itself, and what its messages show."""
    said = record.request_shape or RequestShape()
    if not record.messages:
        return said
    seen = request_of([message.model_dump() for message in record.messages], {}, 0)
    seen = seen.model_copy(update={"options": None, "max_tokens": None})
    return seen.model_copy(
        update={name: value for name in RequestShape.model_fields if (value := getattr(said, name)) is not None}
    )


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value in ([], {}, "")


def _canonical(kind: str, values: Mapping[str, Any]) -> str:
    only = values.get(kind)
    if len(values) == 1 and isinstance(only, int | float) and not isinstance(only, bool):
        with contextlib.suppress(OverflowError):  # an integer may be larger than any float
            return f"{only + 0.0:g}"  # no -0
    return sha256_of_text(json.dumps(values, sort_keys=True, default=str))[:_DIGITS]


class Requests(BaseModel, extra="forbid"):
    """How the questions of n calibration rows were asked; None is not known, or varies too much to be compared.

    Lists hold the values that occurred, ranges the lowest and highest (of ``length`` with its margin). ``options``
    holds those of each option that is compared ("" for rows without it, "*" for any value).
    """

    n: int
    system: list[str] | None = None
    turns: list[int] | None = None
    content: list[str] | None = None
    domain: list[str] | None = None
    length: tuple[int, int] | None = None
    max_tokens: tuple[int, int] | None = None
    options: dict[str, list[str]] | None = None


def requests_of(records: Sequence[Record]) -> Requests | None:
    """What ``records`` tell of how their questions were asked (None: nothing, or they are too few)."""
    asked = [request_of_record(record) for record in records]
    if len(asked) < LEAST_ROWS or all(request == RequestShape() for request in asked):
        return None
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in asked] for name in RequestShape.model_fields}
    known = {name: column for name, column in columns.items() if None not in column}
    options = known.pop("options", None)
    if options is not None:
        known |= {kind: [row.get(kind, "") for row in options] for kind in _KINDS}
    if any(record.domain for record in records):
        known["domain"] = [record.domain for record in records]
    chosen = _comparable(known)
    found: dict[str, Any] = {name: values for name, values in chosen.items() if name not in _KINDS}
    if options is not None:
        found["options"] = {kind: chosen[kind] for kind in _KINDS if kind in chosen}
    if "length" in known:
        shortest, longest = min(known["length"]), max(known["length"])
        margin = max(MARGIN, MARGIN * ENOUGH_ROWS / len(asked))
        found["length"] = (math.floor(shortest / margin), math.ceil(longest * margin))
    if "max_tokens" in known and all(known["max_tokens"]):
        found["max_tokens"] = (min(known["max_tokens"]), max(known["max_tokens"]))
    return Requests(n=len(asked), **found)


def _comparable(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The values of each column [n] that is compared.

    A column that varies much is passed over. One that nearly is steady, and those behind it in the order, are left out:
    were it passed over too, a rare value in each of many columns could be marked in one after the other.
    """
    chosen: dict[str, list[Any]] = {}
    used = 0
    for name in (name for name in _ORDER if name in columns):
        column = columns[name]
        most = most_alone(len(column))
        presence = [["*" if value else "" for value in column]] if name in _KINDS else []
        tried = [values for values in (column, *presence) if _seen_once(values) <= most + 1]
        if not tried:
            continue
        used += _seen_once(tried[0])
        if used > most:
            break
        if len(set(tried[0])) <= _MOST_VALUES:
            chosen[name] = sorted(set(tried[0]))
    return chosen


def most_alone(n: int) -> int:
    """How many of n rows may hold a value that no other row has, in features that are compared."""
    return max(0, min(math.floor(UNSEEN * (n + 1)) - 1, math.floor(MARKED * (n + 1)) - 2))


def _seen_once(values: Iterable[Any]) -> int:
    return sum(count == 1 for count in Counter(values).values())


def unlike(requests: Requests | None, request: RequestShape, domain: str | None = None, tokens: int = 0) -> list[str]:
    """In what a request is unlike the calibration rows: names of features, [] for nothing that can be seen.

    Args:
        requests: how the rows were asked. Where they do not say, only what no plain question has is marked: tools, a
            format, biased logits, several answers, and content other than text.
        request: what can be seen of the request.
        domain: its domain, where it names one.
        tokens: the length of the answer: one longer than any row was allowed to be would have been cut there.
    """
    seen = requests or Requests(n=0, content=[""])
    compared = seen.options if seen.options is not None else {kind: [""] for kind in _NEVER_PLAIN}
    found = []
    if (options := request.options) is not None:
        found = [kind for kind, values in compared.items() if not _allowed(values, options.get(kind, ""))]
    pairs = {
        "system": (seen.system, request.system),
        "turns": (seen.turns, request.turns),
        "content": (seen.content, request.content),
        "domain": (seen.domain, domain),
    }
    found += [name for name, (values, value) in pairs.items() if values and value is not None and value not in values]
    if seen.length and request.length is not None and not seen.length[0] <= request.length <= seen.length[1]:
        found.append("length")
    if seen.max_tokens and (0 < (request.max_tokens or 0) < seen.max_tokens[0] or tokens > seen.max_tokens[1]):
        found.append("max_tokens")
    return found


def _allowed(values: Sequence[str], value: str) -> bool:
    return value in values or (bool(value) and "*" in values)
