"""Reading a hedge back: the words of likelihood in a text, and the number that they stand for."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from confide.hedging.language import Language, load_language

# One character for one, so that positions in the text stay what they are.
_PLAIN = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "-": " ", "–": " ", "‑": " "})


@dataclass(frozen=True)
class Found:
    """A phrase in a text: where it stands, what it is in the table, and what it stands for there.

    A phrase that is denied stands from its negation on; its ``value`` is that of the denial.
    """

    start: int
    end: int
    phrase: str
    value: float


def find_hedges(text: str, language: str = "en", style: str | None = None) -> list[Found]:
    """The words of likelihood in ``text``, from left to right and the longest first, in any case.

    ``style`` reads the words of a style that brings its own scale (``formal``) by that scale.

    >>> [(found.phrase, found.value) for found in find_hedges("It's highly likely, if not certain.")]
    [('highly likely', 0.9), ('not certain', 0.325)]
    """
    words = load_language(language)
    values = words.scale(style)
    phrases, denied = _patterns(language, style)
    plain = text.translate(_PLAIN)
    found = []
    for match in phrases.finditer(plain):
        phrase = _known(values, match[0])
        if phrase is None:
            continue
        start, value = match.start(), values[phrase]
        if negation := denied.search(plain, 0, start):
            start = negation.start()
            value = values[words.negation.sureness if value > 0.5 else words.negation.doubt]
        found.append(Found(start, match.end(), phrase, value))
    return found


def read_hedge(text: str, language: str = "en", style: str | None = None) -> float | None:
    """The likelihood that the first hedge of ``text`` stands for; None where there is none.

    >>> read_hedge("The answer is very likely Paris."), read_hedge("That is not likely."), read_hedge("Paris.")
    (0.825, 0.2, None)
    """
    found = find_hedges(text, language, style)
    return found[0].value if found else None


def opposites(text: str, language: Language) -> int:
    """How many words turn the text into its opposite."""
    either = "|".join(r"n't\b" if word == "n't" else rf"\b{re.escape(word)}\b" for word in language.opposites)
    return len(re.findall(either, text.translate(_PLAIN), re.IGNORECASE))


@functools.cache
def _patterns(code: str, style: str | None) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Every phrase, longest first; and a negation with at most four words between it and the end."""
    language = load_language(code)
    listed = sorted([*language.scale(style), *language.ignored], key=len, reverse=True)
    phrases = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in listed)
    negations = "|".join(r"\w*n't" if word == "n't" else re.escape(word) for word in language.negation.words)
    between = "|".join(map(re.escape, language.negation.between))
    return (
        re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE),
        re.compile(rf"\b(?:{negations})\s+(?:(?:{between})\s+){{0,4}}\Z", re.IGNORECASE),
    )


def _known(values: dict[str, float], written: str) -> str | None:
    """The phrase of the table that was written; None for an ordinary use that is ignored."""
    folded = " ".join(written.split()).casefold()
    return next((phrase for phrase in values if phrase.casefold() == folded), None)
