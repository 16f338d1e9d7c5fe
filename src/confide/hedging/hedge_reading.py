"""Reading a hedge back: the words of likelihood in a text, and the number that they stand for."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from confide.hedging.language import Language, load_language

# Each character becomes one character, so positions in the text stay the same.
_PLAIN = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "-": " ", "–": " ", "‑": " "})


@dataclass(frozen=True)
class FoundHedge:
    """A phrase in a text: where it starts and ends, the phrase of the table, and what it stands for there.

    A denied phrase starts at its negation; its ``value`` is that of the denial.
    """

    start: int
    end: int
    phrase: str
    value: float


def find_hedges(text: str, language: str = "en", style: str | None = None) -> list[FoundHedge]:
    """Find the words of likelihood in ``text``, whatever their case.

    Args:
        text: Any text.
        language: Code of a language file.
        style: A style that brings its own scale (``formal``) reads its words by that scale.

    Returns:
        The hedges from left to right. Where phrases overlap, the longest counts.

    >>> [(hedge.phrase, hedge.value) for hedge in find_hedges("It's highly likely, if not certain.")]
    [('highly likely', 0.9), ('not certain', 0.325)]
    """
    words = load_language(language)
    values = words.scale(style)
    by_folded = {phrase.casefold(): phrase for phrase in values}
    phrases, negations = _patterns(language, style)
    plain = text.translate(_PLAIN)
    hedges = []
    for match in phrases.finditer(plain):
        phrase = by_folded.get(" ".join(match[0].split()).casefold())
        if phrase is None:  # an ordinary use, which the language file ignores
            continue
        start, value = match.start(), values[phrase]
        if negation := negations.search(plain, 0, start):
            start = negation.start()
            value = values[words.negation.sureness if value > 0.5 else words.negation.doubt]
        hedges.append(FoundHedge(start, match.end(), phrase, value))
    return hedges


def read_hedge(text: str, language: str = "en", style: str | None = None) -> float | None:
    """The likelihood that the first hedge of ``text`` stands for; None where there is none.

    It takes what `find_hedges` takes.

    >>> read_hedge("The answer is very likely Paris."), read_hedge("That is not likely."), read_hedge("Paris.")
    (0.825, 0.2, None)
    """
    hedges = find_hedges(text, language, style)
    return hedges[0].value if hedges else None


def count_negations(text: str, language: Language) -> int:
    """How many words turn the text into its opposite."""
    either = "|".join(r"n't\b" if word == "n't" else rf"\b{re.escape(word)}\b" for word in language.opposites)
    return len(re.findall(either, text.translate(_PLAIN), re.IGNORECASE))


@functools.cache
def _patterns(code: str, style: str | None) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A pattern of every phrase, longest first, and one of a negation at most four words before the end."""
    language = load_language(code)
    listed = sorted([*language.scale(style), *language.ignored], key=len, reverse=True)
    phrases = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in listed)
    negations = "|".join(r"\w*n't" if word == "n't" else re.escape(word) for word in language.negation.words)
    between = "|".join(map(re.escape, language.negation.between))
    return (
        re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE),
        re.compile(rf"\b(?:{negations})\s+(?:(?:{between})\s+){{0,4}}\Z", re.IGNORECASE),
    )
