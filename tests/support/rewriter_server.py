"""A language model that rewrites, on this machine: the router tests' server with answers of a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confide.cli.rewriting_server import RewritingServer
from confide.hedging import load_language
from confide.hedging.claims import Claim
from confide.hedging.rewording import Rewriter, Wording
from confide.records import Record
from confide.tasks.questions import question_of
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


def claim(confidence: float = 0.9, text: str = "Japan", key: str = "1") -> Claim:
    """A claim about Kyoto, whose right answer is Japan."""
    question = question_of(Record.model_validate({"id": "1", "reference": ["Japan"], "question": "Where is Kyoto?"}))
    return Claim(text=text, confidence=confidence, key=key, asked="Where is Kyoto?", question=question)


def reword(url: str, *claims: Claim) -> list[Wording | None]:
    """Claims as the model on a server words them, all at once."""

    async def run() -> list[Wording | None]:
        rewriter = Rewriter(RewritingServer(url, "big"), load_language("en"), "plain")
        try:
            return list(await asyncio.gather(*(rewriter.word(c) for c in claims)))
        finally:
            await rewriter.close()

    return asyncio.run(run())
