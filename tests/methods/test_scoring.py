"""Scoring: every source by one protocol, in one pass; controls that move, and refusals that name the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import confide
from confide.engines.options import choose
from confide.errors import ConfideError
from confide.methods.catalogue import FLOORS, POSITIONED, READ, SOURCES, STATED, TEXT, available
from confide.methods.exchanged_answers import sampled_answers, swapped
from confide.methods.free import FREE, OPTION
from confide.methods.scoring import Options, score
from confide.methods.stack.states import measured_options
from confide.metrics import auroc
from confide.records import Record, read_records, write_records
from scored_model import ANSWERS, engine, records, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained tiny model and its records."""
    rows = records(240, samples=3, options=True)
    folder = trained(tmp_path_factory.mktemp("scored") / "model", rows, comparisons=True, positions=True)
    return confide.load(folder, dtype="float32"), rows


@pytest.fixture(scope="module")
def everything(world: Any) -> Any:
    """All sources with every extra, and what there was to score."""
    model, rows = world
    verifier = engine()
    wanted = available(rows, model, verifier=True)
    options = Options(verifier=verifier, samples=True, controls=True, calibrated=True)
    return wanted, score(rows, wanted, model=model, options=options), rows


def column(rows: list[Record], name: str, split: str = "test") -> np.ndarray[Any, Any]:
    return np.array([np.nan if (c := r.confidence[name]) is None else c for r in rows if r.split == split])


def right(rows: list[Record], split: str = "test") -> np.ndarray[Any, Any]:
    return np.array([bool(r.correct) for r in rows if r.split == split])


def test_all_sources_can_be_had_and_cost_something(everything: Any) -> None:
    wanted, scored, rows = everything
    assert set(wanted) == set(SOURCES) - {"self_ref", *STATED}  # those take models trained to state a confidence
    assert rows[0].confidence == {}  # scoring works on copies
    for record in scored:
        for name in wanted:
            value = record.confidence[name]
            if record.split == "train" and name not in (*FREE, OPTION):
                assert value is None
            elif name != "verbalized":  # a random model says nothing that can be read
                assert value is not None
                assert 0 <= value <= 1, name
    held = next(r for r in scored if r.split == "test")
    assert held.cost["reader"].tokens == 2
    assert held.cost["reader_random"].tokens == 5
    assert held.cost["p_true_trained"].tokens > 5
    assert held.cost["self_consistency"].tokens == sum(1 + len(s.answer.split()) for s in held.samples or [])
    for name in ("stack", "reader", "p_true", "verbalized", "verifier"):
        assert held.cost[name].seconds > 0
        assert held.cost[name].tokens > 0
    assert held.cost["logprob_sum"].tokens == 0


def test_learned_sources_rank_and_controls_move(everything: Any) -> None:
    _, scored, rows = everything
    y = right(rows)
    for name in ("stack", "probe", "reader", "reader_random", "probe@answer_last", "answer_only"):
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
            assert {"stack", "probe", "reader", "logprob_sum", "answer_only", OPTION} <= set(sample.confidence)
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
    for name in ("stack", "p_true_trained", "p_true", "verifier", "semantic_entropy"):
        options = Options(verifier=engine() if name == "verifier" else None)
        alone = score(rows, [name], model=model, options=options)
        np.testing.assert_allclose(column(alone, name), column(scored, name), atol=1e-4)
    assert not any("lora" in name for name, _ in model.engine.model.named_parameters())


def test_another_models_records_are_refused_or_named(world: Any) -> None:
    model, rows = world
    foreign = [r.model_copy(update={"model": "big", "answer_ids": [399, 398, 5]}) for r in rows]
    with pytest.raises(ConfideError, match="240 of 240 records were answered by big, not by tiny"):
        score(foreign, ["stack"], model=model)
    read = score(foreign, ["stack", "logprob_sum", "answer_only"], model=model, options=Options(other_model=True))
    assert {"other_stack", "other_logprob_sum", "logprob_sum", "answer_only"} == set(read[0].confidence)
    # Ids that mean something else here are encoded anew from the text: the same answers read the same.
    own = [r.model_copy(update={"logprobs": [], "entropies": [], "end_logprob": None}) for r in rows]
    plain = score(own, ["reader"], model=model)
    other = score(foreign, ["reader"], model=model, options=Options(other_model=True))
    np.testing.assert_allclose(column(plain, "reader"), column(other, "other_reader"), atol=1e-4)


