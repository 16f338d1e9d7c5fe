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
    ],
)
def test_fold_same(a: str, b: str) -> None:
    assert fold(a) == fold(b)


@pytest.mark.parametrize(("a", "b"), [("vitamin A", "vitamin"), ("-5", "5"), ("3.5", "35"), ("Mali", "Malia")])
def test_fold_differs(a: str, b: str) -> None:
    assert fold(a) != fold(b)
