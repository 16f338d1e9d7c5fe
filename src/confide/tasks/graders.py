"""Graders: what does an answer name, and is that right? Pure functions of text.

Every grader reads an answer the same way: the first candidate that it names counts, so an answer cannot win
by listing candidates. An answer that names none is wrong (``answered`` is None: "no answer"). What cannot be
graded, for want of a reference, is None, never wrong.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from confide.tasks.questions import Question
from confide.tasks.text import NameFinder, fold, tokens


@dataclass(frozen=True)
class Grade:
    """``correct`` (None: cannot be graded) and the candidate that the answer names first (None: none)."""

    correct: bool | None
    answered: str | None


class Grader(Protocol):
    """Grades answers to one kind of question."""

    def grade(self, question: Question, answer: str) -> Grade:
        """Grade ``answer``."""
        ...

    def agrees(self, question: Question, a: str, b: str) -> bool:
        """Whether two answers say the same."""
        ...


class _Base(ABC):
    """`agrees` by what is answered."""

    @abstractmethod
    def grade(self, question: Question, answer: str) -> Grade:
        """Grade ``answer``."""

    def agrees(self, question: Question, a: str, b: str) -> bool:
        """Whether both name the same candidate; two that name none agree when their texts fold alike."""
        first, second = self.grade(question, a).answered, self.grade(question, b).answered
        if first is None and second is None:
            return fold(a) == fold(b)
        return first == second


class NameGrader(_Base):
    """Names out of a known set: ``candidates`` maps each canonical name to its aliases.

    ``codes`` are accepted only where they are the whole answer and in capitals, because many are ordinary
    words ("CAN", "AND", "IN"). What the question asks about is removed from the answer first, unless that is
    a candidate's name too (the capital of Singapore is Singapore).
    """

    def __init__(self, candidates: Mapping[str, Iterable[str]], codes: Mapping[str, str] | None = None):
        self.finder = NameFinder(candidates)
        self.codes = dict(codes or {})

    def answered(self, question: Question, answer: str) -> str | None:
        """The candidate that the answer names first."""
        found, rest = self.finder.find(answer, skip=question.asked)
        if found:
            return found[0]
        return self.codes.get(rest[0]) if len(rest) == 1 else None

    def grade(self, question: Question, answer: str) -> Grade:
        """Right when the first candidate named is one of the accepted ones."""
        answered = self.answered(question, answer)
        right = {self.finder.canonical(name) or name for name in question.accepted}
        return Grade(answered in right if right else None, answered)


_SENTENCE_END = re.compile(r"(?<=\w{4})(?<!\bProf)[.!?]\s+(?=[A-Z])")
_NO_ANSWER = frozenset(
    map(
        fold,
        (
            "I don't know",
            "I do not know",
            "don't know",
            "unknown",
            "I'm not sure",
            "I am not sure",
            "not sure",
            "no answer",
            "N/A",
            "none",
            "I cannot answer",
            "I can't answer",
            "unanswerable",
        ),
    )
)


class ShortGrader(_Base):
    """A short answer against accepted strings, as whole words in the answer's first sentence.

    Without a set of candidates nothing tells what an answer names before the accepted string, so only the
    first sentence is read. ``answered`` is the first accepted string, folded, for every alias of it; or the
    folded sentence when it holds none.
    """

    def grade(self, question: Question, answer: str) -> Grade:
        """Right when the first sentence holds an accepted string; None when there is none to accept."""
        line = next((line for line in answer.splitlines() if line.strip()), "")
        sentence = _SENTENCE_END.split(line, maxsplit=1)[0]
        accepted = [name for name in question.accepted if name.strip()]
        if accepted:
            finder = NameFinder({accepted[0]: [*accepted[1:], *map(str.casefold, accepted)]})
            # Signs alone ("+", an emoji) fold to nothing and are compared as they are.
            signs = {name.strip() for name in accepted if not fold(name)}
            if sentence.strip() in signs or finder.find(sentence, skip=question.asked)[0]:
                return Grade(True, fold(accepted[0]) or accepted[0].strip())
        text = fold(sentence)
        answered = text if text and text not in _NO_ANSWER else None
        return Grade(False if accepted else None, answered)


class ChoiceGrader(_Base):
    """A choice by its letter ("B", "(B)", "B) text", "The answer is B") or its text; the first one counts."""

    def grade(self, question: Question, answer: str) -> Grade:
        """Right when the first choice named is the right one; ``answered`` is its letter."""
        index = _named_choice(question, answer)
        right = question.answer if isinstance(question.answer, int) else None
        letter = None if index is None else chr(ord("A") + index)
        return Grade(None if right is None else index == right, letter)


# A letter on its own at the start, followed by what sets it off; "A dog" is an article, not choice A.
_LETTER_FIRST = re.compile(r"\W*([A-Za-z])(?:\*\*)?(?:\s*[).:\]]|\s*$|\s*\n|\s+[-–—]\s)")
_LETTER_SAID = re.compile(
    r"(?i:\b(?:answer|choice|option)(?:\s+is)?(?:\s+(?:choice|option))?)\s*:?\s*[(\[*\"']*([A-Z])(?![\w'’]|\s+[a-z])"
)
_LETTER_BRACKETS = re.compile(r"\(([A-Za-z])\)")


def _named_choice(question: Question, answer: str) -> int | None:
    choices = question.choices or []
    stripped = answer.strip()
    # A lone capital is the letter that was asked for, even where it is a choice's text too.
    if len(stripped) == 1 and "A" <= stripped < chr(ord("A") + len(choices)):
        return ord(stripped) - ord("A")
    for index, choice in enumerate(choices):
        # The whole text first: in mathematics punctuation matters ("x²" and "x"), and folding drops it.
        if _same(stripped, choice):
            right = question.answer
            return right if isinstance(right, int) and _same(choices[right], choice) else index

    def index_of(letter: str) -> int | None:
        index = ord(letter.upper()) - ord("A")
        return index if index < len(choices) else None

    first = _LETTER_FIRST.match(stripped)
    if first and index_of(first[1]) is not None:
        return index_of(first[1])
    folded = [fold(choice) for choice in choices]
    words = tokens(stripped)
    # "B Paris": a bare letter counts when its own choice follows.
    if words and len(words[0]) == 1 and words[0].isascii() and words[0].isalpha():
        letter = index_of(words[0])
        following = fold(stripped.partition(words[0])[2])
        if letter is not None and folded[letter] and f"{following} ".startswith(f"{folded[letter]} "):
            return letter
    named: list[tuple[int, int, int]] = []  # where it starts, minus its length, the choice
    for pattern in (_LETTER_SAID, _LETTER_BRACKETS):
        for match in pattern.finditer(stripped):
            said = index_of(match[1])
            if said is not None:
                named.append((match.start(), match.start() - match.end(), said))
                break
    text = f" {fold(stripped)} "
    for index, name in enumerate(folded):
        # Texts that differ only in what folding drops cannot be told apart inside a sentence.
        if name and folded.count(name) == 1 and f" {name} " in text:
            start = _position(stripped, choices[index], text.index(f" {name} "))
            named.append((start, -len(name), index))
    return min(named)[2] if named else None


def _position(answer: str, choice: str, folded_position: int) -> int:
    """Where a choice starts in the answer: literally, or else about where it starts in the folded answer."""
    literal = answer.casefold().find(choice.strip().casefold())
    return literal if literal >= 0 else folded_position


def _same(a: str, b: str) -> bool:
    return a.strip().rstrip(".").casefold() == b.strip().rstrip(".").casefold()


_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMBER = re.compile(
    r"(?P<sign>[-−–]\s?)?[$€£¥]?\s?(?P<inner>[-−])?"
    r"(?:(?P<whole>\d{1,300})\s+(?P<up>\d{1,300})\s?/\s?(?P<down>\d{1,300})(?![\d/])"
    r"|(?P<top>\d{1,300})\s?/\s?(?P<bottom>\d{1,300})(?![\d/])"
    r"|(?P<plain>\d{1,3}(?:,\d{3}){1,99}(?:\.\d{1,300})?(?![\d,]\d)|\d{1,300}(?:\.\d{1,300})?|\.\d{1,300})"
    r"(?:[eE](?P<exponent>[-+]?\d{1,2})(?!\w))?)"
    r"(?:\s?(?P<scale>thousand|million|billion|trillion)\b)?"
)
_MARKER = re.compile(r"####|\\boxed\{|\banswer(?:\s+is|\s*:|\s*=)", re.IGNORECASE)


def parse_numbers(text: str) -> list[Fraction]:
    """The numbers in ``text``: 1,000, $18, 3/4, 1 1/2, ½, −5, 25 % (as 25), 2 million, 1.5e3."""
    # A vulgar fraction after a digit is a mixed number; NFKC alone would read 1½ as 11/2.
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    values = []
    for match in _NUMBER.finditer(text):
        try:
            if match["whole"]:
                value = int(match["whole"]) + Fraction(int(match["up"]), int(match["down"]))
            elif match["top"]:
                value = Fraction(int(match["top"]), int(match["bottom"]))
            else:
                value = Fraction(match["plain"].replace(",", "")) * Fraction(10) ** int(match["exponent"] or 0)
        except ZeroDivisionError:
            continue
        before = text[: match.start()].rstrip()
        # In "10 - 4" and "x-4" the dash is no sign; after an operator or at the start it is.
        minus = bool(match["inner"]) or (bool(match["sign"]) and not re.search(r"[\w)\]%]$", before))
        value *= _SCALES.get((match["scale"] or "").lower(), 1)
        values.append(-value if minus else value)
    return values


def parse_number(text: str) -> Fraction | None:
    """The first number in ``text``."""
    return next(iter(parse_numbers(text)), None)


def answer_number(answer: str) -> Fraction | None:
    """The number that an answer gives as its result.

    After the last marker ("####", "\\boxed{", "answer is", "answer:") the first number; else on a single line
    the first after its last "=", or the first at all ("18 dollars, 2 a day"); over several lines, which are
    reasoning, the last one.
    """
    marked = list(_MARKER.finditer(answer))
    if marked and (value := parse_number(answer[marked[-1].end() :])) is not None:
        return value
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) > 1:
        return next(iter(reversed(parse_numbers(answer))), None)
    if (value := parse_number(answer.rpartition("=")[2])) is not None:
        return value
    return parse_number(answer)


class NumberGrader(_Base):
    """A number by its value; units, currency and percent signs do not matter."""

    def grade(self, question: Question, answer: str) -> Grade:
        """Right when the answer's number equals the reference to 9 digits."""
        value = answer_number(answer)
        answered = None if value is None else _number_text(value)
        right = parse_number(question.answer) if isinstance(question.answer, str) else None
        if right is None:
            return Grade(None, answered)
        return Grade(value is not None and abs(value - right) <= abs(right) / 10**9, answered)


def _number_text(value: Fraction) -> str:
    """One text for each value: an integer, a decimal that ends, or a reduced fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    places = next((n for n in range(1, 16) if 10**n % value.denominator == 0), None)
    if places is None:
        return f"{value.numerator}/{value.denominator}"
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


class UngradedGrader(_Base):
    """For prompts: nothing is right or wrong, but answers can still be compared."""

    def grade(self, question: Question, answer: str) -> Grade:
        """Never graded; ``answered`` is the folded text."""
        return Grade(None, fold(answer) or None)


_GRADERS: dict[str, Grader] = {
    "short": ShortGrader(),
    "choice": ChoiceGrader(),
    "number": NumberGrader(),
    "prompt": UngradedGrader(),
}


def grader_for(question: Question) -> Grader:
    """The grader of the question's kind."""
    return _GRADERS[question.kind]
