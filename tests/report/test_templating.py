import pytest

from confide.report.templating import amount, clean, exact, interval, number, percent, seconds, short


def test_numbers():
    assert number(-0.0123) == "−0.012"
    assert number(-0.0001) == "0.000"
    assert number(None) == "–"
    assert percent(0.125, 1) == "12.5%"
    assert percent(None) == "–"
    assert interval({"low": -0.1, "high": 0.2}) == "[−0.100, 0.200]"
    assert interval(None) == interval({"low": None, "high": None}) == ""


@pytest.mark.parametrize(
    ("value", "expected"), [(0.25, "0.25"), (940, "940"), (1181, "1,181"), (12_345, "12.3k"), (-0.5, "−0.5"), (0, "0")]
)
def test_short(value, expected):
    assert short(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (0.0001, "under 1 ms"), (0.004, "4 ms"), (0.43, "430 ms"), (12.34, "12.3 s")]
)
def test_seconds(value, expected):
    assert seconds(value) == expected


def test_a_threshold_keeps_its_digits():
    assert exact(0.689725) == "0.689725"
    assert exact(1.0) == "1"
    assert exact(-3.5) == "−3.5"


def test_text_from_outside_is_made_harmless():
    assert len(clean("x" * 5000)) == 400
    assert clean(["a", "b"]) == "a, b"
    assert clean("lone \ud800 surrogate") == "lone ? surrogate"
    assert clean("a\x00b\u202ec\u2028d\u2066") == "a�b�c�d�"


def test_one_is_one():
    assert [amount(x, "token") for x in (0, 1.0, 1.5, 12_000)] == ["0 tokens", "1 token", "1.5 tokens", "12k tokens"]
    assert amount(2, "entity", "entities") == "2 entities"
