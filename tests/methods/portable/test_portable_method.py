"""The source ``portable`` in scoring: from a file, for rows that training never saw."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.methods import catalogue
from confide.methods.method import Scope
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PortableFile
from confide.methods.scoring import score
from confide.records import Record
from graded_rows import among_options, graded


@pytest.fixture(scope="module")
def file() -> PortableFile:
    records = graded(400)
    return PortableFile.of(Mixture.fit(fit_signals(records), records), records)


def rows(split: str = "test") -> list[Record]:
    return [r.model_copy(update={"split": split}) for r in graded(20, 1)]


def test_a_file_gives_its_source_and_signs_it(file: PortableFile) -> None:
    scored = score([*rows("train"), *rows()], ["portable"], portable=file)
    assert all(record.confidence == {"portable": None} for record in scored[:20])
    assert [record.confidence["portable"] for record in scored[20:]] == file.confidences(rows())
    assert {record.scored_by["portable"] for record in scored} == {file.scored_by}
    assert all((r.cost["portable"].tokens, r.cost["portable"].seconds) == (0, 0) for r in scored[20:])


def test_what_another_file_gave_does_not_stay(file: PortableFile) -> None:
    other = graded(300, 7)
    newer = PortableFile.of(Mixture.fit(fit_signals(other), other), other)
    scored = score(rows(), ["portable", "logprob_sum"], portable=file)
    left = [r.model_copy(update={"confidence": r.confidence | {"portable_calibrated": 0.5}}) for r in scored]
    again = score(left, ["portable"], portable=newer)
    assert newer.scored_by != file.scored_by
    assert {record.scored_by["portable"] for record in again} == {newer.scored_by}
    assert all(set(record.confidence) == {"portable", "logprob_sum"} for record in again)


def test_it_is_there_where_a_file_and_log_probabilities_are(file: PortableFile) -> None:
    bare = [r.model_copy(update={"logprobs": []}) for r in rows()]
    assert "portable" in catalogue.available(Scope(rows(), portable=file))
    assert "portable" in catalogue.available(Scope(among_options(bare), portable=file))
    assert "portable" not in catalogue.available(Scope(rows()))
    assert "portable" not in catalogue.available(Scope(bare, portable=file))
    for without in ({"records": rows()}, {"records": bare, "portable": file}):
        with pytest.raises(ConfideError, match="the source portable cannot be had"):
            score(sources=["portable"], **without)  # type: ignore[arg-type]
    some = score([rows()[0], bare[1]], ["portable"], portable=file)
    assert [record.confidence["portable"] is None for record in some] == [False, True]


def test_answers_of_other_weights_are_refused(file: PortableFile) -> None:
    foreign = [r.model_copy(update={"identity": "weights=cd34", "model": "big"}) for r in rows()]
    why = (
        r"20 of 20 records were answered by big \(weights=cd34\), not by tiny \(weights=ab12\); .* one model's answers"
    )
    with pytest.raises(ConfideError, match=why):
        score(foreign, ["portable"], portable=file)
    unknown = [r.model_copy(update={"identity": "", "model": "another name"}) for r in rows()]
    assert score(unknown, ["portable"], portable=file)[0].confidence["portable"] is not None


def test_no_records_have_none(file: PortableFile) -> None:
    assert score([], ["logprob_sum"][:0], portable=file) == []
    assert "portable" not in catalogue.available(Scope([], portable=file))
