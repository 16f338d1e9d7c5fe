"""Text made comparable, without accents, case, punctuation and articles; and names found in it as whole words."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping

# Letters that Unicode does not decompose into a base letter and an accent.
_LETTERS = str.maketrans("łŁøØđĐðÐı−–⁄٫٬", "lLoOdDdDi--/.'") | str.maketrans(
    {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"}
)
_INITIALS = re.compile(r"(?<![^\W_])(?:[^\W\d_]\.\s?){1,}[^\W\d_](?![^\W_])\.?")
_POSSESSIVE = re.compile(r"['’‘ʼ][sS](?![^\W_])")
_APOSTROPHES = re.compile(r"['’‘ʼʻ`´]")
# 1,000 and 12,34,567 and 1.234.567. A single point is decimal.
_THOUSANDS = re.compile(
    r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+(?!\d)|[1-9]\d?(?:,\d\d)+,\d{3}(?!\d)|[1-9]\d{0,2}(?:\.\d{3}){2,}(?!\.?\d))"
)
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d+),(\d{1,2})(?!\d|[.,]\d|-?[^\W\d_])")
# A number keeps its sign (unless it continues a word: "COVID-19") and its decimals ("3.5" does not hold "3").
_TOKEN = re.compile(r"(?<![^\W_])-?\d+(?:\.\d+)*[^\W_]*|[^\W_]+")


def tokens(text: str) -> list[str]:
    """The words of ``text`` without accents, articles and punctuation; the case is kept.

    >>> tokens("The U.S. (Côte d'Ivoire), 1,000!")
    ['US', 'Cote', 'dIvoire', '1000']
    """
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    if not plain.isascii():
        plain = re.sub(r"\d", lambda m: str(unicodedata.decimal(m[0])), plain)  # of any script
    # NFKD also expands compatibility letters (full width, ligatures); a second pass covers what it brought.
    plain = unicodedata.normalize("NFC", plain).translate(_LETTERS).replace("&", " and ")
    plain = _INITIALS.sub(lambda m: re.sub(r"[.\s]", "", m[0]) + " ", plain)
    plain = _APOSTROPHES.sub("", _POSSESSIVE.sub("", plain))
    plain = _THOUSANDS.sub(lambda m: re.sub("[.,]", "", m[0]), plain)
    every_word: list[str] = _TOKEN.findall(plain)
    # "the" goes everywhere (Republic of the Congo); "a" only in front, so that "vitamin A" keeps its letter.
    words = [word for word in every_word if word.casefold() != "the"]
    while len(words) > 1 and words[0].casefold() in ("a", "an"):
        words = words[1:]
    return words or every_word


def with_decimal_points(text: str) -> str:
    """``text`` with the commas that may be decimal as points: before one or two digits, in a pair that is no list.

    >>> with_decimal_points("3,5 or 1,2,3 or 2,3-xylene")
    '3.5 or 1,2,3 or 2,3-xylene'
    """
    return _DECIMAL_COMMA.sub(r"\1.\2", text)


def lowered(words: Iterable[str]) -> list[str]:
    """Casefolded words, with "St" spelled out as "saint"."""
    return ["saint" if word.casefold() == "st" else word.casefold() for word in words]


@functools.lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """One canonical form of ``text``: two texts with the same words fold alike.

    >>> fold("Saint-Étienne") == fold("ST. ETIENNE")
    True
    """
    return " ".join(lowered(tokens(text)))


def spelled(text: str) -> str:
    """`fold`, or what was written where folding leaves nothing: "👍" and "👎" are not the same text."""
    return fold(text) or text.strip()


class NameFinder:
    """Finds names in a text, left to right and the longest first, as whole words.

    A name of up to four capitals (``US``, ``INR``) is matched in capitals only: "us" names no country.
    """

    def __init__(self, names: Mapping[str, Iterable[str]]):
        self.names: dict[str, str] = {}
        self.capitals: dict[str, str] = {}
        for canonical, aliases in names.items():
            for alias in (canonical, *aliases):
                words = tokens(alias)
                if len(words) == 1 and len(words[0]) <= 4 and words[0].isascii() and words[0].isupper():
                    self.capitals.setdefault(words[0], canonical)
                elif words:
                    self.names.setdefault(" ".join(lowered(words)), canonical)
        self.longest = max((name.count(" ") + 1 for name in self.names), default=1)

    def canonical(self, name: str) -> str | None:
        """The canonical form of ``name``, taken as a whole."""
        return self.names.get(fold(name)) or self.capitals.get("".join(tokens(name)))

    def find(self, text: str, skip: str = "") -> tuple[list[str], list[str]]:
        """The canonical names in ``text`` in order, and the words that belong to none.

        ``skip`` is removed where it stands, unless a name starts there that is as long or longer: "Mexico" is
        skipped in "Mexico: Guadalajara", but not in "Mexico City".
        """
        words = tokens(text)
        small = lowered(words)
        skipped = fold(skip)
        longest = max(self.longest, skipped.count(" ") + 1)
        names: list[str] = []
        rest: list[str] = []
        at = 0
        while at < len(words):
            for size in range(min(longest, len(words) - at), 0, -1):
                key = " ".join(small[at : at + size])
                name = self.names.get(key) or (self.capitals.get(words[at]) if size == 1 else None)
                if name is not None:
                    names.append(name)
                if name is not None or key == skipped:
                    at += size
                    break
            else:
                rest.append(words[at])
                at += 1
        return names, rest
