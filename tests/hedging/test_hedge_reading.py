from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.hedging import find_hedges, load_language, read_hedge
from confide.hedging.hedge_reading import count_negations

EN = load_language("en")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is highly likely that the answer is Japan.", 0.90),
        ("HIGHLY LIKELY", 0.90),
        ("highly\n  likely", 0.90),
        ("Likely Japan", 0.70),
        ("It is unlikely.", 0.20),
        ("That is improbable", 0.10),
        ("almost certain", 0.95),
        ("I am certain.", 0.975),
        ("I'm not certain.", 0.325),
        ("I’m not sure at all", 0.075),
        ("It's fifty-fifty", 0.5),
        ("The chances are better than even that it rains", 0.60),
        ("It is not likely.", 0.20),
        ("It isn't very likely.", 0.20),
        ("It isn’t likely.", 0.20),
        ("I do not think that it is likely.", 0.20),
        ("It's not at all probable", 0.20),
        ("It is never certain", 0.20),
        ("That is not unlikely", 0.50),
        ("It cannot be certain", 0.20),
        ("Not Lyon, more likely Paris", 0.70),
        ("I think not. It is likely Paris.", 0.70),
        ("A certain city in France", None),
        ("Make sure to ask as soon as possible", None),
        ("unlikelyness, uncertainly, likelyhood", None),
        ("Paris", None),
        ("", None),
    ],
)
def test_words_are_read(text, value):
    assert read_hedge(text) == value


def test_the_first_of_several_counts_and_all_are_found():
    found = find_hedges("Probably Paris, though it is not impossible that it was Lyon.")
    assert [(hedge.phrase, hedge.value) for hedge in found] == [("probably", 0.7), ("impossible", 0.5)]
    assert [hedge.start for hedge in found] == [0, 29]


def test_a_span_covers_the_phrase_and_its_negation():
    text = "So it isn't very likely, I’d say."
    (hedge,) = find_hedges(text)
    assert text[hedge.start : hedge.end] == "isn't very likely"


@pytest.mark.parametrize("phrase", sorted(EN.phrases))
def test_every_phrase_reads_as_itself(phrase):
    assert read_hedge(f"{phrase[0].upper()}{phrase[1:]}.") == EN.phrases[phrase].value


@pytest.mark.parametrize("style", sorted(EN.styles))
def test_every_sentence_of_a_style_reads_as_its_phrase(style):
    for hedge in EN.style(style).hedges:
        form = EN.forms[hedge.form]
        sentences = [
            form.answer.format(hedge=hedge.written, answer="Japan"),
            form.remark.format(hedge=hedge.written),
            *(suffix.format(hedge=hedge.written, answer="Japan") for suffix in EN.suffixes),
        ]
        for sentence in sentences:
            found = find_hedges(sentence, style=style)
            assert [(f.phrase, f.value) for f in found] == [(hedge.phrase, hedge.value)], sentence
            assert count_negations(sentence[: found[0].start] + sentence[found[0].end :], EN) == 0


def test_a_style_with_its_own_scale_is_read_by_it():
    assert read_hedge("It is unlikely.", style="formal") == 0.325
    assert read_hedge("It is unlikely.", style="plain") == 0.20
    assert read_hedge("I'm fairly sure.", style="formal") == 0.725


@given(st.text(max_size=80), st.sampled_from([None, *EN.styles]))
def test_any_text_gives_a_likelihood_or_none(text, style):
    value = read_hedge(text, style=style)
    assert value is None or 0 <= value <= 1


def test_count_negations_are_counted():
    assert count_negations("It isn't Paris, nor is it not Lyon; nobody knows. No!", EN) == 4
    assert count_negations("Norway, Nottingham, knot", EN) == 0
