"""What two answers may differ in and still say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.serving.routing import canonical_text
from confide.serving.routing.canonical_text import canonical


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Japan.", "japan"),
        ("  Japan\n", "Japan"),
        ("**Japan**.", "Japan"),
        ("*Japan*", "Japan"),
        ("_Japan_", "Japan"),
        ("`Japan`", "Japan"),
        ("“Japan”.", "Japan"),
        ("« Japan ».", "'Japan'"),
        ("„Japan“", '"Japan"'),
        ("「日本」", "日本。"),
        ("• Japan", "Japan"),
        ("Japan\u200b", "Japan"),
        ("Japan?!", "Japan…"),
        ("¿Japón?", "Japon"),
        ("**Answer:** Japan", "answer: Japan"),
        ("Saint-Étienne", "ST. ETIENNE"),
        ("J. R. R. Tolkien", "J.R.R. Tolkien"),
        ("the U.S.", "US"),
        ("The Beatles", "beatles"),
        ("a dog", "dog"),
        ("Łódź", "Lodz"),
        ("İstanbul", "Istanbul"),
        ("Straße", "STRASSE"),
        ("Ελλάδα", "ΕΛΛΑΔΑ"),
        ("Côte d’Ivoire", "Cote d'Ivoire"),
        ("McDonald's", "mcdonalds"),
        ("rock & roll", "Rock and Roll"),
        ("Paris, France", "Paris France"),
        ("December 7, 1941", "December 7 1941"),
        ("well-known", "well known"),
        ("1,000", "1000"),
        ("ＡＢＣ", "abc"),
        ("10 %", "10%"),
        ("3 + 4", "3+4"),
        ("x²", "x^2"),
        ("10⁻³", "10^-3"),
        ("½", "1/2"),
        ("3½", "3 1/2"),
        ("H₂O", "H2O"),
        ("\u22125", "-5"),
        (".5", "0.5"),
        ("5km", "5 km"),
        ("5 PM", "5 pm"),
        ("20℃", "20 °C"),
        ("👍!", "👍"),
        ("❤️", "❤"),
    ],
)
def test_spelling_does_not_matter(a: str, b: str) -> None:
    assert canonical(a) == canonical(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # Signs that stand alone.
        ("👍", "👎"),
        ("🇯🇵", "🇨🇳"),
        ("👍🏽", "👍"),
        ("♀", "♂"),
        ("✓", "✗"),
        ("→", "←"),
        ("+", "-"),
        ("?", "!"),
        (",", ";"),
        (":)", ":("),
        ('""', "''"),
        ("", "."),
        # Operators and comparisons.
        ("a<b", "a b"),
        ("a<b", "a>b"),
        ("a≤b", "a<b"),
        ("a≠b", "a=b"),
        ("x != y", "x = y"),
        ("!x", "x"),
        ("a&&b", "a&b"),
        ("a/b", "a b"),
        ("2*3*4", "2 3 4"),
        ("x-1", "x 1"),
        ("(a+b)*c", "a+b*c"),
        ("f'(x)", "f(x)"),
        ("n!", "n"),
        ("5!", "5"),
        # Numbers: signs, powers, fractions, separators.
        ("-5", "5"),
        ("- infinity", "infinity"),
        ("+5", "5"),
        ("3^2", "32"),
        ("3^2", "3 2"),
        ("3²", "32"),
        ("10₂", "102"),
        ("½", "12"),
        ("½", "¼"),
        ("3½", "31/2"),
        ("3.5", "35"),
        ("3,5", "35"),
        ("3:2", "3 2"),
        ("1e-5", "1e5"),
        # A minus is not a hyphen.
        ("revenue - cost", "revenue cost"),
        ("sin - cos", "sin cos"),
        ("sin – cos", "sin cos"),
        ("alpha -beta", "alpha beta"),
        ("alpha- beta", "alpha beta"),
        ("income\n- tax", "income tax"),
        ("beta-1", "beta 1"),
        ("gain \u2212 loss", "gain loss"),
        ("price-10", "price 10"),
        # Units and currencies.
        ("10%", "10"),
        ("10‰", "10%"),
        ("10°", "10"),
        ("$5", "5€"),
        ("$5", "5"),
        ("£5", "¥5"),
        ('5"', "5'"),
        ("10 mW", "10 MW"),
        ("100 Mb", "100 MB"),
        ("5m", "5M"),
        ("5 Å", "5 A"),
        # Names that a sign tells apart.
        ("C++", "C#"),
        ("C", "C#"),
        ("google.com", "google com"),
        ("a.b", "ab"),
        ("snake_case", "snake case"),
        ("__init__", "init"),
        ("A, C", "C"),
        ("vitamin A", "vitamin"),
        # Marks that make another letter in other scripts.
        ("कि", "की"),
        ("が", "か"),
        ("край", "краи"),
        ("أب", "اب"),
        ("ป่า", "ป้า"),
        ("x̄", "x"),
    ],
)
def test_what_carries_meaning_stays(a: str, b: str) -> None:
    assert canonical(a) != canonical(b)


def test_a_bullet_is_looked_for_once_a_line() -> None:
    """A pattern that began at each of many line ends and read on to the last would take quadratic time."""
    for before in ("\n\n\n", "x\n \n\t", "\r\n\n"):
        text = f"{before}  • Japan"
        found = canonical_text._BULLET.search(text)
        assert found is not None
        assert found.span() == (len(before) - (before[-1] == "\t"), len(text) - len("Japan"))
        assert canonical(text) == canonical(f"{before}Japan")


@given(st.text(max_size=60))
def test_what_is_written_counts_where_nothing_would_be_left(text: str) -> None:
    assert bool(canonical(text)) == bool(text.strip())
    assert canonical(f" {text}\n") == canonical(text)


@pytest.mark.parametrize(
    "text", ["*a", "'", '"', ".", "a.", "1,111", "« ", "- ", " ", "!", "_a", "a" + "\u0301", "[", "**", "a. "]
)
def test_no_text_takes_long(text: str) -> None:
    """A pattern that tries every pair of places would not end within the suite's time."""
    assert canonical(text * 100_000 + "x")
