"""Sentences of a paragraph: what each claims, whether it is right, and which tokens are its own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import long_form_tables
from benchmarks.quality.long_form import SIMPLE, beside, claims_of_their_own, judged, place, split_paragraphs
from benchmarks.quality.paragraphs import grade_sentence, paragraphs_task, prompt, sentence_records
from benchmarks.quality.proper_scores import Readings
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Record
from tiny_model import tiny_model

TEXT = "Nagoya is a city in Japan. It is on the continent of Europe. The capital of the country is Tokyo."


def paragraph(engine: TransformersEngine, text: str = TEXT) -> Record:
    ids = engine.encode_answer(text)
    logprobs = [-0.1 * (at + 1) for at in range(len(ids))]
    return Record(id="p", entity="city:Nagoya", answer=text, answer_ids=ids, logprobs=logprobs, entropies=logprobs)


@pytest.mark.parametrize(
    ("sentence", "relation", "correct"),
    [
        ("Nagoya is a city in Japan.", "city_country", True),
        ("Nagoya is a city in China.", "city_country", False),
        ("It lies in the country of Japan.", "city_country", True),
        ("Nagoya is on the continent of Asia.", "city_continent", True),
        ("The capital of the country is Kyoto.", "country_capital", False),
        ("The capital of the country is Tokyo.", "country_capital", True),
        ("Its currency is the Japanese yen.", "country_currency", True),
        ("Its currency is the local money.", "country_currency", False),
        ("Nagoya is a city in Asia.", "city_country", None),
        ("Many people live there.", None, None),
    ],
)
def test_a_sentence_is_graded_by_what_it_claims(sentence: str, relation: str | None, correct: bool | None) -> None:
    found, grade = grade_sentence("Nagoya", sentence)
    assert (found, grade.correct) == (relation, correct)


def test_a_paragraph_is_right_where_all_its_sentences_are_and_says_which_country_it_names() -> None:
    task = paragraphs_task(40)
    question = next(q for q in task.questions if q.answer == ["Japan"] or q.answer == ["China"])
    named = {"Japan": "China", "China": "Japan"}[question.answer[0]]
    right = task.grade(question, f"{question.asked} is a city in {question.answer[0]}. It is on the continent of Asia.")
    assert (right.correct, right.answered) == (True, question.answer[0])
    wrong = task.grade(question, f"{question.asked} is a city in {named}. It is on the continent of Asia.")
    assert (wrong.correct, wrong.answered) == (False, named)
    assert task.grade(question, "A lovely place.").correct is None


def test_nothing_is_asked_about_the_worked_examples_and_their_order_turns() -> None:
    task = paragraphs_task(60)
    shown = {turn["content"] for question in task.questions for turn in prompt(question)[1:-1]}
    assert not shown & {question.question for question in task.questions}
    assert len({prompt(question)[-3]["content"] for question in task.questions}) == 3


def test_sentences_are_the_paragraph_s_own_tokens_in_order() -> None:
    engine = TransformersEngine(*tiny_model(), "tiny")
    whole = paragraph(engine)
    rows = sentence_records(engine, whole)
    assert [row.answer for row in rows] == [f"{part}." for part in TEXT[:-1].split(". ")]
    assert [row.correct for row in rows] == [True, False, True]
    for row in rows:
        start, end = len(row.reasoning_ids), len(row.reasoning_ids) + len(row.answer_ids)
        assert engine.decode(row.answer_ids).strip() == row.answer
        assert row.reasoning_ids + row.answer_ids == whole.answer_ids[:end]
        assert (row.logprobs, row.entropies) == (whole.logprobs[start:end], whole.entropies[start:end])
    assert [place(row) for row in rows] == [0, 1, 2]


def test_letters_of_several_tokens_move_no_boundary() -> None:
    engine = TransformersEngine(*tiny_model(), "tiny")
    rows = sentence_records(engine, paragraph(engine, "Bedelē is a city in Curaçao. The capital is Yaoundé."))
    assert [engine.decode(row.answer_ids).strip() for row in rows] == [row.answer for row in rows]


def test_a_sentence_that_claims_nothing_is_left_out_and_keeps_its_place() -> None:
    engine = TransformersEngine(*tiny_model(), "tiny")
    rows = sentence_records(engine, paragraph(engine, "It is old. Nagoya is a city in Japan."))
    assert [(place(row), row.answer) for row in rows] == [(1, "Nagoya is a city in Japan.")]


def test_what_only_a_paragraph_has() -> None:
    engine = TransformersEngine(*tiny_model(), "tiny")
    whole = paragraph(engine)
    rows = sentence_records(engine, whole)
    parts = {"train": np.array([0, 1]), "test": np.array([2])}
    found = beside([whole], rows, parts)
    assert found["place"].tolist() == [1.0, 0.0, 0.5]
    assert found["whole"] == pytest.approx([sum(whole.logprobs)] * 3)
    assert found["so_far"][-1] == pytest.approx(sum(whole.logprobs))
    assert found["so_far"][0] == pytest.approx(sum(rows[0].logprobs))


def test_a_source_that_knows_the_paragraph_alone_cannot_tell_its_sentences_apart() -> None:
    rng = np.random.default_rng(0)
    records = [
        Record(id=f"p{at // 3}-{at % 3}", entity=f"e{at // 3}", domain="abc"[at % 3], correct=bool(rng.random() < 0.6))
        for at in range(300)
    ]
    right = np.array([bool(r.correct) for r in records], dtype=float)
    whole = np.repeat(right.reshape(-1, 3).mean(1), 3)
    values = dict.fromkeys((*SIMPLE, "portable"), whole)
    found = judged(Readings(records, values | {"stack": right}), 0)
    assert found["sources"]["whole"]["within_paragraph"]["value"] == 0.5
    assert found["sources"]["whole"]["auroc"]["value"] > 0.7
    assert found["sources"]["stack"]["within_paragraph"]["value"] == 1.0
    gap = long_form_tables.difference(found, "within_paragraph", "stack", "portable")
    assert gap["value"] == gap["low"] == gap["high"] == 0.5
    assert long_form_tables.difference(found, "auroc", "portable", None)["value"] == 0


def test_what_follows_a_wrong_country_is_no_claim_of_its_own() -> None:
    told = [("a", "city_country", True), ("a", "country_capital", False), ("b", "city_country", False)]
    told += [("b", "country_capital", True), ("c", "country_capital", True)]
    records = [Record(id=str(at), entity=e, domain=d, correct=c) for at, (e, d, c) in enumerate(told)]
    assert claims_of_their_own(records).tolist() == [0, 1, 0, -1, -1]


def test_other_parts_name_no_new_country_nor_its_capital() -> None:
    countries = {"Japan": "Tokyo", "Peru": "Lima", "Kenya": "Nairobi", "Norway": "Oslo", "Poland": "Warsaw"}
    paragraphs = [
        Record(id=f"p{at}", entity=f"city:{at}", domain="paragraph", answered=country, answer=text)
        for at, (country, text) in enumerate(
            (country, f"It is a city in {country}. The capital is {capital}.")
            for _ in range(40)
            for country in countries
            for capital in (countries[country], "Tokyo")
        )
    ]
    sizes = {"train": 60, "validation": 10, "test": 60}
    for seed in range(3):
        used = split_paragraphs(paragraphs, "answered-country", seed, sizes)
        new = {paragraph.answered for paragraph, part in used if part == "test"}
        others = [paragraph.answer for paragraph, part in used if part != "test"]
        assert others
        assert not any(
            name in text for text in others for country in new for name in (country, countries[str(country)])
        )
