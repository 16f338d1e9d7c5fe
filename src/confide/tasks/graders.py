"""Graders: what does an answer name, and is that right? Pure functions of text, one per kind of question.

Every grader reads an answer the same way: the first candidate that it names counts, so an answer cannot win
by listing candidates. An answer that names none is wrong (``answered`` is None: "no answer"). What cannot be
graded, for want of a reference, is None, never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from confide.tasks.field_grader import grade_fields
from confide.tasks.numbers import answer_reading, number_text, parse_number
from confide.tasks.questions import Question
from confide.tasks.text import NameFinder, fold, spelled, tokens, with_decimal_points


@dataclass(frozen=True)
class Grade:
    """``correct`` (None: cannot be graded) and the candidate that the answer names first (None: none)."""

    correct: bool | None
    answered: str | None


Grader = Callable[[Question, str], Grade]
"""Grades an answer to a question."""


def grade(question: Question, answer: str) -> Grade:
    """Grade an answer by the question's kind."""
    return _GRADERS[question.kind](question, answer)


def agrees(question: Question, a: str, b: str, grade: Grader = grade) -> bool:
    """Whether two answers name the same candidate; two that name none agree when their texts fold alike."""
    first, second = grade(question, a).answered, grade(question, b).answered
    if first is None and second is None:
        return spelled(a) == spelled(b)
    return first == second


class NameGrader:
    """Names out of a known set: ``candidates`` maps each canonical name to its aliases.

    ``codes`` are accepted only where they are the whole answer and in capitals, because many are ordinary
    words ("CAN", "AND", "IN"). What the question asks about is removed from the answer first, unless that is
    a candidate's name too (the capital of Singapore is Singapore).
    """

    def __init__(self, candidates: Mapping[str, Iterable[str]], codes: Mapping[str, str] | None = None):
        self.finder = NameFinder(candidates)
        self.codes = dict(codes or {})

    def grade(self, question: Question, answer: str) -> Grade:
        """Right when the first candidate named is one of the accepted ones."""
        names, rest = self.finder.find(answer, skip=question.asked)
        answered = names[0] if names else self.codes.get(rest[0]) if len(rest) == 1 else None
        right = {self.finder.canonical(name) or name for name in question.accepted}
        return Grade(answered in right if right else None, answered)


_SENTENCE_END = re.compile(r"(?<=\w{4})(?<!\bProf)[.!?]\s+(?=[A-Z])")
_NO_ANSWER_TEXTS = (
    "I don't know, I do not know, don't know, unknown, I'm not sure, I am not sure, not sure, no answer, N/A, none, "
    "I cannot answer, I can't answer, unanswerable"
)
_NO_ANSWER = frozenset(map(fold, _NO_ANSWER_TEXTS.split(", ")))


def grade_short(question: Question, answer: str) -> Grade:
    """Right when the answer's first sentence holds an accepted string as whole words; None when none is accepted.

    None, too, where that hangs on whether "3,5" is one number or two.

    Without a set of candidates nothing tells what an answer names before the accepted string, so only the
    first sentence is read. ``answered`` is the first accepted string, folded, for every alias of it; or the
    folded sentence when it holds none.
    """
    line = next((line for line in answer.splitlines() if line.strip()), "")
    sentence = _SENTENCE_END.split(line, maxsplit=1)[0]
    accepted = [name for name in question.accepted if name.strip()]
    if accepted:
        pointed = map(with_decimal_points, accepted)
        finder = NameFinder({accepted[0]: [*accepted[1:], *map(str.casefold, accepted), *pointed]})
        # Signs alone ("+", an emoji) fold to nothing and are compared as they are.
        signs = {name.strip() for name in accepted if not fold(name)}
        found = bool(finder.find(sentence, skip=question.asked)[0])
        other = with_decimal_points(sentence)
        if other != sentence and found != bool(finder.find(other, skip=question.asked)[0]):
            return Grade(None, fold(sentence) or None)
        if sentence.strip() in signs or found:
            return Grade(True, fold(accepted[0]) or accepted[0].strip())
    text = fold(sentence)
    answered = text if text and text not in _NO_ANSWER else None
    return Grade(False if accepted else None, answered)


def grade_choice(question: Question, answer: str) -> Grade:
    """A choice by its letter ("B", "(B)", "B) text", "The answer is B") or its text; the first one counts.

    ``answered`` is the letter.
    """
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
    # Where it starts, minus its length, the choice.
    named = [
        (match.start(), match.start() - match.end(), letter)
        for pattern in (_LETTER_SAID, _LETTER_BRACKETS)
        for match in pattern.finditer(stripped)
        if (letter := index_of(match[1])) is not None
    ]
    text = f" {fold(stripped)} "
    for index, name in enumerate(folded):
        # Texts that differ only in what folding drops cannot be told apart inside a sentence.
        if name and folded.count(name) == 1 and f" {name} " in text:
            literal = stripped.casefold().find(choices[index].strip().casefold())
            # Where the text is not there literally, about where it starts in the folded answer.
            named.append((literal if literal >= 0 else text.index(f" {name} "), -len(name), index))
    return min(named)[2] if named else None


def _same(a: str, b: str) -> bool:
    return a.strip().rstrip(".").casefold() == b.strip().rstrip(".").casefold()


def grade_number(question: Question, answer: str) -> Grade:
    """Right when the answer's number equals the reference to 9 digits; units and currencies do not matter.

    None, not wrong, where another reading of its notation does: "1.234" against 1234 (`confide.tasks.numbers`).
    """
    reading = answer_reading(answer)
    answered = None if reading is None else number_text(reading.value)
    right = parse_number(question.answer) if isinstance(question.answer, str) else None
    if right is None:
        return Grade(None, answered)
    if reading is None:
        return Grade(False, answered)
    same = {value: abs(value - right) <= abs(right) / 10**9 for value in (reading.value, *reading.others)}
    return Grade(True if same[reading.value] else None if any(same.values()) else False, answered)


_GRADERS: dict[str, Grader] = {
    "short": grade_short,
    "choice": grade_choice,
    "number": grade_number,
    "fields": lambda question, answer: Grade(*grade_fields(question.answer, answer)),
    # Nothing is right or wrong, but answers can still be compared.
    "prompt": lambda _, answer: Grade(None, spelled(answer) or None),
}
