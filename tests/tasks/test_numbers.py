from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks.graders import Grade, grade
from confide.tasks.numbers import answer_number, number_text, parse_number, read_numbers
from confide.tasks.questions import Question


def number(answer: str) -> Question:
    return Question(id="q", kind="number", question="?", answer=answer)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", "18"),
        ("1,000", "1000"),
        ("$18", "18"),
        ("18.0", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("25%", "25"),
        ("= 18", "18"),
        ("3/4", "3/4"),
        ("1 1/2", "3/2"),
        ("1½", "3/2"),
        (".5", "1/2"),
        ("6/8", "3/4"),
        ("16 - 3 - 4 = 9 eggs", "9"),
        ("9 * 2 = $18 a day", "18"),
        ("18 dollars, 2 a day", "18"),
        ("10 -4", "10"),
        ("2 million", "2000000"),
        ("1.5e3", "1500"),
        ("She has 3.\nThen 4 more.\nSo 7 in all", "7"),
        ("First 3 and 4\n#### 7\nas said", "7"),
        ("The answer is 7, not 9.", "7"),
        (r"so \boxed{12}", "12"),
        ("1,234,567.5", "2469135/2"),
        ("no number", None),
        ("", None),
        ("3/0", None),
        ("18.", "18"),
        # Separators
        ("3,5", "7/2"),
        ("0,125", "1/8"),
        ("12,3456", "123456/10000"),
        ("1234,567", "1234567/1000"),
        ("1.234", "1234/1000"),
        ("1.234.567", "1234567"),
        ("1.234.567,5", "12345675/10"),
        ("1.234,5", "12345/10"),
        ("1,234", "1234"),
        ("12,34,567", "1234567"),
        ("12,34,567.5", "12345675/10"),
        ("1'234", "1234"),
        ("1’234’567.5", "12345675/10"),
        ("1 234", "1234"),
        ("1 234 567,5", "12345675/10"),
        ("1\u00a0234", "1234"),
        ("1\u202f234\u202f567", "1234567"),
        ("1_000_000", "1000000"),
        (r"1{,}000", "1000"),
        ("4 500 km and 3 600 km", "4500"),
        ("12 34", "12"),
        ("2 1234", "2"),
        ("1,2,3", "1"),
        ("12.05.2020", "1205/100"),
        # Scripts and signs
        ("１８", "18"),
        ("１，２３４．５", "12345/10"),
        ("٣٫٥", "7/2"),
        ("١٬٢٣٤", "1234"),
        ("१८", "18"),
        ("－5", "-5"),
        ("‑5", "-5"),
        ("minus 5", "-5"),
        ("It is -5", "-5"),
        ("between and -5 or so", "-5"),
        ("about -3 or -5", "-3"),
        ("The temperature is minus 3,5 degrees", "-7/2"),
        ("Negative 7", "-7"),
        ("10 minus 4", "10"),
        ("x-4", "4"),
        ("She has negative 5 dollars", "-5"),
        ("She loses minus 5", "-5"),
        ("Temperature\u00a0minus\u00a05", "-5"),
        ("It's minus 5", "-5"),
        ("The total, negative **5**", "-5"),
        ("negative-5", "-5"),
        ("minus $5", "-5"),
        ("minus -5", "-5"),
        ("a non-negative 5", "5"),
        ("x minus 5", "5"),
        ("-(5)", "-5"),
        ("minus (5)", "-5"),
        ("Negative($5)", "-5"),
        ("negative: 5", "-5"),
        ("- (2 + 3) = -5", "-5"),
        ("She owes -3", "-3"),
        ("$ -5", "-5"),
        ("Apples - 3", "3"),
        ("Take 10\n-4", "-4"),
        ("Take 10\nminus 4", "-4"),
        ("Take 10\n- 4 apples", "4"),
        ("3 - -4 =\n3 plus -4", "-4"),
        ("Of 10 they are -4\nThat is, 2 times -4", "-4"),
        ("(5)", "5"),
        ("(-5)", "-5"),
        # Powers, fractions, scales, units
        ("1e3", "1000"),
        ("1E-2", "1/100"),
        ("2,5e3", "2500"),
        ("1.5 × 10^3", "1500"),
        ("3 x 10^8 m/s", "300000000"),
        ("2 * 10**-2", "1/50"),
        (r"1.5 \times 10^{3}", "1500"),
        ("10^6", "1000000"),
        ("10²", "100"),
        ("10⁻²", "1/100"),
        ("2^10", "1024"),
        (r"\frac{3}{4}", "3/4"),
        ("⅔", "2/3"),
        ("2 ¾", "11/4"),
        ("Area:\n25 m²", "25"),
        ("Area:\n25 cm^2", "25"),
        ("Area:\n25 km2", "25"),
        ("5 hundred", "500"),
        ("2 Million", "2000000"),
        ("3 hundred thousand", "300000"),
        ("5 million dollars", "5000000"),
        ("3 lakh", "300000"),
        ("1,5 crore", "15000000"),
        ("$5k", "5000"),
        ("€2.5M", "2500000"),
        ("£3bn", "3000000000"),
        ("5 km", "5"),
        ("5m", "5"),
        ("₹1,00,000", "100000"),
        ("-₹5", "-5"),
        ("1e999999999", None),
        ("9^999", None),
    ],
)
def test_numbers(answer: str, value: str | None) -> None:
    assert answer_number(answer) == (None if value is None else Fraction(value))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10 -4", [10, 4]),
        ("10 - 4", [10, 4]),
        ("10-4", [10, 4]),
        ("10 minus 4", [10, 4]),
        ("(2 + 8) minus 4", [2, 8, 4]),
        ("5 apples -3", [5, 3]),
        ("12 red apples -3", [12, 3]),
        ("10% -3", [10, 3]),
        ("5€ -3€", [5, 3]),
        ("5 $ minus 3 $", [5, 3]),
        ("5° minus 3°", [5, 3]),
        ("5°C -3", [5, 3]),
        ("$5$ and $-3$", [5, -3]),
        ("2 + 3 is now -5", [2, 3, -5]),
        ("5 * -3", [5, -3]),
        ("1, -3", [1, -3]),
    ],
)
def test_a_minus_behind_a_number_subtracts(text: str, values: list[int]) -> None:
    assert [reading.value for reading in read_numbers(text)] == values


