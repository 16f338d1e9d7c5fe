from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.cli.split import parse_sizes, split
from confide.errors import ConfideError
from confide.records import Message, Record, read_records, write_records
from confide.tasks import load_task
from confide.tasks.splits import WAYS, assign_splits, check_splits

SIZES = {"train": 400, "validation": 100, "calibration": 150, "test": 300}


def records(limit: int = 2500) -> list[Record]:
    """Geography as if a model had answered: often right, else some common answer, sometimes none."""
    task = load_task("geography", limit=limit)
    draw = random.Random(1)
    common = ["China", "India", "France", "Brazil", "Japan", "Europe", "Asia", "Paris", None]
    return [
        Record(
            id=q.id,
            domain=q.domain,
            entity=q.entity,
            messages=[Message(role="user", content=q.question)],
            answered=q.accepted[0] if draw.random() < 0.5 else draw.choice(common),
        )
        for q in task.questions
    ]


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    return records()


def applied(rows: list[Record], assigned: dict[str, str]) -> list[Record]:
    return [row.model_copy(update={"split": assigned[row.id]}) for row in rows if row.id in assigned]


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hygiene(rows: list[Record], by: str, seed: int) -> None:
    sizes = SIZES if by != "relation" else SIZES | {"test": 150}
    assigned = assign_splits(rows, by, sizes, seed, domains=["city_country"] if by == "answered-country" else None)
    done = applied(rows, assigned)
    assert Counter(assigned.values()) == sizes
    assert check_splits(done) == []
    test, rest = [r for r in done if r.split == "test"], [r for r in done if r.split != "test"]
    assert not {r.entity for r in test} & {r.entity for r in rest}
    if by == "answered-country":
        assert {r.domain for r in test} == {"city_country"}
        assert not {r.answered for r in test} & {r.answered for r in rest}
    if by == "relation":
        assert len({r.domain for r in test}) == 1
        assert not {r.domain for r in test} & {r.domain for r in rest}
    # The rows' order in the file and the sizes' order do not matter.
    again = assign_splits(
        rows[::-1],
        by,
        dict(reversed(sizes.items())),
        seed,
        domains=["city_country"] if by == "answered-country" else None,
    )
    assert again == assigned


def test_another_seed_another_draw(rows: list[Record]) -> None:
    assert assign_splits(rows, "standard", SIZES, 0) != assign_splits(rows, "standard", SIZES, 1)


def test_named_held_out(rows: list[Record]) -> None:
    relation = applied(rows, assign_splits(rows, "relation", {"train": 300, "test": 100}, held_out="country_capital"))
    assert {r.domain for r in relation if r.split == "test"} == {"country_capital"}
    answers = applied(rows, assign_splits(rows, "answered-country", {"train": 300, "test": 50}, held_out={"China"}))
    assert {r.answered for r in answers if r.split == "test"} == {"China"}


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("ab"), st.sampled_from(["x", "y", "z", None])),
        min_size=30,
        max_size=60,
    ),
    st.sampled_from(WAYS),
    st.integers(0, 3),
)
def test_any_rows(spec: list[tuple[int, str, str | None]], by: str, seed: int) -> None:
    rows = [
        Record(id=str(i), entity=f"e{entity}" if entity else None, domain=domain, answered=answered)
        for i, (entity, domain, answered) in enumerate(spec)
    ]
    sizes = {"train": 6, "calibration": 2, "test": 4}
    try:
        assigned = assign_splits(rows, by, sizes, seed)
    except ConfideError:
        return
    done = applied(rows, assigned)
    assert Counter(assigned.values()) == sizes
    assert check_splits(done) == []
    if by == "answered-country":
        outside = {r.answered for r in done if r.split != "test"}
        assert not outside & {r.answered for r in done if r.split == "test"}


def test_problems_are_told() -> None:
    rows = [
        Record(id=str(i), entity="city:Lyon", split=side, messages=[Message(role="user", content=" Where?")])
        for i, side in enumerate(["train", "test"])
    ]
    problems = check_splits(rows)
    assert len(problems) == 2
    assert "'city:Lyon' in test, train" in problems[0]
    assert "same question" in problems[1]


@pytest.mark.parametrize(
    ("by", "sizes", "what"),
    [
        ("standard", {"train": 9000}, "train gets 2500 of 9000"),
        ("answered-country", {"train": 100, "test": 2400}, "too few rows for test 2400: test gets"),
        ("relation", {"train": 100, "test": 2400}, "no relation leaves 2400 rows to test and 100 others"),
        ("sideways", {"train": 1}, "no split 'sideways': there is standard"),
        ("standard", {"trian": 1}, "no split named trian"),
        ("standard", {"train": -1}, "-1 rows"),
    ],
)
def test_sizes_that_cannot_be_met(rows: list[Record], by: str, sizes: dict[str, int], what: str) -> None:
    with pytest.raises(ConfideError, match=what):
        assign_splits(rows, by, sizes)


def test_relation_that_is_not_there(rows: list[Record]) -> None:
    with pytest.raises(ConfideError, match="no rows of rivers"):
        assign_splits(rows, "relation", {"test": 1}, held_out="rivers")


def test_verb(tmp_path: Path, rows: list[Record]) -> None:
    write_records(tmp_path / "R.jsonl", rows)
    split(tmp_path / "R.jsonl", tmp_path / "S.jsonl", sizes="train=300,test=100")
    assert Counter(row.split for row in read_records(tmp_path / "S.jsonl")) == {"train": 300, "test": 100}
    with pytest.raises(ConfideError, match="sizes are written"):
        parse_sizes("train:3")
