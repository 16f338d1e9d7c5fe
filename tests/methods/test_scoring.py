"""Scoring: every source by one protocol, in one pass; controls that move, and refusals that name the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import confide
from confide.errors import ConfideError
from confide.methods import catalogue
from confide.methods.catalogue import all_sources
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.floors import Floors
from confide.methods.free import FREE, OPTION
from confide.methods.frozen.frozen_model import FrozenModel, StackMethod
from confide.methods.method import Column, Method, Scope
from confide.methods.rlmf.stated_model import StatedMethod
from confide.methods.scoring import score
from confide.methods.text_prior import TextPriors
from confide.metrics import auroc
from confide.records import Record, read_records, write_records
from confide.signals import PART_SIGNALS, along_signals
from confide.sources import as_probability, log_space
from scored_model import QUICK, engine, records, trained

SOURCES, STATED, FLOORS, TEXT = set(all_sources()), StatedMethod.sources, Floors.sources, TextPriors.sources
POSITIONED = [source for source in StackMethod.sources if "@" in source]
READ = (*StackMethod.sources, "reader")


def available(rows: list[Record], model: Any, *, verifier: Any = None) -> list[str]:
    return catalogue.available(Scope(rows, model, verifier))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained tiny model and its records."""
    rows = records(240, samples=3, options=True)
    folder = trained(tmp_path_factory.mktemp("scored") / "model", rows, QUICK, positions=True)
    return confide.load(folder, dtype="float32"), rows


@pytest.fixture(scope="module")
def everything(world: Any) -> Any:
    """All sources with every extra, and what there was to score."""
    model, rows = world
    verifier = engine()
    wanted = available(rows, model, verifier=verifier)
    scored = score(rows, wanted, model=model, verifier=verifier, samples=True, controls=True, calibrated=True)
    return wanted, scored, rows


def column(rows: list[Record], name: str, split: str = "test") -> np.ndarray[Any, Any]:
    return np.array([np.nan if (c := r.confidence[name]) is None else c for r in rows if r.split == split])


def right(rows: list[Record], split: str = "test") -> np.ndarray[Any, Any]:
    return np.array([bool(r.correct) for r in rows if r.split == split])


def test_all_sources_can_be_had_and_cost_something(everything: Any) -> None:
    wanted, scored, rows = everything
    assert set(wanted) == SOURCES - {
        "self_ref",
        "red_flag_token",
        *STATED,
        *along_signals(),
        *PART_SIGNALS,
    }  # those take models trained for them
    assert rows[0].confidence == {}  # scoring works on copies
    for record in scored:
        for name in wanted:
            value = record.confidence[name]
            if record.split == "train" and name not in (*FREE, OPTION):
                assert value is None
            elif name != "verbalized":  # a random model says nothing that can be read
                assert value is not None
                assert 0 <= as_probability(name, value) <= 1, name
                assert (value <= 0) or not log_space(name)
    held = next(r for r in scored if r.split == "test")
    assert held.cost["stack"].tokens == 1 < held.cost["reader"].tokens
    assert held.cost["self_consistency"].tokens == sum(1 + len(s.answer.split()) for s in held.samples or [])
    for name in ("stack", "reader", "p_true", "verbalized", "verifier"):
        assert held.cost[name].seconds > 0
        assert held.cost[name].tokens > 0
    assert held.cost["logprob_sum"].tokens == held.cost["portable"].tokens == 0


def test_learned_sources_rank_and_controls_move(everything: Any) -> None:
    _, scored, rows = everything
    y = right(rows)
    for name in ("stack", "portable", "probe", "reader", "probe@answer_last", "answer_only"):
        assert auroc(column(scored, name), y) > 0.9, name
    assert auroc(column(scored, "probe@prompt_end"), y) < 0.75  # the answer is not there yet
    assert np.abs(column(scored, "stack") - column(scored, "stack_swapped")).max() > 1e-3
    assert np.isnan(column(scored, "stack_swapped", "validation")).all()  # only rows that are reported on
    assert "logprob_sum_swapped" in scored[0].confidence
    assert "answer_length_swapped" not in scored[0].confidence
    # A source at one position serves `auroc_by_position` alone.
    assert {name for name in scored[0].confidence if "@" in name} == set(POSITIONED)


