"""A language model that rewrites, on this machine: the router tests' server with answers of a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upstreams import Upstream


def rewrites(messages: list[dict[str, str]]) -> str:
    """Do what was asked: the answer with the first phrase offered."""
    told = messages[1]["content"]
    answer = told.partition("Answer: ")[2].partition("\n")[0]
    phrase = told.rpartition(": ")[2].split(";")[0].strip(" .")
    return f"{answer.rstrip('.')}: {phrase}."


@dataclass
class Model(Upstream):
    """``writes`` makes an answer from the messages."""

    writes: Callable[[list[dict[str, str]]], str] = rewrites

    def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
        self.answer = self.writes(body["messages"])
        return super().completion(body, word)
