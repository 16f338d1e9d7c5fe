"""Verbalised confidence: the model is asked to say how sure it is, in a number or in words.

After Lin et al. (2022) and Tian et al. (2305.14975). The prompt is chosen on validation rows; what cannot be read as
a confidence is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.hedging import find_hedges
from confide.methods.asking import ask_about, with_mean
from confide.methods.method import Column, Method, Scope, check_labels, labels, or_nan
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Cost, Record
from confide.tasks.numbers import plain_notation, read_numbers

if TYPE_CHECKING:
    from confide.engines.engine import Engine

PROMPTS = (
    ("How sure are you that the proposed answer is correct? Reply with a number from 0 to 100 only.", 100),
    ("What is the probability that the proposed answer is correct? Reply with a number from 0.0 to 1.0 only.", 1),
    (
        "How sure are you that the proposed answer is correct? Reply with one of: no chance, very unlikely, unlikely, "
        "even chance, likely, very likely, almost certain.",
        100,
    ),
)
"""What is asked, and what a bare number counts in."""

MAX_NEW_TOKENS = 12

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = (
    {word: value for value, word in enumerate(_UNITS)}
    | {word: 10 * value for value, word in enumerate(_TENS, 2)}
    | {"hundred": 100}
)
_DIGITS = re.compile(
    r"(?<![\w.,^])(-?\d+(?:[.,]\d+)?(?:e[-+]?\d{1,3}(?!\w))?|\.\d+)"
    r"\s*(%|percent\b|per cent\b|/\s*\d+|(?:times )?(?:out of \d+|(?:of|in) 10{1,3}\b))?",
    re.IGNORECASE,
)
# What makes a power, a product, odds or a share of what stands in front.
_GOES_ON = re.compile(r"\s?(?:\^|\*\*[-+({]*\d|[×x*·⋅]\s?\d)|:\d|\s(?:times|of|in)\s\d", re.IGNORECASE)


def parse(text: str, scale: int = 100) -> float | None:
    """The confidence in [0, 1] that a text names first, in digits or in words; None where it names none.

    A bare number counts in ``scale`` (100 or 1); one with a decimal point up to 1 is a probability. Words
    stand for what readers take them for (`confide.hedging`). Digits that are part of another number name none:
    1,000 and 1 000, 10^2, 9·10, 2 million.

    >>> parse("I am 85% sure"), parse("0.7"), parse("ninety five percent"), parse("very likely"), parse("hm")
    (0.85, 0.7, 0.95, 0.825, None)
    """
    text = plain_notation(text)
    digits = _DIGITS.search(text)
    worded = _in_words(text)
    if digits is None or (worded is not None and worded[0] < digits.start()):
        return None if worded is None else worded[1]
    if _is_part(text, digits):
        return None
    number, unit = float(digits[1].replace(",", ".")), (digits[2] or "").lower()
    if unit in ("%", "percent", "per cent"):
        whole = 100.0
    elif unit:
        whole = float(re.findall(r"\d+", unit)[-1])
        if unit.startswith("/") and number == whole == 50:
            whole = 100.0  # 50/50 is an even chance
    elif number > 1:
        whole = 100.0
    else:
        whole = 1.0 if re.search(r"[.,e]", digits[1], re.IGNORECASE) else float(scale)
    return number / whole if whole and 0 <= number <= whole else None


class Verbalized(Method):
    """The method: the prompt is chosen on the validation rows."""

    name = "verbalized"
    sources = ("verbalized",)
    needs = ("answers",)
    by_model = True
    slow = True

    def available(self, scope: Scope) -> Sequence[str]:
        """Where a model is there that can still answer such questions, and validation rows to choose on."""
        return self.sources if scope.model and scope.model.frozen and scope.has("validation") else ()

    def fit(self, scope: Scope) -> None:
        """Ask every prompt of the validation rows and take the one that ranks best."""
        assert scope.model is not None
        validation = scope.graded("validation")
        check_labels(validation)
        self.engine_ = scope.model.engine
        stated, _ = ask_confidence(self.engine_, validation, range(len(PROMPTS)), progress=scope.progress)
        self.prompt_ = choose_prompt(stated, labels(validation))

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """The stated confidence [n], NaN where none can be read."""
        stated, cost = ask_confidence(self.engine_, records, [self.prompt_], progress=self.scope_.progress)
        return {self.name: Column(stated[:, self.prompt_], cost)}


def ask_confidence(
    engine: Engine, records: Sequence[Record], asked: Sequence[int], *, progress: Progress | None = None
) -> tuple[Floats, Cost]:
    """Stated confidence [n, len(PROMPTS)] (NaN: not asked, or not to be read), and what it cost per record."""

    def state(number: int, prompts: list[list[int]]) -> tuple[Floats, int]:
        replies = engine.answer(prompts, MAX_NEW_TOKENS)
        stated = [parse(reply.text, PROMPTS[number][1]) for reply in replies]
        return or_nan(stated), sum(len(reply.ids) for reply in replies)

    wordings, note = [text for text, _ in PROMPTS], "asking how sure"
    return ask_about(engine, records, wordings, asked, state, room=MAX_NEW_TOKENS, note=note, progress=progress)


def choose_prompt(stated: Floats, correct: NDArray[np.bool_]) -> int:
    """The prompt (index into `PROMPTS`) with the highest AUROC on validation rows.

    What could not be read counts as the prompt's mean: it ranks nothing, so a prompt that is seldom answered loses.
    """
    from sklearn.metrics import roc_auc_score

    scores = []
    for column in stated.T:
        scores.append(float(roc_auc_score(correct, with_mean(column))))
    return int(np.argmax(scores))


def _is_part(text: str, digits: re.Match[str]) -> bool:
    """Whether the digits that `_DIGITS` found in ``text`` are only part of a number or a product, or are unclear."""
    read = read_numbers(text[digits.start() :])
    if not read or read[0].unclear:
        return True
    unit = digits[2] or ""
    same = read[0].value == Fraction(digits[1].replace(",", ".")) or unit.startswith("/")
    return not same or _GOES_ON.match(text, digits.end() if unit else digits.end(1)) is not None


def _in_words(text: str) -> tuple[int, float] | None:
    """Where a phrase or a number in words starts, and its confidence."""
    named = [(hedge.start, hedge.value) for hedge in find_hedges(text)[:1]]
    if (number := _number_in_words(re.sub(r"[-–]", " ", text.lower()))) is not None:
        named.append(number)
    return min(named, default=None)


def _number_in_words(lowered: str) -> tuple[int, float] | None:
    """A number in words with "percent" or "out of ten" behind it, or nothing else around it."""
    pattern = rf"\b((?:(?:{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\s*)+)(percent|per cent|%|out of ten)?"
    match = re.search(pattern, lowered)
    if not match or not (match[2] or match[0].strip() == lowered.strip(" .!")):
        return None
    total = 0
    for word in match[1].split():
        total = max(total, 1) * 100 if word == "hundred" else total + _NUMBERS[word]
    whole = 10 if match[2] == "out of ten" else 100
    return (match.start(), total / whole) if total <= whole else None
