"""Numbers in answers: which ones a text holds, and which of them the answer gives as its result."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

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


def number_text(value: Fraction) -> str:
    """One text for each value: an integer, a decimal that ends, or a reduced fraction."""
    places = next((n for n in range(1, 16) if 10**n % value.denominator == 0), None)
    if value.denominator == 1 or places is None:
        return str(value)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
