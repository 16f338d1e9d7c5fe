from __future__ import annotations

import copy
from importlib import resources

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from confide.errors import ConfideError
from confide.hedging.language import TOLERANCE, Language, languages, load_language

EN = load_language("en")
RATINGS = [(phrase, rating) for phrase, rating in EN.phrases.items()] + [
    (hedge.phrase, hedge) for style in EN.styles.values() for hedge in style.hedges
]


def raw() -> dict:
    text = (resources.files("confide.hedging") / "languages" / "en.yaml").read_text(encoding="utf-8")
    return {"code": "en", **copy.deepcopy(yaml.safe_load(text))}


@pytest.mark.parametrize(("phrase", "rating"), RATINGS)
def test_every_number_is_what_its_source_says_it_is(phrase, rating):
    source = EN.sources[rating.source]
    assert 0 <= rating.low <= rating.value <= rating.high <= 1
    if rating.like is None and ("middle" in source.number or "give or take" in source.spread):
        assert rating.value == pytest.approx((rating.low + rating.high) / 2)
    if rating.source == "tao2025":
        assert rating.high - rating.low == pytest.approx(0.05)


@given(st.floats(0, 1), st.sampled_from(sorted(EN.styles)))
def test_every_confidence_has_words_in_every_style(confidence, style):
    near = EN.style(style).near(confidence)
    assert near
    assert all(abs(hedge.value - confidence) <= TOLERANCE + 1e-9 for hedge in near)


def test_words_grow_surer_with_the_confidence():
    for style in EN.styles.values():
        nearest = [min(h.value for h in style.near(c / 1000)) for c in range(1001)]
        assert nearest == sorted(nearest)


def test_a_phrase_that_nobody_rated_is_never_written():
    unrated = {phrase for phrase, rating in EN.phrases.items() if rating.like}
    assert unrated
    assert not unrated & {hedge.phrase for style in EN.styles.values() for hedge in style.hedges}


def test_only_a_style_with_a_scale_of_its_own_reads_differently():
    assert EN.scale() == EN.scale("plain") == EN.scale("first_person")
    assert EN.scale("formal")["unlikely"] == 0.325
    assert EN.scale()["unlikely"] == 0.2


def test_what_is_missing_is_named_with_what_there_is():
    assert languages() == ["en"]
    with pytest.raises(ConfideError, match="no language 'fr': there is en"):
        load_language("fr")
    with pytest.raises(ConfideError, match="no style 'loud' in English: there are plain, first_person, formal"):
        EN.style("loud")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (lambda data: data["styles"]["plain"]["phrases"].pop(6), "plain: nothing stands for 0.350"),
        (lambda data: data["phrases"]["likely"].update(source="hearsay"), "likely: no source 'hearsay'"),
        (lambda data: data["phrases"]["likely"].update(value=0.9), "outside of its spread"),
        (lambda data: data["styles"]["plain"]["phrases"][0].update(form="song"), "needs a source and a form"),
        (lambda data: data["styles"]["plain"]["phrases"].append({"phrase": "fifty fifty", "form": "that"}), "needs a"),
        (lambda data: data["forms"]["that"].update(answer="{answer}, {hedge}."), "pattern"),
    ],
)
def test_a_language_file_with_a_hole_is_refused(where, problem):
    data = raw()
    Language.model_validate(copy.deepcopy(data))
    where(data)
    with pytest.raises(ValidationError, match=problem):
        Language.model_validate(data)
