"""Numbers in answers: which ones a text holds, in which notations, and which of them the answer gives as its result.

Read are 1,000 and 12,34,567 and 1.234.567 and 1'234 and 1 234 (grouped), 3.5 and 3,5 (decimal), digits of any script,
$18, −5, minus 5, 3/4, 1 1/2, ½, 25 % (as 25), 2 million, 1.5e3, 1.5 × 10^3 and 10². Two notations clash: in "1,234" the
comma may group or be decimal, and in "1.234" the point may. Here a single comma before three digits groups and a single
point is decimal, as in English; the other reading is kept beside it (`Reading`), so that nothing is misgraded unsaid.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
# They may be units as well (5 m, 5 K), except behind a currency.
_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}
_NUMBER = re.compile(
    r"(?:(?P<sign>[-–±]\s?|(?P<word>(?i:(?<![\w-])(?:minus|negative)(?::?\s+\**|-|(?=\()))))"
    r"(?:\((?=\$?[\d.,/]{1,40}\)))?)?"
    # Behind a number it is that one's currency.
    r"(?:(?<!\d)(?<!\d\s)(?P<currency>\$)\s?(?P<inner>-)?)?"
    r"(?:(?P<whole>\d{1,300})\s+(?P<up>\d{1,300})\s?/\s?(?P<down>\d{1,300})(?![\d/])"
    r"|(?P<top>\d{1,300})\s?/\s?(?P<bottom>\d{1,300})(?![\d/])"
    r"|(?P<plain>\d{1,300}(?:(?:[.,'_]|[ ](?=\d{3}(?!\d)))\d{1,300}){0,99}|\.\d{1,300})"
    r"(?:[eE](?P<exponent>[-+]?\d{1,9})(?!\w))?"
    r"(?:(?:\^|\*\*)\{?(?P<raised>[-+]?\d{1,3})(?!\d)\}?|\s?[×x*·⋅]\s?10(?:\^|\*\*)\{?(?P<power>[-+]?\d{1,3})(?!\d)\}?)?)"
    rf"(?P<scale>(?i:\s?(?:{'|'.join(_SCALES)})s?\b){{0,2}})(?P<letter>(?i:k|mn?|bn?)(?![\w^]))?"
)
_GROUPED = re.compile(
    r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?"  # 1,234.5 and 12,34,567.5
    r"|[1-9]\d{0,2}(?:'\d{3})+(?:[.,]\d+)?|[1-9]\d{0,2}(?: \d{3})+(?:[.,]\d+)?"
    r"|[1-9]\d{0,2}(?:\.\d{3}){2,}(?:,\d+)?|[1-9]\d{0,2}\.\d{3},\d+"
)
_DECIMAL = re.compile(r"\d*[.,]?\d+")
# What a run of digits and separators that is no number is taken apart into.
_PART = re.compile(r"\d{1,3}(?:,\d{3}){1,99}(?:\.\d{1,300})?(?![\d,]\d)|\d{1,300}(?:\.\d{1,300})?|\.\d{1,300}")
_MARKER = re.compile(r"####|\\boxed\{|\banswer(?:\s+is|\s*:|\s*=)", re.IGNORECASE)
_BEFORE_A_SIGN = {
    "is", "are", "was", "were", "be", "becomes", "equals", "get", "gives", "to", "of", "at", "by", "a", "the",
    "and", "or", "from", "than", "about", "exactly", "plus", "minus", "negative", "times", "over", "between",
    "below", "above",
}  # fmt: skip
# What a number is taken from: a number, what closes one, or a variable; or an amount of up to two words.
_MINUEND = re.compile(r"(?:[\d)\]}%$°]|(?<![\w'])[^\W\d_])$")
_AMOUNT = re.compile(r"[\d)\]}%$°]\s*((?:[^\W\d_]+\s*){1,2})$")
_LAST_WORD = re.compile(r"(?<!\w)[^\W\d_]+$")
# Of the text before a sign so many characters tell what it is.
_NEAR = 80
_MOST_DIGITS = 400
_SUPERSCRIPT = "[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+"
_PLAIN = str.maketrans(
    dict.fromkeys("‐‑‒−", "-") | {"⁄": "/", "∕": "/", "٫": ".", "٬": "'", "’": "'", "ʼ": "'", "٪": "%"}
)


@dataclass(frozen=True)
class Reading:
    """A number in a text: its ``value``, and the ``others`` that the same characters may stand for.

    ``unclear`` where convention does not settle it: 1,234 (or 1.234), (5) (or −5), 5k (or 5), 1.2.34 (no number).
    """

    value: Fraction
    others: frozenset[Fraction] = frozenset()
    unclear: bool = False

    def times(self, factor: Fraction) -> Reading:
        """All of it, multiplied."""
        return Reading(self.value * factor, frozenset(other * factor for other in self.others), self.unclear)


def plain_digits(text: str) -> str:
    """``text`` with ASCII digits, minus signs and separators in place of those of other scripts and of typography.

    >>> plain_digits("−１２ and ٣٫٥ and 1\\u202f234")
    "-12 and 3.5 and 1'234"
    """
    # A no-break space inside a number groups it.
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "'", text)
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    return text if text.isascii() else re.sub(r"\d", lambda m: str(unicodedata.decimal(m[0])), text)


def plain_notation(text: str) -> str:
    """``text`` with powers, fractions and currencies in the one spelling that `_NUMBER` reads."""
    # Behind a digit a superscript is a power and a vulgar fraction makes a mixed number; NFKC would join the digits.
    text = re.sub(rf"(?<=\d){_SUPERSCRIPT}", lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", " ", text)
    # The exponent of a unit is no number: m², cm^3, km2.
    text = re.sub(rf"(?<=[^\W\d_])(?:{_SUPERSCRIPT}|\^\d+)", "", text)
    text = re.sub(r"(?<![^\W\d_])([mcdk]?m|in|ft|yd)[23]\b", r"\1", text)
    text = re.sub(r"\\[dt]?frac\{\s*(-?\d+)\s*\}\{\s*(\d+)\s*\}", r"\1/\2", text)
    text = text.replace("\\times", "×").replace("\\cdot", "·").replace("\\,", "\u202f").replace("{,}", ",")
    text = plain_digits(text).replace("\\$", "$")
    return text if text.isascii() else "".join("$" if unicodedata.category(c) == "Sc" else c for c in text)


def read_numbers(text: str) -> list[Reading]:
    """The numbers in ``text``, in its order; a division by zero is none."""
    text = plain_notation(text)
    matches = list(_NUMBER.finditer(text))
    readings = []
    for match in matches:
        before = text[: match.start()].rstrip()
        # A number that stands alone is no list of several: 3,5 and 1 234.
        alone = len(matches) == 1 and not re.search(r"[^\W_]", before)
        negative, either = _negative(match, text[max(0, match.start() - _NEAR) : match.start()])
        bracketed = alone and not negative and before.strip() == "(" and text[match.end() :].strip(" .") == ")"
        try:
            found = [reading.times(_factor(match)) for reading in _base(match, alone)]
        except (ZeroDivisionError, OverflowError):
            continue
        if negative:
            found[0] = found[0].times(Fraction(-1))
        if either:
            first = found[0]
            found[0] = Reading(first.value, first.others | {-x for x in (first.value, *first.others)}, unclear=True)
        for reading in found:
            letter = "" if match["currency"] else match["letter"] or ""
            others = set(reading.others)
            if letter:
                others.add(reading.value * _LETTERS[letter.lower()])
            if bracketed:  # as accountants write losses
                others.add(-reading.value)
            unclear = reading.unclear or bracketed or letter not in ("", "m")
            readings.append(Reading(reading.value, frozenset(others - {reading.value}), unclear))
    return readings


def _base(match: re.Match[str], alone: bool) -> list[Reading]:
    """The readings of a match without what multiplies it; several where separators make no number of it."""
    if match["whole"]:
        return [Reading(int(match["whole"]) + Fraction(int(match["up"]), int(match["down"])))]
    if match["top"]:
        return [Reading(Fraction(int(match["top"]), int(match["bottom"])))]
    found = list(_separated(match["plain"].replace("_", "'"), alone))
    if (raised := int(match["raised"] or 1)) != 1:
        if abs(raised) * len(match["plain"]) > _MOST_DIGITS:
            raise OverflowError
        found[-1] = Reading(
            found[-1].value ** raised, frozenset(x**raised for x in found[-1].others), found[-1].unclear
        )
    return found


def _separated(body: str, alone: bool) -> Iterator[Reading]:
    """The readings of digits and separators."""
    if body.isdigit():
        yield Reading(Fraction(body))
    elif _GROUPED.fullmatch(body):
        parts, marks = re.split(r"[ ,.']", body), re.findall(r"[ ,.']", body)
        # A last separator that is another one than the first is decimal.
        point = "." if marks[-1] != marks[0] else ""
        value = Fraction("".join(parts[:-1]) + point + parts[-1])
        clash = re.fullmatch(r"\d+,\d+", body) is not None
        others = {Fraction(body.replace(",", "."))} if clash else set()
        if " " in body and not alone:
            others |= {Fraction(part.replace(",", ".")) for part in body.split(" ")}
        yield Reading(value, frozenset(others), unclear=clash)
    elif _DECIMAL.fullmatch(body):
        value = Fraction(body.replace(",", "."))
        others = set()
        if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", body):
            others = {Fraction(body.replace(".", ""))}
        elif "," in body and not alone:
            others = {Fraction(part) for part in body.split(",") if part}
        yield Reading(value, frozenset(others))
    else:
        for part in _PART.findall(body):
            yield Reading(Fraction(part.replace(",", "")), unclear=True)


def _factor(match: re.Match[str]) -> Fraction:
    """What the number is multiplied with: an exponent, a power of ten, and words such as million."""
    exponent = int(match["exponent"] or 0) + int(match["power"] or 0)
    if abs(exponent) > _MOST_DIGITS:
        raise OverflowError
    factor = Fraction(10) ** exponent
    for word in re.findall(r"[a-z]+", (match["scale"] or "").lower()):
        factor *= _SCALES[word.removesuffix("s")]
    if match["letter"] and match["currency"]:
        factor *= _LETTERS[match["letter"].lower()]
    return factor


def _negative(match: re.Match[str], before: str) -> tuple[bool, bool]:
    """Whether a minus in front is a sign, and whether it may be the other of sign and subtraction.

    At the start of a text or line, after an operator, in "it is -5" and in "She has minus 5" it is a sign for certain,
    and in "10 - 4", "x-4" and "apples - 3" it is none. It may be either, and probably subtracts, behind a number or a
    variable ("10 -4", "x minus 4"), in "5 apples -3" and in "±5". It is probably a sign in "5 apples minus 3" and in
    "Total -5".
    """
    if match["inner"]:
        return True, False
    if not match["sign"]:
        return False, False
    if match["sign"][0] == "±" or re.search(r"(?:\bplus or\s|\+/)$", before, re.IGNORECASE):
        return False, True
    tight, spaced = not match["sign"][-1].isspace(), before[-1:].isspace()
    if (match["word"] or tight) and not before.rpartition("\n")[2].strip():
        return True, False
    before = before.rstrip()
    word = _LAST_WORD.search(before)
    if not re.search(r"[\w)\]}%$°]$", before) or (word and word[0].lower() in _BEFORE_A_SIGN):
        return True, False
    amount = _AMOUNT.search(before)
    taken = amount is not None and not _BEFORE_A_SIGN.intersection(amount[1].lower().split())
    if match["word"]:
        # "5 degrees negative 3" takes nothing away.
        subtracts = _MINUEND.search(before) is not None
        return not subtracts, subtracts or (taken and match["word"].lower().startswith("minus"))
    if not (tight and spaced):
        return False, False
    return not (taken or _MINUEND.search(before)), True


def parse_number(text: str) -> Fraction | None:
    """The first number in ``text``."""
    return next((reading.value for reading in read_numbers(text)), None)


def answer_reading(answer: str) -> Reading | None:
    """The number that an answer gives as its result.

    After the last marker ("####", "\\boxed{", "answer is", "answer:") the first number; else on a single line
    the first after its last "=", or the first at all ("18 dollars, 2 a day"); over several lines, which are
    reasoning, the last one.
    """
    marked = list(_MARKER.finditer(answer))
    if marked and (found := read_numbers(answer[marked[-1].end() :])):
        return found[0]
    lines = [line for line in answer.splitlines() if line.strip()]
    found = read_numbers(answer)
    if len(lines) > 1:
        return found[-1] if found else None
    if "=" in answer and (last := read_numbers(answer.rpartition("=")[2])):
        return last[0]
    return found[0] if found else None


def answer_number(answer: str) -> Fraction | None:
    """The value of `answer_reading`."""
    reading = answer_reading(answer)
    return None if reading is None else reading.value


def number_text(value: Fraction) -> str:
    """One text for each value: an integer, a decimal that ends, or a reduced fraction."""
    places = next((n for n in range(1, 16) if 10**n % value.denominator == 0), None)
    if value.denominator == 1 or places is None:
        return str(value)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
