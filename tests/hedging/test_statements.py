"""Statements: what a completion states is read as it stands, and the format's shortfall grows with what is amiss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.hedging.statements import (
    TAGGED_PROMPT,
    Reading,
    Statement,
    read_tagged,
    write_tagged,
)

GOOD = "<sentence>It is Lyon.</sentence><confidence>0.40</confidence>"
PIECES = ["<sentence>", "</sentence>", "<confidence>", "</confidence>", "0.4", "1.7", " ", "Lyon", "\n", "<", "é"]
texts = st.text(max_size=30).map(str.strip).filter(lambda t: t and "<" not in t)
hundredths = st.none() | st.integers(0, 100).map(lambda c: c / 100)
statements = st.lists(st.builds(Statement, texts, hundredths), max_size=4)


def test_the_wanted_format_is_read_exactly() -> None:
    second = "\n <sentence> Or is it Paris? </sentence> <confidence> 1 </confidence>\n"
    assert read_tagged(GOOD + second) == Reading(
        (Statement("It is Lyon.", 0.4), Statement("Or is it Paris?", 1.0)), strict=True, soft=0.0
    )


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("It is Lyon. 0.4", []),
        ("", []),
        (" \n", []),
        ("<sentence>A", [("A", None)]),
        ("<sentence>A</sentence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>0.4", [("A", None)]),
        ("<sentence>A</sentence><confidence>1.2</confidence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>-0.2</confidence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>40%</confidence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>0,4</confidence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>٠.٤</confidence>", [("A", None)]),
        ("<sentence>A</sentence><confidence>nan</confidence>", [("A", None)]),
        ("<sentence>A<confidence>0.4</confidence>", [("A", None)]),
        ("<sentence></sentence><confidence>0.4</confidence>", []),
        ("</sentence><confidence>0.4</confidence>", []),
        ("<Sentence>A</Sentence><confidence>0.4</confidence>", []),
    ],
)
def test_what_cannot_be_read_is_none_and_the_shortfall_whole(text: str, read: list[tuple[str, None]]) -> None:
    assert read_tagged(text) == Reading(tuple(Statement(*pair) for pair in read), strict=False, soft=-1.0)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Sure! " + GOOD, [0.4]),
        (GOOD + " That is all.", [0.4]),
        (GOOD.replace("><c", "> I would say <c"), [0.4]),
        (GOOD + "<confidence>0.9</confidence>", [0.4]),
        (GOOD + "</sentence>", [0.4]),
        (GOOD + "<sentence>And B", [0.4, None]),
        ("<sentence>And " + GOOD, [None, 0.4]),
        (GOOD + "<sentence>B</sentence>" + GOOD, [0.4, None, 0.4]),
        (GOOD + "<sentence>B</sentence><confidence>7</confidence>", [0.4, None]),
        (GOOD.replace("0.40", ".4") + "<sentence> </sentence>", [0.4]),
    ],
)
def test_what_is_amiss_beside_a_statement_costs_in_part(text: str, read: list[float | None]) -> None:
    found = read_tagged(text)
    assert [statement.confidence for statement in found.statements] == read
    assert not found.strict
    assert -1 < found.soft < 0


def test_the_shortfall_is_the_share_of_characters() -> None:
    # 59 characters, whitespace aside, are as wanted; 3 and 6 are stray.
    assert len("".join(GOOD.split())) == 59
    assert read_tagged(f"{GOOD} abc").soft == pytest.approx(-3 / 62)
    assert read_tagged(f"{GOOD} abc def").soft == pytest.approx(-6 / 65)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_read(text: str) -> None:
    found = read_tagged(text)
    assert -1 <= found.soft <= 0
    assert found.strict == (found.soft == 0)
    assert all(s.text and (s.confidence is None or 0 <= s.confidence <= 1) for s in found.statements)
    assert len(found.statements) <= text.count("<sentence>")
    if found.strict:
        again = read_tagged(write_tagged(found.statements))
        assert again.statements == found.statements
    elif found.soft > -1:
        assert read_tagged(text + " more").soft < found.soft  # stray text never helps


@given(statements)
def test_what_is_written_is_read_back(given_statements: list[Statement]) -> None:
    found = read_tagged(write_tagged(given_statements))
    assert found.statements == tuple(given_statements)
    complete = bool(given_statements) and all(s.confidence is not None for s in given_statements)
    assert found.strict == complete


@pytest.mark.parametrize("text", [" ", "a <sentence> b", "</confidence>"])
def test_texts_that_would_not_be_read_back_are_refused(text: str) -> None:
    with pytest.raises(ConfideError, match="no tags of its own"):
        write_tagged([Statement(text, 0.5)])


@pytest.mark.parametrize("confidence", [1.5, -0.1, float("nan")])
def test_confidences_that_would_not_be_read_back_are_refused(confidence: float) -> None:
    with pytest.raises(ConfideError, match="in \\[0, 1\\]"):
        write_tagged([Statement("A", confidence)])


def test_the_prompts_example_is_in_the_format_it_asks_for() -> None:
    _, _, example = TAGGED_PROMPT.partition("Example: ")
    found = read_tagged(example.partition(" Stop")[0])
    assert found.strict
    assert found.statements[0].confidence == 0.97