def test_calibrated_copies_keep_the_ranking_and_fit_validation(everything: Any) -> None:
    _, scored, rows = everything
    for name in ("stack", "logprob_sum", "reader"):
        raw, probability = column(scored, name), column(scored, f"{name}_calibrated")
        order = np.argsort(raw)
        assert (np.diff(probability[order]) >= -1e-9).all()
    held = column(scored, "reader_calibrated", "validation")
    assert held.mean() == pytest.approx(right(rows, "validation").mean(), abs=0.05)
    assert not any(name.startswith(floor) for floor in FLOORS for name in scored[0].confidence if "calib" in name)


def test_sampled_answers_are_read_like_greedy_ones(everything: Any, world: Any) -> None:
    model, rows = world
    _, scored, _ = everything
    test = [r for r in scored if r.split == "test"]
    assert all(s.confidence == {} for r in scored if r.split != "test" for s in r.samples or [])
    for record in test:
        for sample in record.samples or []:
            learned = {"stack", "portable", "probe", "reader"}
            assert {*learned, "logprob_sum", "answer_only", OPTION} <= set(sample.confidence)
            if sample.answer == record.answer:
                assert sample.confidence["stack"] == record.confidence["stack"]
    # What a sample gets is what its answer gets when it is the record's own.
    record = next(r for r in rows if r.split == "test" and any(s.answer != r.answer for s in r.samples or []))
    number = next(i for i, s in enumerate(record.samples or []) if s.answer != record.answer)
    sample = (record.samples or [])[number]
    alone = record.model_copy(
        update={"answer": sample.answer, "answered": sample.answered, "samples": None}
        | {"logprobs": [], "entropies": [], "end_logprob": None}
    )
    again = score([alone], ["reader", "probe", "stack"], model=model)[0]
    found = next(r for r in scored if r.id == record.id)
    for name in ("reader", "probe", "stack"):
        assert (found.samples or [])[number].confidence[name] == pytest.approx(again.confidence[name], abs=1e-4)


def test_one_source_alone_is_the_same_as_in_company(everything: Any, world: Any) -> None:
    model, rows = world
    _, scored, _ = everything
    for name in ("stack", "portable", "reader", "p_true", "verifier", "semantic_entropy"):
        alone = score(rows, [name], model=model, verifier=engine() if name == "verifier" else None)
        np.testing.assert_allclose(column(alone, name), column(scored, name), atol=1e-4)


def test_another_models_records_are_refused_or_named(world: Any) -> None:
    model, rows = world
    foreign = [r.model_copy(update={"model": "big", "answer_ids": [399, 398, 5]}) for r in rows]
    with pytest.raises(ConfideError, match="240 of 240 records were answered by big, not by tiny"):
        score(foreign, ["stack"], model=model)
    read = score(foreign, ["stack", "logprob_sum", "answer_only"], model=model, other_model=True)
    assert {"other_stack", "other_logprob_sum", "logprob_sum", "answer_only"} == set(read[0].confidence)
    with pytest.raises(ConfideError, match="the source portable cannot be had"):  # it knows this model's answers
        score(foreign, ["portable"], model=model, other_model=True)
    # Ids that mean something else here are encoded anew from the text: the same answers read the same.
    own = [r.model_copy(update={"logprobs": [], "entropies": [], "end_logprob": None}) for r in rows]
    plain = score(own, ["reader"], model=model)
    other = score(foreign, ["reader"], model=model, other_model=True)
    np.testing.assert_allclose(column(plain, "reader"), column(other, "other_reader"), atol=1e-4)


def test_what_another_checkpoint_gave_does_not_stay_beside_what_this_one_gives(everything: Any, tmp_path: Path) -> None:
    _, scored, rows = everything
    assert {"stack_swapped", "stack_calibrated", "reader_calibrated"} <= set(scored[0].confidence)
    other = confide.load(trained(tmp_path / "other", rows[:200], QUICK), dtype="float32")
    again = score(scored, ["stack", "p_true"], model=other)
    before, kept = set(scored[0].confidence), set(again[0].confidence)
    assert before - kept == {"stack_swapped", "stack_calibrated", "p_true_calibrated"}
    assert {"reader", "reader_calibrated"} <= kept
    assert {r.scored_by["stack"] for r in again} == {other.scored_by} != {r.scored_by["reader"] for r in again}
    assert not any("stack" in s.confidence for r in again for s in r.samples or [])
    assert any("reader" in s.confidence for r in again for s in r.samples or [])
    # What no training gave is signed by none.
    plain = score(again, ["p_true"], model=FrozenModel(engine(), CheckpointInfo()))
    assert all("p_true" not in r.scored_by for r in plain)