@given(st.integers(-(10**12), 10**12))
def test_written_integers_are_read_back(value: int) -> None:
    question = number(str(value))
    for text in (str(value), f"{value:,}", f"{value}.00", f"The answer is {value}."):
        assert grade(question, text) == Grade(True, str(value))


@given(st.text(alphabet="0123456789.,/-−$%eE =#½\n", max_size=40))
def test_number_soup(text: str) -> None:
    parse_number(text)
    question = number("3")
    grade(question, text)


def test_huge_numbers_are_harmless() -> None:
    question = number("3")
    assert grade(question, "9" * 10_000).correct is False
    assert grade(question, "1e999999999").correct is False


@pytest.mark.parametrize(
    ("reference", "answer", "correct"),
    [
        ("1234", "1,234", True),
        ("1.234", "1,234", None),
        ("1234", "1.234", None),
        ("1.234", "1.234", True),
        ("1235", "1.234", False),
        ("3.5", "3,5", True),
        ("3", "3,5", False),
        ("3", "The sides are 3,5 and 7", None),
        ("1234", "There are 1 234 of them", True),
        ("1", "There are 1 234 of them", None),
        ("-5", "(5)", None),
        ("5", "(5)", True),
        ("5", "She has more (5).", True),
        ("-5", "She has more (5).", False),
        ("5000", "5k", None),
        ("5", "5k", True),
        ("5000", "$5k", True),
        ("5", "$5k", False),
        ("0.5", "50%", False),
        ("50", "50 %", True),
        ("1234567", "12,34,567", True),
        ("5", "She has negative 5 dollars", False),
        ("-5", "She has negative 5 dollars", True),
        ("5", "The temperature falls below minus 5", False),
        ("-4", "Subtract:\n10 minus 4", None),
        ("4", "Subtract:\n10 minus 4", True),
        ("-3", "Left:\n5 apples -3", None),
        ("3", "Left:\n5 apples minus 3", None),
        ("-3", "Left:\n5 apples minus 3", True),
        ("3", "x = ±3", True),
        ("-3", "x = ±3", None),
        ("-3", "x is plus or minus 3", None),
        ("-3", "+/-3", None),
        ("3", "She owes -3", None),
        ("-3", "She owes -3", True),
    ],
)
def test_an_ambiguous_answer_is_right_by_convention_and_else_not_graded(reference, answer, correct) -> None:
    assert grade(number(reference), answer).correct is correct


@pytest.mark.parametrize("text", ["1,234", "(5)", "5k", "5M", "1,2,3", "12.05.2020", "1.234,5.6", "1,23,4"])
def test_unclear_references_are_told(text: str) -> None:
    assert read_numbers(text)[0].unclear


@pytest.mark.parametrize(
    "text",
    ["1.234", "1,234,567", "1,234.5", "3,5", "1 234", "1'234", "−5", "5 m", "5m", "$5k", "½", "1e3", "2 million"],
)
def test_clear_references_are_clear(text: str) -> None:
    assert not read_numbers(text)[0].unclear


@given(
    st.integers(1, 10**12), st.sampled_from([",", ".", " ", "'", "\u00a0", "\u202f", "_"]), st.sampled_from(["", "5"])
)
def test_grouped_integers_are_read_back_or_kept_as_another_reading(value: int, mark: str, decimals: str) -> None:
    point = ("," if mark == "." else ".") + decimals if decimals else ""
    read = read_numbers(f"{value:,}".replace(",", mark) + point)
    assert len(read) == 1
    assert Fraction(f"{value}.{decimals or 0}") in {read[0].value, *read[0].others}
    assert len(read[0].others) <= 1


@given(st.fractions(-1000, 1000).filter(lambda x: x.denominator in (1, 2, 4, 5, 8, 10, 16, 20)))
def test_texts_of_values_are_read_back_in_every_script(value: Fraction) -> None:
    text = number_text(value)
    arabic = text.translate(str.maketrans("0123456789.-", "٠١٢٣٤٥٦٧٨٩٫−"))
    wide = text.translate(str.maketrans("0123456789.-", "０１２３４５６７８９．－"))
    assert [answer_number(t) for t in (text, arabic, wide)] == [value] * 3