def test_a_model_trained_on_shuffled_labels_names_its_sources_so(world: Any, tmp_path: Path) -> None:
    _, rows = world
    control = confide.load(trained(tmp_path / "control", rows, shuffle_labels=True), dtype="float32")
    scored = score(rows, ["stack", "reader", "logprob_sum"], model=control)
    assert {"stack_shuffled_labels_0", "reader_shuffled_labels_0", "logprob_sum"} == set(scored[0].confidence)
    answer = control.answer("Which country is the city in?", max_new_tokens=4)
    assert answer.source == "stack_shuffled_labels_0"


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
    for how in (Options(samples=True), Options(controls=True), Options(other_model=True)):
        with pytest.raises(ConfideError, match="--other-model read answers with a model: name it with --model"):
            score(rows, ["logprob_sum"], options=how)
    few = [r for r in rows if r.split != "validation"] + [r for r in rows if r.split == "validation"][:9]
    with pytest.raises(ConfideError, match="--calibrated needs 20 graded validation rows, there are 9"):
        score(few, ["logprob_sum"], options=Options(calibrated=True))


def test_questions_are_exchanged_within_a_domain_for_another_reference() -> None:
    rows = records(40)
    for record, other in zip(rows, swapped(rows, seed=1), strict=True):
        assert other is not None
        source = next(r for r in rows if r.messages == other.messages and r.domain == record.domain)
        assert source.reference != record.reference
        assert other.answer == record.answer
        assert other.logprobs == []
    assert [o.messages for o in swapped(rows, 1) if o] == [o.messages for o in swapped(rows, 1) if o]
    alike = [r.model_copy(update={"reference": ["x"]}) for r in rows[:5]]
    assert swapped(alike) == [None] * 5


def test_a_chosen_answer_keeps_its_options_and_they_are_scored_under_the_other_question() -> None:
    rows = records(40, options=True)
    written = [r.model_copy(update={"option_logprobs": None}) for r in rows]
    assert all(o is not None and o.option_logprobs is None for o in swapped(written))
    exchanged = [o for o in swapped(rows) if o is not None]
    assert all(o.option_logprobs == [] and o.choices == list(ANSWERS) for o in exchanged)
    tiny = engine()
    found = measured_options(tiny, [*exchanged[:5], written[0]])
    assert found[-1] is written[0]
    for record, other in zip(found[:5], exchanged, strict=False):
        choice = choose(tiny, [tiny.encode(other.messages)], [ANSWERS])[0]
        assert record.option_logprobs == pytest.approx(choice.option_logprobs, abs=1e-4)


def test_equal_samples_are_read_once_and_own_answers_never() -> None:
    row = records(1, samples=8)[0]  # each of four answers twice
    found = sampled_answers([row])
    assert len(found.records) == 3
    assert len(found.places) == 8
    assert sum(place is None for place in found.places.values()) == 2
    assert {r.answer for r in found.records} | {row.answer} == {"France", "Germany", "Japan", "Chile"}


def test_scored_records_survive_their_file(everything: Any, tmp_path: Path) -> None:
    _, scored, _ = everything
    write_records(tmp_path / "s.jsonl", scored)
    assert read_records(tmp_path / "s.jsonl") == scored


def test_a_read_source_is_none_without_its_part_of_the_checkpoint(tmp_path: Path) -> None:
    rows = records(120)
    plain = confide.load(trained(tmp_path / "plain", rows), dtype="float32")
    assert set(available(rows, plain)) & set(READ) == {"stack", "probe", "probe_logprobs", "reader"}
    with pytest.raises(ConfideError, match="p_true_trained cannot be had"):
        score(rows, ["p_true_trained"], model=plain)
