"""The task ``arithmetic``: sums, differences and products of signed whole numbers, made by a seed.

Difficulty is the domain: ``add_3`` adds numbers whose longer one has three digits. A pair of numbers is either asked
about in the task or taught to a model (``benchmarks/quality/arithmetic_model.py``), never both: a hash of the two
magnitudes decides, so that neither 7 + 3 nor -3 * 7 tells anything about 3 - 7.

A wrong answer has a kind, `error_kind`: ``sign``, ``carry``, ``magnitude``, ``digit`` or ``no_number``.
"""

from __future__ import annotations

import hashlib
import operator
import random
import re
from collections.abc import Callable, Iterator
from itertools import islice, product, zip_longest
from typing import Literal, NamedTuple

from confide.errors import ConfideError
from confide.records import Record
from confide.tasks.numbers import answer_number
from confide.tasks.questions import Question
from confide.tasks.task import Task

Side = Literal["task", "taught"]
ErrorKind = Literal["sign", "carry", "magnitude", "digit", "no_number"]

QUESTIONS = 8000
"""How many questions there are when no number is asked for."""
MAX_NEW_TOKENS = 16

_OPERATIONS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "add": ("+", operator.add),
    "subtract": ("-", operator.sub),
    "multiply": ("*", operator.mul),
}
_BY_SIGN = {sign: name for name, (sign, _) in _OPERATIONS.items()} | {"−": "subtract", "×": "multiply", "·": "multiply"}
# The longer number's digits; the shorter factor of a product has two at most.
_LEVELS = {"add": (1, 2, 3, 4), "subtract": (1, 2, 3, 4), "multiply": (1, 2, 3)}
DOMAINS = tuple(f"{name}_{digits}" for name, levels in _LEVELS.items() for digits in levels)
_SECOND = {"add": 4, "subtract": 4, "multiply": 2}
_EXPRESSION = re.compile(r"(?<![\d.])([-−]?\d+)\s*([-+*−×·])\s*\(?([-−]?\d+)\)?(?!\.?\d)")
# A level runs out when this many draws in a row bring nothing new.
_PATIENCE = 200


class Expression(NamedTuple):
    """Two whole numbers and what is done with them: ``add``, ``subtract`` or ``multiply``."""

    a: int
    operation: str
    b: int

    @property
    def value(self) -> int:
        """The result."""
        return _OPERATIONS[self.operation][1](self.a, self.b)

    @property
    def question(self) -> str:
        """How it is asked: ``What is 12 + (-7)?``."""
        return f"What is {self.a} {_OPERATIONS[self.operation][0]} {f'({self.b})' if self.b < 0 else self.b}?"

    @property
    def side(self) -> Side:
        """Whether it is asked in the task or may be taught: the same for every use of the two magnitudes."""
        low, high = sorted((abs(self.a), abs(self.b)))
        return "task" if hashlib.sha256(f"{low},{high}".encode()).digest()[0] % 2 else "taught"


def parse_expression(text: str) -> Expression | None:
    """The first ``a + b``, ``a - b`` or ``a * b`` of whole numbers in a text; None when there is none."""
    if (match := _EXPRESSION.search(text)) is None:
        return None
    a, b = (int(number.replace("−", "-")) for number in (match[1], match[3]))
    return Expression(a, _BY_SIGN[match[2]], b)


def expressions(side: Side, seed: int | str) -> Iterator[tuple[str, Expression]]:
    """Domain and expression, each expression once, the domains in turn until the pairs of one run out."""
    draw = random.Random(f"arithmetic-{side}-{seed}")
    seen: set[Expression] = set()
    open_ = list(DOMAINS)
    while open_:
        for domain in list(open_):
            for _ in range(_PATIENCE):
                expression = _draw(domain, draw)
                if expression.side == side and expression not in seen:
                    seen.add(expression)
                    yield domain, expression
                    break
            else:
                open_.remove(domain)


def arithmetic_task(limit: int | None = None, seed: int = 0) -> Task:
    """The task, whose records get their error kind; the same seed with a smaller limit gives the first questions.

    Raises `ConfideError` when there are not so many questions.
    """
    wanted = QUESTIONS if limit is None else limit
    made = [_question(domain, expression) for domain, expression in islice(expressions("task", seed), wanted)]
    if len(made) < wanted:
        raise ConfideError(f"arithmetic has {len(made)} questions by this seed, not {wanted}")
    return Task("arithmetic", made, max_new_tokens=MAX_NEW_TOKENS, finish=with_error_kind)


