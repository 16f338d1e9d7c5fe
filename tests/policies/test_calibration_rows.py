from __future__ import annotations

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies.calibration_rows import (
    data_sha256,
    fingerprint,
    in_split,
    labelled_rows,
    models_of,
    one_per_cluster,
    pick_source,
    rows_for,
    seen_again,
    sketch,
    used_before,
)
from confide.records import Record


def records_of(right: int, wrong: int, start: int = 0) -> list[Record]:
    plan = [True] * right + [False] * wrong
    return [Record(id=f"r{start + i}", confidence={"given": 0.9}, correct=y) for i, y in enumerate(plan)]


def test_splits():
    plain = [Record(id="a"), Record(id="b")]
    assert list(in_split(plain, "test")) == plain
    mixed = [Record(id="a", split="test"), Record(id="b", split="train"), Record(id="c")]
    assert [r.id for r in in_split(mixed, "test")] == ["a"]
    with pytest.raises(ConfideError, match=r"no row belongs to the calibration split; .*test \(1\)"):
        in_split(mixed, "calibration")


def test_source():
    given = [Record(id="a", confidence={"given": 0.5})]
    both = [Record(id="a", confidence={"given": 0.5, "reader": 0.1})]
    assert pick_source(given, "stack") == "given"
    assert pick_source(both, "reader") == "reader"
    with pytest.raises(ConfideError, match="from stack; there are: given, reader"):
        pick_source(both, "stack")
    with pytest.raises(ConfideError, match="from reader; there are: given"):
        pick_source(given, "reader")
    with pytest.raises(ConfideError, match="no row has a confidence"):
        pick_source([Record(id="a")], "stack")


def test_left_out_rows_are_counted():
    records = [
        *records_of(2, 1),
        Record(id="n", confidence={"given": None}, correct=True),
        Record(id="o", confidence={"given": float("nan")}, correct=True),
        Record(id="p", confidence={"given": 0.4}),
        Record(id="q", correct=False),
    ]
    chosen = labelled_rows(records, "given")
    assert chosen.confidence.tolist() == [0.9] * 3
    assert chosen.correct.tolist() == [True, True, False]
    assert (chosen.without_confidence, chosen.without_label) == (3, 1)
    assert chosen.clusters == ["r0", "r1", "r2"]


def test_data_hash_ignores_order_and_sees_labels():
    one = labelled_rows(records_of(5, 5), "given")
    assert data_sha256(one) == data_sha256(labelled_rows(records_of(5, 5)[::-1], "given"))
    assert data_sha256(one) != data_sha256(labelled_rows(records_of(6, 4), "given"))


def test_fingerprints_do_not_confuse_files_that_number_their_records_of():
    asked = {"messages": [{"role": "user", "content": "Where is Rome?"}]}
    first = Record(id="1", confidence={"given": 0.5}, correct=True)
    assert fingerprint(first, "given") != fingerprint(Record(id="1", confidence={"given": 0.6}, correct=True), "given")
    scored_again = Record(id="1", confidence={"given": 0.7}, **asked)
    assert fingerprint(Record(id="1", confidence={"given": 0.5}, **asked), "given") == fingerprint(
        scored_again, "given"
    )


def test_sketch_stays_small_and_still_sees_overlap():
    many = records_of(3000, 0)
    stored = sketch(many, "given")
    assert len(stored) == 512 * 10
    again, complete = seen_again(stored, many[:300], "given")
    assert any(again)
    assert not complete
    assert seen_again(stored, records_of(300, 0, start=10_000), "given")[0] == [False] * 300
    assert seen_again("", many, "given") == ([False] * 3000, True)


def test_models():
    assert models_of([Record(id="a", model="b"), Record(id="c", model="a"), Record(id="d")]) == "a, b"


def test_one_row_per_cluster_is_seeded_and_uniform():
    clusters = ["a", "b", "b", "c", "c", "c"] * 50
    first = one_per_cluster(clusters, seed=3)
    assert first.tolist() == one_per_cluster(clusters, seed=3).tolist()
    assert sorted(np.array(clusters)[first]) == ["a", "b", "c"]
    drawn = [one_per_cluster(["a", "a", "b"], seed)[0] for seed in range(400)]
    assert 140 < sum(drawn) < 260


def test_calibration_rows_that_served_before_are_counted() -> None:
    said = [{"role": "user", "content": "Where is Lyon?"}]
    rows = [
        Record(id="a", split="train", entity="Lyon", messages=said),
        Record(id="b", split="validation"),
        Record(id="c", split="calibration", entity="Lyon"),
        Record(id="d", split="calibration", entity="Nice", messages=said),
        Record(id="e", split="calibration"),
        Record(id="f", split="calibration", entity="Nice"),
        Record(id="g", split="test", entity="Lyon"),
    ]
    assert used_before(rows) == 2


def test_a_cut_answer_has_no_confidence_in_calibration_as_in_the_router():
    rows = [
        Record(id=f"{n}", confidence={"stack": 0.9}, correct=True, finish="length" if n < 3 else "stop")
        for n in range(10)
    ]
    made = rows_for("max_risk", rows, "stack")
    assert (len(made.records), made.without_confidence) == (7, 3)
    assert np.isneginf(rows_for("budget", rows, "stack").confidence).sum() == 3
    # What is read along an answer needs no end of it.
    along = [row.model_copy(update={"confidence": {"red_flag": 0.9}}) for row in rows]
    assert rows_for("max_risk", along, "red_flag").without_confidence == 0
    # What recognises a row and what it looks like does not depend on it.
    assert fingerprint(rows[0], "stack") == fingerprint(rows[0].model_copy(update={"finish": "stop"}), "stack")
