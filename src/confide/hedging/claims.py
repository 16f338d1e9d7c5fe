"""Claims: what is to be hedged, and whether a reworded text still says it, with the right likelihood.

The answer is kept when it still stands in the text and the grader of its task, where that can read it, gives both the
same grade. Free rewrites are held to more: they may bring no number and no negation of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from confide.errors import ConfideError
from confide.hedging.hedge_reading import find_hedges, opposites
from confide.hedging.language import TOLERANCE, Language
from confide.tasks import selfaware
from confide.tasks.graders import Grade, grader_for
from confide.tasks.questions import Question
from confide.tasks.text import tokens

ENDS = (".", "!", "?", "…", "。", "！", "？")
"""What sentences end with."""

_MOST_WORDS = 6
_MOST_MORE = 30
_SLACK = 1e-9


@dataclass(frozen=True)
class Claim:
    """One answer, or one sentence of it, with its confidence in [0, 1].

    ``asked`` is the question's text; ``question`` is None where the record does not tell enough to grade by. ``key``
    tells this claim from all others, for choices that a seed decides.
    """

    text: str
    confidence: float
    key: str
    task: str = ""
    asked: str = ""
    question: Question | None = None

    @property
    def core(self) -> str:
        """The text without its full stop, as it stands inside of a sentence."""
        text = self.text.strip()
        return text if text.endswith("..") else text.removesuffix(".")

    def brief(self, language: Language) -> bool:
        """Whether it is a name, a number or a few words, rather than a sentence."""
        words = [word.casefold() for word in self.core.split()]
        if len(words) > _MOST_WORDS or "\n" in self.text.strip() or "=" in words or self.core.endswith(ENDS):
            return False
        # "Japan." is a name with a full stop, "Nobody knows why." is a sentence.
        if len(words) > 2 and self.text.strip().endswith("."):
            return False
        return not {word.casefold() for word in language.clause} & set(words)


@dataclass(frozen=True)
class Checked:
    """What is wrong with a reworded text (None: nothing), the phrase found in it and what that stands for."""

    wrong: Literal["content", "wording"] | None
    phrase: str = ""
    value: float | None = None


def same_answer(task: str, question: Question | None, answer: str, text: str) -> bool | None:
    """Whether the task's grader reads the same in both; None where it reads nothing in the answer by itself.

    What answers are compared with decides: a set of candidates (choices, numbers, places) tells what is answered,
    accepted strings only whether they are there.
    """
    if question is None or question.kind == "prompt" or task.startswith("reasoning_gym"):
        return None  # nothing to compare with, or a scorer that needs the generator's own problem
    places = _places(question) if task == "geography" else None
    grade = selfaware.grade if task == "selfaware" else places or grader_for(question).grade
    before, after = grade(question, answer), grade(question, text)
    if task == "selfaware" and selfaware.UNKNOWN in (before.answered, after.answered):
        return before.answered == after.answered
    if question.kind == "short" and places is None:
        return None if before.correct is None else before.correct == after.correct
    return None if before.answered is None else before.answered == after.answered


def check(claim: Claim, text: str, frame: str | None, language: Language, style: str) -> Checked:
    """Whether ``text`` keeps the claim and words its confidence.

    ``frame`` is what a template puts around the answer, where hedges are looked for: an answer may hold such words
    itself. A free text has none (None); there the answer is cut out where it stands word for word.
    """
    if not (_keeps_words(claim, text, language) if frame is None else claim.core in text):
        return Checked("content")
    if same_answer(claim.task, claim.question, claim.text, text) is False:
        return Checked("content")
    rest = re.sub(rf"(?<!\w){re.escape(claim.core)}(?!\w)", "…", text, count=1) if frame is None else frame
    found = find_hedges(rest, language.code, style)
    if frame is None and not _adds_nothing(claim, text, rest, [(f.start, f.end) for f in found], language):
        return Checked("content")
    # Two hedges that disagree leave the reader without a number.
    if not found or any(abs(f.value - claim.confidence) > TOLERANCE + _SLACK for f in found):
        return Checked("wording", *((found[0].phrase, found[0].value) if found else ()))
    return Checked(None, found[0].phrase, found[0].value)


def _places(question: Question) -> Callable[[Question, str], Grade] | None:
    """The gazetteer's grader; None where it is not installed."""
    from confide.tasks.geography import geography

    try:
        return geography.grade if question.domain in geography.graders() else None
    except ConfideError:
        return None


def _keeps_words(claim: Claim, text: str, language: Language) -> bool:
    """Whether a free text still has every word of a brief answer; of a sentence the longer words, names and numbers."""
    words = tokens(claim.text)
    if not claim.brief(language):
        words = [w for i, w in enumerate(words) if len(w) > 3 or any(c.isdigit() for c in w) or (i and w[0].isupper())]
    there = {word.casefold() for word in tokens(text)}
    return all(word.casefold() in there for word in words)


def _adds_nothing(claim: Claim, text: str, rest: str, hedges: list[tuple[int, int]], language: Language) -> bool:
    """Whether a free text brings no number, no negation and no explanation of its own."""
    known = set(_numbers(claim.text)) | set(_numbers(claim.asked))
    if any(number not in known for number in _numbers(text)):
        return False
    inside = 0 if rest == text else opposites(claim.core, language)
    for start, end in reversed(hedges):
        rest = rest[:start] + rest[end:]
    if inside + opposites(rest, language) != opposites(claim.text, language):
        return False
    return len(text.split()) <= len(claim.text.split()) + _MOST_MORE


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)
