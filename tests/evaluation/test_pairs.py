import pytest

from confide.errors import ConfideError
from confide.evaluation.pairs import NAMED, Pairs
from confide.records import Record
from two_runs import a_run


def test_rows_are_matched_by_id_whatever_their_order():
    a, b = a_run(1), a_run(2)
    pairs = Pairs.of(a, b[::-1])
    assert [r.id for r in pairs.a.records] == [r.id for r in pairs.b.records] == [r.id for r in a]
    assert pairs.gained.sum() == sum(y.correct and not x.correct for x, y in zip(a, b, strict=True))
    assert pairs.lost.sum() == sum(x.correct and not y.correct for x, y in zip(a, b, strict=True))
    assert list(pairs.reworded) == [x.answer != y.answer for x, y in zip(a, b, strict=True)]


def test_what_has_no_partner_is_counted_and_named():
    a, b = a_run(1, n=60), a_run(2, n=90)[10:]
    b[0] = b[0].model_copy(update={"correct": None})
    pairs = Pairs.of(a, b)
    found = pairs.left_out()
    assert len(pairs) == 49
    assert found["only_a"] == {"n": 10, "ids": [f"q{i}" for i in range(10)]}
    assert found["only_b"] == {"n": 30, "ids": [f"q{60 + i}" for i in range(NAMED)]}
    assert found["ungraded"] == {"n": 1, "ids": ["q10"]}


def test_case_and_punctuation_are_no_other_answer():
    a = [Record(id="1", answer="Paris.", correct=True), Record(id="2", answer="Rome", correct=False)]
    b = [Record(id="1", answer=" paris", correct=True), Record(id="2", answer="Oslo", correct=False)]
    assert Pairs.of(a, b).reworded.tolist() == [False, True]
    named = [r.model_copy(update={"answered": "x"}) for r in a], [r.model_copy(update={"answered": "x"}) for r in b]
    assert Pairs.of(*named).reworded.tolist() == [False, False]


def test_only_the_test_split_counts():
    a = [*a_run(1, n=40, split="test"), Record(id="t", correct=True, split="train")]
    b = [*a_run(2, n=40, split="test"), Record(id="t", correct=True, split="train")]
    pairs = Pairs.of(a, b)
    assert len(pairs) == 40
    assert pairs.left_out()["only_a"]["n"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: [], "B holds no records"),
        (lambda b: [r.model_copy(update={"id": f"x{r.id}"}) for r in b], "share no id .A has 'q0', 'q1', …, B 'xq0'"),
        (lambda b: [r.model_copy(update={"task": "law"}) for r in b], "A is of the task capitals and B of law"),
        (lambda b: [r.model_copy(update={"correct": None}) for r in b], "none of the 30 common rows is graded in B"),
        (lambda b: [*b, b[0]], "B holds the id 'q0' twice"),
        (lambda b: [b[1].model_copy(update={"id": "q0"}), *b[1:]], "the id 'q0' is another question in B"),
        (
            lambda b: [
                r.model_copy(update={"identity": f"model={'small' if i < 9 else 'big'}"}) for i, r in enumerate(b)
            ],
            "B holds answers or confidences of several models",
        ),
        (lambda b: [r.model_copy(update={"signal": "red_flag"}) for r in b], "different signals"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, words):
    with pytest.raises(ConfideError, match=words):
        Pairs.of(a_run(1, n=30), change(a_run(2, n=30)))


def without_ids(rows, name):
    """The rows as they are read from a file without ids."""
    return [r.model_copy(update={"id": f"{name}-{i}"}) for i, r in enumerate(rows, 1)]


def test_rows_without_ids_are_matched_by_number_where_there_are_equally_many():
    a, b = a_run(1, n=30), a_run(2, n=30)
    pairs = Pairs.of(without_ids(a, "0a1b2c3d"), without_ids(b, "4e5f6a7b"))
    assert pairs.by_row
    assert list(pairs.gained) == list(Pairs.of(a, b).gained)
    assert not Pairs.of(a, b).by_row
    with pytest.raises(ConfideError, match=r"A has 30 rows, B 29, and neither has ids.*--id-column"):
        Pairs.of(without_ids(a, "0a1b2c3d"), without_ids(b[1:], "4e5f6a7b"))
    with pytest.raises(ConfideError, match=r"rows of B have no ids, those of A have: name B's column.*--id-column"):
        Pairs.of(a, without_ids(b, "4e5f6a7b"))
