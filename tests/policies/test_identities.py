"""Identities: what is compared, what is a mixture, and what policies and checks make of it."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.policies import Budget, Costs, FalseAlarms, MaxRisk, Policy, calibrate_policy, validate_policy
from confide.policies.identities import (
    answered_by,
    check_one_model,
    common_identity,
    identity_of,
    identity_parts,
    identity_text,
    same_model,
    same_name,
)
from confide.policies.validation import other_models
from confide.records import Record


def rows(n: int, identity: str = "weights=ab", start: int = 0, **changes: object) -> list[Record]:
    return [
        Record.model_validate(
            {"id": f"{start + i}", "confidence": {"stack": 0.5 + i / 2 / n}, "correct": i % 20 > 0,
             "identity": identity, **changes}
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("weights=ab", "weights=ab", True),
        ("weights=ab", "weights=cd", False),
        ("weights=ab, confidence=1", "weights=ab", True),
        ("weights=ab, confidence=1", "weights=ab, confidence=2", False),
        ("model=tiny, fingerprint=1", "model=tiny, root=/m", True),
        ("model=tiny, fingerprint=1", "model=tiny, fingerprint=2", False),
        ("weights=ab", "model=tiny", None),
        ("", "weights=ab", None),
        ("", "", None),
    ],
)
def test_identities_are_compared_in_the_parts_that_both_have(one: str, other: str, same: bool | None) -> None:
    assert same_model(one, other) is same_model(other, one) is same


def test_what_a_server_reports_cannot_break_an_identity() -> None:
    odd = {"model": "a, weights=b\n\x00é", "fingerprint": 5, "root": "", "owner": None}
    text = identity_text(odd)
    assert text == "model=a__weights=b___"
    assert identity_parts(text) == {"model": "a__weights=b___"}
    assert len(identity_text({"model": "x" * 10_000})) < 200
    for bad in ("tiny", "model=", "=x", "a b=c"):
        with pytest.raises(ValueError, match="an identity reads"):
            identity_parts(bad)


def test_what_gave_the_confidence_is_part_of_it() -> None:
    record = Record(id="1", identity="weights=ab", scored_by={"stack": "12"})
    assert identity_of(record, "stack") == "weights=ab, confidence=12"
    assert identity_of(record, "logprob_sum") == "weights=ab"
    both = record.model_copy(update={"scored_by": {"stack": "12", "portable": "34"}})
    assert identity_of(both, "portable") == "weights=ab, portable=34"
    assert same_model("weights=ab, confidence=56, portable=34", identity_of(both, "portable"))
    assert same_model("weights=ab, confidence=56, portable=35", identity_of(both, "portable")) is False
    assert identity_of(Record(id="1"), "stack") == ""
    assert identity_of(Record(id="1", identity="our model, v2"), "stack") == "name=our_model__v2"
    assert Record.model_validate_json(record.line()) == record


def test_what_gives_another_confidence_beside_it_is_no_part_of_it() -> None:
    stored = Record(id="1", identity="model=tiny, confidence=12, portable=34")
    assert identity_of(stored, "portable") == "model=tiny, portable=34"
    assert identity_of(stored, "stack_served") == "model=tiny, confidence=12"
    assert identity_of(stored, "") == stored.identity
    retrained = [stored.model_copy(update={"identity": f"model=tiny, confidence=12, portable={n}"}) for n in (34, 35)]
    assert common_identity(retrained, "stack_served") == "model=tiny, confidence=12"
    with pytest.raises(ConfideError, match="different models"):
        common_identity(retrained, "portable")


def test_a_mixture_has_no_policy() -> None:
    mixed = [*rows(150), *rows(150, "weights=cd", 150)]
    with pytest.raises(ConfideError, match=r"different models.*weights=ab \(150 rows\); weights=cd \(150 rows\)"):
        calibrate_policy(mixed, "stack", MaxRisk(0.2))
    heads = [*rows(150, scored_by={"stack": "1"}), *rows(150, start=150, scored_by={"stack": "2"})]
    with pytest.raises(ConfideError, match="confidence=2"):
        calibrate_policy(heads, "stack", MaxRisk(0.2))
    # Two that agree with a third in part may still differ from each other.
    with pytest.raises(ConfideError, match="different models"):
        common_identity([*rows(1, "model=a, root=x"), *rows(1, "model=a"), *rows(1, "model=a, root=y")], "stack")


def test_rows_of_one_model_are_picked_by_its_identity() -> None:
    mixed = [*rows(3, scored_by={"stack": "1"}), *rows(2, "weights=cd", 10), *rows(1, "", 20), *rows(1, "ours, v2", 30)]
    assert list(answered_by(None, mixed)) == mixed
    assert [r.id for r in answered_by("weights=cd", mixed)] == ["10", "11"]
    assert [r.id for r in answered_by("weights=ab, confidence=1", mixed, "stack")] == ["0", "1", "2"]
    assert [r.id for r in answered_by("name=ours__v2", mixed)] == ["30"]
    with pytest.raises(ConfideError, match="no row is an answer of weights=ef; there are: name=ours__v2, weights=ab"):
        answered_by("weights=ef", mixed)
    with pytest.raises(ConfideError, match="--identity: an identity reads"):
        answered_by("tiny", mixed)


def test_one_confidence_of_two_checkpoints_is_a_mixture() -> None:
    heads = [*rows(3, scored_by={"stack": "1"}), *rows(3, start=10, scored_by={"stack": "2"})]
    with pytest.raises(ConfideError, match=r"weights=ab, confidence=1 \(3 rows\); weights=ab, confidence=2"):
        check_one_model(heads)
    for row in heads[3:]:
        row.confidence["stack"] = None  # as on rows that it was trained on
    check_one_model(heads)
    check_one_model([*rows(3, scored_by={"stack": "1", "p_true": "2"}), *rows(2, "", 10)])


def test_a_name_is_a_folder_however_its_path_is_spelt(tmp_path, monkeypatch) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("m")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("m", "./m", "m/", "../" + tmp_path.name + "/m", str(tmp_path / "m"), "link", "~/m"):
        assert same_name(name, "m")
        assert same_name("m", name)
    for name in ("other", "", "missing", "."):
        assert not same_name(name, "m")


def test_a_policy_knows_what_all_of_its_rows_say() -> None:
    made = calibrate_policy(rows(300), "stack", MaxRisk(0.2))
    assert isinstance(made, Policy)
    assert made.identity == "weights=ab"
    assert "Made for weights=ab." in made.explain()
    assert Policy.model_validate_json(made.to_json()) == made
    some = calibrate_policy([*rows(299), *rows(1, "", 300)], "stack", MaxRisk(0.2))
    assert isinstance(some, Policy)
    assert some.identity == ""
    assert "identity" not in some.to_json()
    assert made.id != some.id
    with pytest.raises(ValueError, match="an identity reads"):
        Policy.model_validate(made.model_dump(by_alias=True) | {"identity": "tiny"})


def test_rows_of_other_weights_are_told() -> None:
    made = calibrate_policy(rows(300), "stack", MaxRisk(0.2))
    assert isinstance(made, Policy)
    fresh = [*rows(100, start=1000), *rows(40, "weights=cd", 2000), *rows(10, "", 3000)]
    (warning,) = other_models(made, fresh)
    assert warning == (
        "the policy was made for other weights (weights=ab) than answered 40 of the 150 rows (weights=cd)"
    )
    with pytest.raises(ConfideError, match=r"different models.*weights=ab \(100 rows\); weights=cd \(40 rows\)$"):
        validate_policy(made, fresh)
    (all_other,) = other_models(made, rows(40, "weights=cd", 2000))
    assert all_other in validate_policy(made, rows(40, "weights=cd", 2000)).warnings
    assert other_models(made, rows(10)) == other_models(made, rows(10, "")) == []


def test_an_unmet_goal_on_rows_of_two_models_is_refused_like_a_met_one() -> None:
    mixed = rows(100) + rows(100, "weights=cd", start=100, correct=False)
    costs = Costs(answer=1, escalate=5, wrong=9)
    # Of one model no row is fine; it has a part in the calibrator all the same.
    for goal in (MaxRisk(0.05), MaxRisk(0.05, simultaneous=True), Budget(0.3), costs, FalseAlarms(0.05)):
        with pytest.raises(ConfideError, match="different models"):
            calibrate_policy(mixed, "stack", goal)


@pytest.mark.parametrize("source", ["field", "claim", "red_flag"])
def test_a_source_with_a_part_of_its_own_is_held_against_that(source: str) -> None:
    model = "weights=ab, confidence=12, portable=34, field=56, claim=56, red_flag=56"
    record = Record(id="1", identity="weights=ab", scored_by={source: "56"})
    assert identity_of(record, source) == f"weights=ab, {source}=56"
    assert same_model(identity_of(record, source), model) is True
    stored = Record(id="1", identity=model)
    assert identity_of(stored, source) == f"weights=ab, {source}=56"
    assert identity_of(stored, "portable") == "weights=ab, portable=34"


@pytest.mark.parametrize("goal", [MaxRisk(0.2), FalseAlarms(0.1)])
def test_a_mixture_with_the_same_ids_has_no_policy_either(goal: MaxRisk | FalseAlarms) -> None:
    with pytest.raises(ConfideError, match="different models"):
        calibrate_policy([*rows(150), *rows(150, "weights=cd")], "stack", goal)
