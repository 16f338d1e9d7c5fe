"""Claims: what is to be hedged, and whether a reworded text still says it, with the right likelihood.

Every reworded text must keep the answer: it stands in the text, and the grader of its task, where that can read it,
gives both the same grade. A free rewrite must also add no number and no negation of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from confide.errors import ConfideError
from confide.hedging.hedge_reading import FoundHedge, count_negations, find_hedges
from confide.hedging.language import SLACK, TOLERANCE, Language
from confide.tasks import graders, selfaware
from confide.tasks.graders import Grader
from confide.tasks.questions import Question
from confide.tasks.text import tokens

SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")

_MAX_BRIEF_WORDS = 6
_MAX_ADDED_WORDS = 30


@dataclass(frozen=True)
class Claim:
    """One answer, or one sentence of it, with its confidence in [0, 1].

    ``asked`` is the question's text. ``question`` is None where the record lacks what grading needs. ``key`` is
    unique to this claim; choices that depend on a seed depend on it too.
    """

    text: str
    confidence: float
    key: str
    task: str = ""
    asked: str = ""
    question: Question | None = None

    @property
    def core(self) -> str:
        """The text without its full stop, as it stands inside a sentence."""
        text = self.text.strip()
        return text if text.endswith("..") else text.removesuffix(".")

    def is_brief(self, language: Language) -> bool:
        """Whether the text is a name, a number or a few words, rather than a sentence."""
        words = [word.casefold() for word in self.core.split()]
        if len(words) > _MAX_BRIEF_WORDS or "\n" in self.text.strip() or "=" in words:
            return False
        # "Japan." is a name with a full stop, "Nobody knows why." is a sentence.
        if self.core.endswith(SENTENCE_ENDS) or (len(words) > 2 and self.text.strip().endswith(".")):
            return False
        return not {word.casefold() for word in language.clause} & set(words)


def same_answer(task: str, question: Question | None, answer: str, text: str) -> bool | None:
    """Whether the task's grader gives ``answer`` and ``text`` the same grade; None where it cannot read the answer.

    Where the question has a set of candidates (choices, numbers, places), the candidate that is named must be the
    same. Where it only has accepted strings, both texts must hold one, or neither.
    """
    if question is None or question.kind == "prompt" or task.startswith("reasoning_gym"):
        return None  # nothing to compare with, or a scorer that needs the generator's own problem
    places = _place_grader(question) if task == "geography" else None
    grade = selfaware.grade if task == "selfaware" else places or graders.grade
    before, after = grade(question, answer), grade(question, text)
    if task == "selfaware" and selfaware.UNKNOWN in (before.answered, after.answered):
        return before.answered == after.answered
    if question.kind == "short" and places is None:
        return None if before.correct is None else before.correct == after.correct
    return None if before.answered is None else before.answered == after.answered


Fault = Literal["content", "wording"]
"""What is wrong with a reworded text: the answer was changed, or its likelihood is not the claim's."""


def check(claim: Claim, text: str, frame: str | None, language: Language, style: str) -> FoundHedge | Fault:
    """Check that ``text`` keeps the claim's answer and words its confidence; gives its first hedge, or the fault.

    Args:
        claim: What was to be worded.
        text: The reworded text.
        frame: The words that a template puts around the answer. Hedges are looked for in the frame alone, because
            the answer may hold such words itself. None for a free rewrite: there the answer is cut out where it
            stands word for word, and the text may add nothing.
        language, style: What hedges are read by.
    """
    if not (_keeps_words(claim, text, language) if frame is None else claim.core in text):
        return "content"
    if same_answer(claim.task, claim.question, claim.text, text) is False:
        return "content"
    rest = re.sub(rf"(?<!\w){re.escape(claim.core)}(?!\w)", "…", text, count=1) if frame is None else frame
    hedges = find_hedges(rest, language.code, style)
    if frame is None and _adds_content(claim, text, rest, hedges, language):
        return "content"
    # Two hedges that disagree leave the reader without a number.
    agree = all(abs(hedge.value - claim.confidence) <= TOLERANCE + SLACK for hedge in hedges)
    return hedges[0] if hedges and agree else "wording"


def _place_grader(question: Question) -> Grader | None:
    """The gazetteer's grader; None where it is not installed."""
    from confide.tasks import geography

    try:
        return geography.grade if question.domain in geography.graders() else None
    except ConfideError:
        return None


def _keeps_words(claim: Claim, text: str, language: Language) -> bool:
    """Whether a free rewrite has every word of a brief answer, or a sentence's longer words, names and numbers."""
    words = tokens(claim.text)
    if not words:  # signs alone, such as "👍"
        return claim.core in text
    if not claim.is_brief(language):
        words = [w for i, w in enumerate(words) if len(w) > 3 or any(c.isdigit() for c in w) or (i and w[0].isupper())]
    return {word.casefold() for word in words} <= {word.casefold() for word in tokens(text)}


def _adds_content(claim: Claim, text: str, rest: str, hedges: list[FoundHedge], language: Language) -> bool:
    """Whether a free rewrite brings a number, a negation or an explanation of its own."""
    if not set(re.findall(r"\d+", text)) <= set(re.findall(r"\d+", f"{claim.text}\n{claim.asked}")):
        return True
    inside = 0 if rest == text else count_negations(claim.core, language)
    for hedge in reversed(hedges):
        rest = rest[: hedge.start] + rest[hedge.end :]
    if inside + count_negations(rest, language) != count_negations(claim.text, language):
        return True
    return len(text.split()) > len(claim.text.split()) + _MAX_ADDED_WORDS
