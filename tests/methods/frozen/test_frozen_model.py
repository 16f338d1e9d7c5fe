"""A trained model at work: each answer is read once, in the traffic of the latest ones, as a file's rows are."""

from __future__ import annotations

from pathlib import Path

import pytest

import confide
from confide.engines.closed_records import measure_records
from confide.methods.confidence_model import Answer
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.scoring import score
from confide.records import Record
from graded_rows import counted_reads
from scored_model import engine, records

SOURCES = ("stack", "stack_served", "portable")
QUESTIONS = [f"Which country is the city in? {colour} {n}" for n in range(4) for colour in ("red", "green", "violet")]


@pytest.fixture(scope="module")
def folder(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, rows = tmp_path_factory.mktemp("frozen") / "stack", records(240)
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    train_confidence(engine(), *parts, FrozenOptions(), out)
    return out


@pytest.fixture
def model(folder: Path) -> FrozenModel:
    loaded = confide.load(folder, dtype="float32")
    assert isinstance(loaded, FrozenModel)
    return loaded


def as_record(model: FrozenModel, question: str, answer: Answer) -> Record:
    return Record(
        id=question, messages=model.as_asked(question), answer=answer.text, answer_ids=answer.ids, finish=answer.finish
    )


def test_an_answer_has_what_score_gives_the_last_row_of_its_traffic(model: FrozenModel) -> None:
    given = ("France", "Japan", "red", "green")  # two of them training never gave
    answers = [model.confidence(question, given[i % 4]) for i, question in enumerate(QUESTIONS)]
    told = [as_record(model, question, answer) for question, answer in zip(QUESTIONS, answers, strict=True)]
    rows = measure_records(model.engine, told)
    for n in (1, 4, len(rows)):
        scored = score(rows[:n], SOURCES, model=model)[-1]
        assert answers[n - 1].familiarity == pytest.approx(scored.familiarity, abs=1e-5)
        for source in SOURCES:
            assert answers[n - 1].sources[source] == pytest.approx(scored.confidence[source], abs=1e-4)
    assert model.unseen["answers"].n == len(rows)  # what was scored came from a file
    assert model.unseen["answers"].share == 0.5
    shifted, first = score(rows, ["stack"], model=model)[0], score(rows[:1], ["stack"], model=model)[0]
    assert 0 < (shifted.familiarity or 0) < (first.familiarity or 0) - 0.1


def test_each_answer_is_read_once_and_counts_once(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted_reads(monkeypatch)
    answers = model.answers(QUESTIONS[:3], max_new_tokens=3)
    assert set(SOURCES) <= answers[0].sources.keys()
    assert found == [3]
    assert model.unseen["answers"].n == 3
    model.confidence(QUESTIONS[3], "France")
    assert found == [3, 1]
    assert model.unseen["answers"].n == 4
    with model.uncounted():
        again = model.answers(QUESTIONS[:2], max_new_tokens=3)
    assert [a.text for a in again] == [a.text for a in answers[:2]]
    assert model.unseen["answers"].n == 4