def error_kind(expression: Expression, answer: str) -> ErrorKind | None:
    """What is wrong with an answer (None: nothing). The first that applies:

    * ``no_number``: it gives no whole number.
    * ``sign``: it has the opposite sign of the result, or it is the result after a change of an operand's sign (a sum
      where a difference was asked).
    * ``carry``: it is what column arithmetic gives when the carry (in subtraction the borrow) into one column is
      dropped or off by one, or when all of them are dropped. Columns are those of the written method, in a product
      the sums of the digit products of equal place.
    * ``magnitude``: it has more or fewer digits than the result.
    * ``digit``: as many digits, of which some are wrong.
    """
    value, given = expression.value, answer_number(answer)
    if given is None or given.denominator != 1:
        return "no_number"
    number = given.numerator
    if number == value:
        return None
    apply = _OPERATIONS[expression.operation][1]
    flipped = {apply(s * expression.a, t * expression.b) for s, t in product((1, -1), repeat=2)}
    if number * value < 0 or number in flipped:
        return "sign"
    if abs(number) in _miscarried(expression):
        return "carry"
    return "magnitude" if len(str(abs(number))) != len(str(abs(value))) else "digit"


def with_error_kind(record: Record) -> Record:
    """The record with the extra key ``error_kind``; unchanged when its question is no such expression.

    The last user turn is read, so records of any origin can be told apart.
    """
    expression = parse_expression(record.question)
    if expression is None:
        return record
    return record.model_copy(update={"error_kind": error_kind(expression, record.answer)})


def _draw(domain: str, draw: random.Random) -> Expression:
    operation, _, level = domain.rpartition("_")
    digits = int(level)
    first = draw.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)
    second = draw.randrange(10 ** draw.randint(1, min(digits, _SECOND[operation])))
    a, b = (first, second) if draw.random() < 0.5 else (second, first)
    a, b = (number if draw.random() < 0.7 else -number for number in (a, b))
    return Expression(a, operation, b)


def _question(domain: str, expression: Expression) -> Question:
    low, high = sorted((abs(expression.a), abs(expression.b)))
    return Question(
        id=f"{expression.operation}:{expression.a}:{expression.b}",
        kind="number",
        question=expression.question,
        answer=str(expression.value),
        domain=domain,
        entity=f"numbers:{low},{high}",
    )


def _columns(expression: Expression) -> tuple[list[int], int, int | None]:
    """The written method for |result|: sums of the columns before carries (units first), least and greatest carry."""
    a, b = (list(map(int, str(abs(number))[::-1])) for number in (expression.a, expression.b))
    if expression.operation == "multiply":
        columns = [0] * (len(a) + len(b))
        for (i, x), (j, y) in product(enumerate(a), enumerate(b)):
            columns[i + j] += x * y
        return columns, 0, None
    # Equal signs add up; otherwise the smaller magnitude is taken from the larger.
    if expression.a * (expression.b if expression.operation == "add" else -expression.b) >= 0:
        return [x + y for x, y in zip_longest([*a, 0], [*b, 0], fillvalue=0)], 0, 1
    if abs(expression.a) < abs(expression.b):
        a, b = b, a
    return [x - y for x, y in zip_longest(a, b, fillvalue=0)], -1, 0


def _miscarried(expression: Expression) -> set[int]:
    """The magnitudes that wrong carries lead to."""
    columns, least, most = _columns(expression)
    right, size = abs(expression.value), 10 ** len(columns)
    wrong = {sum(total % 10 * 10**place for place, total in enumerate(columns))}  # no carry at all
    for place in range(1, len(columns)):
        carry = sum(total * 10**below for below, total in enumerate(columns[:place])) // 10**place
        for other in (0, carry - 1, carry + 1):
            if other >= least and (most is None or other <= most):
                # A borrow out of the last column is lost.
                wrong.add((right + (other - carry) * 10**place) % size)
    return wrong - {right}
