"""Logged chat completions in OpenAI's shape: the output of a batch, and lines of a request with its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confide.engines.openai.completions import completion_of
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_replies import read_reply
from confide.imports.logged_rows import Imported, of_words

TOOL = "OpenAI"
_KEPT = ("correct", "domain", "entity", "split")
"""What a log may say of an answer besides."""


def is_logged(row: dict[str, Any]) -> bool:
    """Whether a line holds a response."""
    return isinstance(row.get("response"), dict) or ("custom_id" in row and "response" in row)


def read_requests(
    rows: Sequence[tuple[str, dict[str, Any]]], path: Path, requests: Mapping[str, dict[str, Any]]
) -> Imported:
    """Records of a batch's output, or of lines with ``request`` (or its ``messages``) and ``response``.

    Args:
        rows: where each line is, and what it holds.
        path: the file.
        requests: ``custom_id`` → the line of a batch's input; empty where that is not given.
    """
    found = Imported(TOOL)
    for place, row in rows:
        response = row.get("response") or {}
        if not isinstance(response, dict):
            found.left_out["no chat completion"] += 1
            continue
        if row.get("error") or response.get("status_code", 200) != 200:
            found.left_out["the request failed"] += 1
            continue
        body = response.get("body", response)
        identifier = row.get("custom_id") or row.get("id") or body.get("id")
        try:
            completion = completion_of(read_reply(body))[0]
        except (ValueError, TypeError, AttributeError, ModelError):
            found.left_out["no chat completion"] += 1
            continue
        asked = requests.get(str(identifier)) or row.get("request") or row
        asked = asked.get("body", asked) if isinstance(asked, dict) else {}
        if not asked.get("messages"):
            found.left_out["no question: a batch's input is given by --requests"] += 1
            continue
        data = {
            "id": identifier,
            "messages": asked["messages"],
            "model": body.get("model") or asked.get("model") or "",
            "logprobs": completion.logprobs,
            "token_starts": completion.starts,
            "finish": completion.finish,
            "reasoning": completion.reasoning,
            **of_words(completion.text),
            **{key: row[key] for key in _KEPT if row.get(key) is not None},
        }
        found.rows.append((place, {key: value for key, value in data.items() if value is not None}))
    return found