def test_a_model_trained_on_shuffled_labels_names_its_sources_so(world: Any, tmp_path: Path) -> None:
    _, rows = world
    control = confide.load(trained(tmp_path / "control", rows, QUICK, shuffle_labels=True), dtype="float32")
    scored = score(rows, ["stack", "portable", "reader", "logprob_sum"], model=control)
    learned = {f"{name}_shuffled_labels_0" for name in ("stack", "portable", "reader")}
    assert {*learned, "logprob_sum"} == set(scored[0].confidence)
    answer = control.answer("Which country is the city in?", max_new_tokens=4)
    assert answer.source == "stack_shuffled_labels_0"
    assert "portable" not in answer.sources


def test_text_and_free_sources_need_no_model() -> None:
    rows = records(100)
    wanted = available(rows, None)
    assert set(wanted) == {*FREE, *TEXT, *FLOORS}
    scored = score(rows, wanted)
    assert all(np.isfinite(column(scored, name)).all() for name in wanted)
    bare = [Record(id=str(i), answer="a", correct=bool(i % 2)) for i in range(4)]
    assert available(bare, None) == ["answer_length", *FLOORS]


def test_what_cannot_be_had_is_named(world: Any) -> None:
    model, rows = world
    with pytest.raises(ConfideError, match="no source 'magic'"):
        score(rows, ["magic"], model=model)
    for name in ("stack", "verifier", "p_true", "self_ref"):
        with pytest.raises(ConfideError, match=f"the source {name} cannot be had"):
            score(rows, [name])
    with pytest.raises(ConfideError, match="right and 0 wrong"):
        score([r.model_copy(update={"correct": True}) for r in rows], ["p_true"], model=model)
    for how in ({"samples": True}, {"controls": True}, {"other_model": True}):
        with pytest.raises(ConfideError, match="--other-model read answers with a model: name it with --model"):
            score(rows, ["logprob_sum"], **how)
    few = [r for r in rows if r.split != "validation"] + [r for r in rows if r.split == "validation"][:9]
    with pytest.raises(ConfideError, match="--calibrated needs 20 graded validation rows, there are 9"):
        score(few, ["logprob_sum"], calibrated=True)


def test_scored_records_survive_their_file(everything: Any, tmp_path: Path) -> None:
    _, scored, _ = everything
    write_records(tmp_path / "s.jsonl", scored)
    assert read_records(tmp_path / "s.jsonl") == scored


def test_a_read_source_is_none_without_its_part_of_the_checkpoint(tmp_path: Path) -> None:
    rows = records(120)
    plain = confide.load(trained(tmp_path / "plain", rows), dtype="float32")
    assert set(available(rows, plain)) & set(READ) == {"stack", "stack_served", "probe", "probe_logprobs"}
    assert "portable" in available(rows, plain)
    with pytest.raises(ConfideError, match="reader cannot be had"):
        score(rows, ["reader"], model=plain)


class Toy(Method):
    """A source in one class: an answer is as likely as its first letter comes late."""

    name = "toy"
    sources = ("toy",)

    def available(self, scope: Scope) -> Sequence[str]:
        return self.sources if all(record.answer for record in scope.records) else ()

    def read(self, records: Sequence[Record]) -> dict[str, Column]:
        return {"toy": Column(np.array([(ord(record.answer[0]) - ord("A")) / 25 for record in records]))}


def test_a_source_is_added_by_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfideError, match="no source 'toy'"):
        score(records(20), ["toy"])
    monkeypatch.setattr(catalogue, "METHODS", (Toy(), *catalogue.METHODS))  # the one line
    rows = records(20)
    assert available(rows, None)[0] == "toy"
    scored = score(rows, ["toy", "shuffled"])
    assert [r.confidence["toy"] for r in scored if r.split != "train"][:2] == [
        (ord(r.answer[0]) - ord("A")) / 25 for r in rows if r.split != "train"
    ][:2]
    assert all(r.confidence["toy"] is None for r in scored if r.split == "train")
    assert available([rows[0].model_copy(update={"answer": ""})], None)[0] != "toy"


def test_a_source_is_added_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "METHODS", catalogue.METHODS)  # put back afterwards
    catalogue.add_method(Toy())
    assert all(record.confidence["toy"] is not None for record in score(records(4), ["toy"]) if record.split != "train")
    with pytest.raises(ConfideError, match="there is a source 'toy' already"):
        catalogue.add_method(Toy())
