"""Templates: a claim worded by the sentences of a language file, offline and the same every time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, Protocol

from confide.hedging.claims import ENDS, Claim, check
from confide.hedging.language import Hedge, Language

_ANSWER = "\0"  # stands for the answer in a frame
_CLOSING = "\"'”’»)]*_"

By = Literal["template", "suffix", "model"]
"""Who worded it: a sentence, a phrase in brackets behind the answer, or a language model."""


@dataclass(frozen=True)
class Wording:
    """A claim in words: its text, its phrase, and the likelihood that is read back from it.

    ``refused`` counts a model's rewrites that did not pass.
    """

    text: str
    phrase: str
    value: float
    by: By
    refused: int = 0


class Engine(Protocol):
    """Puts claims into words."""

    async def word(self, claim: Claim) -> Wording | None:
        """A wording that passed `confide.hedging.claims.check`; None when there is none."""
        ...


class Templates:
    """Words claims by the sentences of a language's style.

    Phrases that stand for nearly the same take turns, by ``seed`` and the claim's key.
    """

    def __init__(self, language: Language, style: str, seed: int = 0):
        self.language = language
        self.style = style
        self.seed = seed
        self._phrases = language.style(style)

    async def word(self, claim: Claim) -> Wording | None:
        """A sentence; where its grader would not find the answer in that, the phrase in brackets behind the answer."""
        return self._checked(claim, self.sentence(claim), "template") or self.suffix(claim)

    def suffix(self, claim: Claim) -> Wording | None:
        """The answer with the phrase in brackets behind it, in the first form that passes."""
        hedge = self.pick(claim).written
        for form in self.language.suffixes:
            frame = form.format(answer=_ANSWER, hedge=hedge)
            if worded := self._checked(claim, (frame, claim.text.strip()), "suffix"):
                return worded
        return None

    def pick(self, claim: Claim) -> Hedge:
        """The phrase for a claim, by its confidence, its key and the seed."""
        return random.Random(f"{self.seed}-{claim.key}").choice(self._phrases.near(claim.confidence))

    def sentence(self, claim: Claim) -> tuple[str, str]:
        """A sentence around a brief answer, or a remark behind a whole sentence; and the text that goes into it."""
        hedge = self.pick(claim)
        form = self.language.forms[hedge.form]
        if claim.brief(self.language):
            return form.answer.format(answer=_ANSWER, hedge=hedge.written), claim.core
        text = claim.text.strip()
        closed = text if text.rstrip(_CLOSING).endswith(ENDS) or "\n" in text else f"{text}."
        between = "\n" if "\n" in text else " "
        return f"{_ANSWER}{between}{form.remark.format(hedge=hedge.written)}", closed

    def _checked(self, claim: Claim, framed: tuple[str, str], by: By) -> Wording | None:
        frame, answer = framed
        text = frame.replace(_ANSWER, answer)
        checked = check(claim, text, frame, self.language, self.style)
        if checked.wrong or checked.value is None:
            return None
        return Wording(text, checked.phrase, checked.value, by)
