from __future__ import annotations

import json

import numpy as np
import pytest

from confide.policies import Policy, shift
from confide.policies.profiles import ERROR, Histogram, Profile, profile_of
from confide.records import Record


def rows(n: int, seed: int = 0, mean: float = 0.0, cut: float = 0.05, law: float = 0.3, missing: float = 0.1, **more):
    rng = np.random.default_rng(seed)
    c, gone = rng.normal(mean, 1, n), rng.random(n) < missing
    return [
        Record(
            id=f"r{i}", confidence={"given": None if gone[i] else float(c[i])}, answer="x" * int(rng.integers(1, 40)),
            domain="law" if rng.random() < law else "art", finish="length" if rng.random() < cut else "stop", **more,
        )
        for i in range(n)
    ]  # fmt: skip


def policy(profile: Profile | None) -> Policy:
    return Policy.model_validate(
        {
            "source": "given",
            "calibrator": {"kind": "temperature", "parameters": {"transform": "identity", "temperature": 1.0}},
            "thresholds": {"*": [{"below": 0.0, "decision": "escalate"}]},
            "guarantee": {
                "max_risk": 0.1, "level": 0.95, "method": "m", "n": 10, "observed_risk": 0.05, "upper_bound": 0.09,
                "coverage": 0.5,
            },
            "data_sha256": "",
        }
    ).model_copy(update={"profile": profile})  # fmt: skip


BEFORE = policy(profile_of(rows(1000), "given"))


def test_profile_is_small_survives_json_and_counts_every_row():
    profile = BEFORE.profile
    assert profile is not None
    assert len(profile.model_dump_json()) < 1000
    assert Profile.model_validate(json.loads(profile.model_dump_json())) == profile
    assert sum(profile.confidence.counts) + profile.confidence.missing == profile.n == 1000
    assert min(profile.confidence.counts) > 70
    assert 60 < profile.confidence.missing < 140
    assert sum((profile.domains or {}).values()) == 1000


def test_rows_like_these_seldom_warn():
    alarms = sum(bool(shift(BEFORE, rows(200, seed)).warnings) for seed in range(1, 301))
    # At most ERROR over all features; the reference itself is one draw, hence some room.
    assert alarms / 300 <= ERROR + 3 * np.sqrt(ERROR * (1 - ERROR) / 300)


@pytest.mark.parametrize(
    ("changes", "feature"),
    [
        ({"mean": 0.5}, "confidence"),
        ({"missing": 0.3}, "confidence"),
        ({"law": 0.6}, "domains"),
        ({"cut": 0.25}, "cut answers"),
    ],
)
def test_rows_unlike_these_warn_of_what_changed(changes, feature):
    found = shift(BEFORE, rows(500, 7, **changes))
    assert found.checked
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f"{feature}: ")
    assert "unlike the calibration rows" in found.warnings[0]


def test_longer_answers_and_unknown_domains_warn():
    longer = [row.model_copy(update={"answer": row.answer * 2}) for row in rows(500, 8)]
    assert [w.split(":")[0] for w in shift(BEFORE, longer).warnings] == ["answer length"]
    moved = [row.model_copy(update={"domain": "sport"}) for row in rows(500, 9)]
    assert [w.split(":")[0] for w in shift(BEFORE, moved).warnings] == ["domains"]


def test_small_changes_are_no_news_however_many_rows_show_them():
    many = policy(profile_of(rows(20_000), "given"))
    found = shift(many, rows(20_000, 1, mean=0.08))
    confidence = next(feature for feature in found.features if feature.name == "confidence")
    assert confidence.p_value < 1e-4
    assert not found.warnings


def test_nothing_is_said_without_a_profile_or_with_few_rows():
    assert not shift(policy(None), rows(100)).checked
    assert not shift(BEFORE, rows(19)).checked
    assert not shift(BEFORE, []).checked


def test_bare_numbers_are_compared_by_confidence_alone():
    bare = [Record(id=str(i), confidence={"given": i / 100}) for i in range(100)]
    profile = profile_of(bare, "given")
    assert (profile.domains, profile.answer_length, profile.cut) == (None, None, None)
    assert [feature.name for feature in shift(policy(profile), rows(300)).features] == ["confidence"]


def test_ties_and_missing_confidences_everywhere():
    tied = [Record(id=str(i), confidence={"given": 1.0}) for i in range(200)]
    before = policy(profile_of(tied, "given"))
    assert not shift(before, tied).warnings
    assert shift(before, [row.model_copy(update={"confidence": {"given": 0.5}}) for row in tied]).warnings
    nothing = [Record(id=str(i)) for i in range(200)]
    assert shift(before, nothing).warnings
    assert profile_of(nothing, "given").confidence == Histogram(edges=[], counts=[0], missing=200)


def test_rows_of_one_entity_count_once():
    copies = [row.model_copy(update={"entity": f"e{i // 5}"}) for i, row in enumerate(rows(500, mean=0.2))]
    assert shift(BEFORE, copies).n == 100


def test_rows_that_were_asked_otherwise_warn():
    def asked(n: int, start: int = 0, **shape: object) -> list[Record]:
        told = {"system": "", "turns": 1, "length": 30, "content": "", "options": {"temperature": "0"}} | shape
        return [
            Record.model_validate({"id": f"{start + i}", "confidence": {"given": i / n}, "request_shape": told})
            for i in range(n)
        ]

    before = policy(profile_of(asked(400), "given"))
    assert shift(before, asked(200, 1000)).warnings == []
    for changes in ({"options": {}}, {"system": "ab"}, {"turns": 3}, {"length": 5000}, {"content": "other"}):
        (warning,) = shift(before, [*asked(150, 1000), *asked(50, 2000, **changes)]).warnings
        assert warning.startswith("requests: 25% of these 200 rows are unlike")
    bare = [record.model_copy(update={"request_shape": None}) for record in asked(200, 1000)]
    assert shift(before, bare).warnings == []  # nothing is said of how they were asked
