"""Rewording: a claim put into words by the sentences of a language file, or by a language model that is checked."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from confide.hedging.claims import SENTENCE_ENDS, Claim, check
from confide.hedging.language import Hedge, Language

TRIES = 3
"""How often a model is asked for one claim, when its rewrites are refused."""

_ANSWER = "\0"  # stands for the answer in a frame
_CLOSING_MARKS = "\"'”’»)]*_"


@dataclass(frozen=True)
class Wording:
    """A claim in words: its text, its phrase, and the likelihood that is read back from it.

    ``by`` says what worded it: a sentence (``template``), a phrase in brackets behind the answer (``suffix``) or a
    language model (``model``). ``refused`` counts the model's rewrites that did not pass `check`.
    """

    text: str
    phrase: str
    value: float
    by: Literal["template", "suffix", "model"]
    refused: int = 0


class Templates:
    """Words claims by the sentences of a language's style, offline and the same every time.

    Phrases that stand for nearly the same likelihood take turns, chosen by ``seed`` and the claim's key.
    """

    engine: str = "templates"
    model: str | None = None

    def __init__(self, language: Language, style: str, seed: int = 0):
        self.language = language
        self.style = style
        self.seed = seed
        self.phrases = language.style(style)

    async def word(self, claim: Claim) -> Wording | None:
        """Word a claim as a sentence, or as a suffix where its grader would not find the answer in a sentence."""
        frame, answer = self._sentence(claim)
        return self._checked(claim, frame, answer, "template") or self.suffix(claim)

    async def close(self) -> None:
        """Close what was opened; templates open nothing."""

    def suffix(self, claim: Claim) -> Wording | None:
        """Put the phrase in brackets behind the answer, in the first form that passes."""
        hedge = self._pick(claim).written
        frames = (form.format(answer=_ANSWER, hedge=hedge) for form in self.language.suffixes)
        wordings = (self._checked(claim, frame, claim.text.strip(), "suffix") for frame in frames)
        return next((wording for wording in wordings if wording), None)

    def _pick(self, claim: Claim) -> Hedge:
        return random.Random(f"{self.seed}-{claim.key}").choice(self.phrases.near(claim.confidence))

    def _sentence(self, claim: Claim) -> tuple[str, str]:
        """A frame around a brief answer, or one with a remark behind a whole sentence; and the text to put into it."""
        hedge = self._pick(claim)
        form = self.language.forms[hedge.form]
        if claim.is_brief(self.language):
            return form.answer.format(answer=_ANSWER, hedge=hedge.written), claim.core
        text = claim.text.strip()
        closed = text if text.rstrip(_CLOSING_MARKS).endswith(SENTENCE_ENDS) or "\n" in text else f"{text}."
        between = "\n" if "\n" in text else " "
        return f"{_ANSWER}{between}{form.remark.format(hedge=hedge.written)}", closed

    def _checked(self, claim: Claim, frame: str, answer: str, by: Literal["template", "suffix"]) -> Wording | None:
        text = frame.replace(_ANSWER, answer)
        hedge = check(claim, text, frame, self.language, self.style)
        return None if isinstance(hedge, str) else Wording(text, hedge.phrase, hedge.value, by)


class ChatModel(Protocol):
    """A language model called ``name`` on a server at ``url``."""

    url: str
    name: str

    async def ask(self, messages: list[dict[str, Any]], seed: int) -> str:
        """The answer to chat messages, "" where there is none; raises `ConfideError` where the server fails."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Rewriter(Templates):
    """Asks a language model to reword each claim, and checks what it did to the answer and to the likelihood.

    A rewrite that changes either is asked for again with the reason. After `TRIES` the template takes its place. A
    server that fails ends the run: rows that are done are kept, and the next run continues after them.
    """

    def __init__(self, chat: ChatModel, language: Language, style: str, seed: int = 0):
        super().__init__(language, style, seed)
        self.engine, self.model = chat.url, chat.name
        self.chat = chat

    async def close(self) -> None:
        """Close the model's connections."""
        await self.chat.close()

    async def word(self, claim: Claim) -> Wording | None:
        """The model's wording, or the template's after `TRIES` that did not pass."""
        prompt, hedges = self.language.prompt, self.phrases.near(claim.confidence)
        request = prompt.user.format(
            question=claim.asked or "-", answer=claim.text.strip(), phrases="; ".join(h.written for h in hedges)
        )
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": request}]
        for attempt in range(TRIES):
            text = await self.chat.ask(messages, self.seed)
            hedge = check(claim, text, None, self.language, self.style)
            if not isinstance(hedge, str):
                return Wording(text, hedge.phrase, hedge.value, "model", refused=attempt)
            why = prompt.wording if hedge == "wording" else prompt.content
            messages = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": why}]
        wording = await super().word(claim)
        return None if wording is None else replace(wording, refused=TRIES)
