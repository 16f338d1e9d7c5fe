"""Sentences of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.parts.sentences import sentence_parts, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It grew by 3.5 percent. Then it fell 0.2.", ["It grew by 3.5 percent.", "Then it fell 0.2."]),
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("J. R. R. Tolkien wrote it. It sold.", ["J. R. R. Tolkien wrote it.", "It sold."]),
        ("The U.S. Senate voted. It passed.", ["The U.S. Senate voted.", "It passed."]),
        ("Fruit, e.g. Apples, is sweet. So is honey.", ["Fruit, e.g. Apples, is sweet.", "So is honey."]),
        ("Apples, pears, etc. All are sweet.", ["Apples, pears, etc.", "All are sweet."]),
        ("It ended in 1990. The wall fell.", ["It ended in 1990.", "The wall fell."]),
        ("1. Paris\n2. Lyon", ["1. Paris", "2. Lyon"]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("Well... maybe. Well... Perhaps.", ["Well... maybe.", "Well...", "Perhaps."]),
        ("What?! No.", ["What?!", "No."]),
        ("I said no. He saw No. 5. Then she left.", ["I said no.", "He saw No. 5.", "Then she left."]),
        ("So am I. You too.", ["So am I.", "You too."]),
        ("パリです。東京です！", ["パリです。", "東京です！"]),
        ("See example.org for more. Bye", ["See example.org for more.", "Bye"]),
        ("no marks", ["no marks"]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB. 1!?\n\"')。e.g", max_size=40) | st.text(max_size=40))
def test_splitting_loses_nothing_and_is_stable(text: str) -> None:
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in found)


@given(st.text(alphabet="aB. 1!?\n\"')。e.g", max_size=40) | st.text(max_size=40))
def test_each_sentence_stands_where_it_says(text: str) -> None:
    parts = sentence_parts(text)
    assert [text[part.start : part.end] for part in parts] == split_sentences(text)
    assert [part.name for part in parts] == [f"sentence {n}" for n in range(1, len(parts) + 1)]
