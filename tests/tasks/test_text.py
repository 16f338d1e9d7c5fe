from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks.text import fold


@given(st.text(max_size=60))
def test_fold_is_stable_and_ignores_case(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Saint-Étienne", "ST. ETIENNE"),
        ("J. R. R. Tolkien", "J.R.R. Tolkien"),
        ("The Beatles", "beatles"),
        ("Łódź", "Lodz"),
        ("1,000", "1000"),
        ("ＡＢＣ", "abc"),
        ("rock & roll", "Rock and Roll"),
        ("1.234.567", "1234567"),
        ("12,34,567", "1234567"),
        ("1'234", "1234"),
        ("٣٫٥ km", "3.5 km"),
        ("１，２３４ m", "1234 m"),
        ("1,000.123", "1000.123"),
    ],
)
def test_fold_same(a: str, b: str) -> None:
    assert fold(a) == fold(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("vitamin A", "vitamin"),
        ("-5", "5"),
        ("3.5", "35"),
        ("1.234", "1234"),
        ("Mali", "Malia"),
    ],
)
def test_fold_differs(a: str, b: str) -> None:
    assert fold(a) != fold(b)


def test_lists_and_names_keep_their_commas() -> None:
    assert fold("1,2,3") == "1 2 3"
    assert fold("2,3-bisphosphoglycerate") == "2 3 bisphosphoglycerate"
    assert fold("1914, 18") == "1914 18"
    assert fold("1.2.345") == "1.2.345"
