"""``confide calibrate``, and what the policies that it writes promise on fresh rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies import Policy
from policy_runs import foreign, run, with_expert, write


def test_calibrate_foreign_records(tmp_path, made):
    policy = Policy.load(made)
    assert policy.source == "given"
    assert 0.5 < policy.thresholds["*"][0].below < 0.8
    assert policy.guarantee.upper_bound <= 0.2
    assert policy.guarantee.n == 1500
    assert policy.probability(0.8) == pytest.approx(0.8, abs=0.07)


def test_calibrate_prints_json(tmp_path):
    rows = foreign(500)
    rows += [
        {"id": "a", "confidence": None, "correct": True},
        {"id": "b", "confidence": 0.5, "correct": None},
    ]
    rows[-2]["confidence"] = {"given": None}
    records = write(tmp_path / "r.jsonl", rows)
    result = run("calibrate", records, "--max-risk", 0.3, "--out", tmp_path / "p.json", "--json")
    data = json.loads(result.stdout)
    assert data["met"] is True
    assert data["left_out"] == {"without_confidence": 1, "without_label": 1}
    assert data["policy"] == json.loads((tmp_path / "p.json").read_text())


def test_calibrate_uses_the_calibration_split_and_one_row_an_entity(tmp_path):
    rows = [row | {"split": "calibration", "entity": f"e{i // 2}"} for i, row in enumerate(foreign(1200))]
    rows += [row | {"split": "test", "correct": False} for row in foreign(300, prefix="t")]
    records = write(tmp_path / "r.jsonl", rows)
    result = run("calibrate", records, "--max-risk", 0.3, "--per", "entity", "--out", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    assert "1200 used, 600 of them tested (one per entity)" in result.output
    assert "Counted per entity" in result.output
    assert Policy.load(tmp_path / "p.json").guarantee.n == 600
    # All rows count, but for those of the largest hundredth of the entities.
    result = run("calibrate", records, "--max-risk", 0.3, "--out", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    assert "1200 used, 1188 of them tested (all but those of the largest entities)" in result.output
    assert "Counted per question" in run("policy", "show", tmp_path / "p.json").stdout
    assert Policy.load(tmp_path / "p.json").guarantee.per == "question"


def test_calibrate_bounds_all_thresholds_at_once_when_asked(tmp_path):
    records = write(tmp_path / "r.jsonl", foreign(1200))
    result = run("calibrate", records, "--max-risk", 0.3, "--simultaneous", "--out", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    assert "simultaneous boundary" in result.output
    result = run("calibrate", records, "--budget", 0.3, "--simultaneous", "--out", tmp_path / "q.json")
    assert "goes with --max-risk alone" in str(result.exception) + result.output
    assert not (tmp_path / "q.json").exists()


def test_calibrate_warns_where_the_surest_answers_are_worse(tmp_path):
    rows = [
        row | {"correct": i % 3 > 0 if row["confidence"] > 0.95 else i % 25 > 0} for i, row in enumerate(foreign(2000))
    ]
    records = write(tmp_path / "r.jsonl", rows)
    result = run("calibrate", records, "--max-risk", 0.1, "--out", tmp_path / "p.json")
    assert "the surest answers are wrong more often than those below" in result.stderr
    assert "half the error rate (--level 0.975)" in result.stderr
    result = run("calibrate", records, "--max-risk", 0.1, "--simultaneous", "--out", tmp_path / "p.json")
    assert "surest answers" not in result.stderr
    assert Policy.load(tmp_path / "p.json").guarantee.coverage > 0.9


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_unattainable_goal_writes_nothing(tmp_path, flags):
    rows = [row | {"correct": i % 2 == 0} for i, row in enumerate(foreign(400))]
    out = tmp_path / "p.json"
    result = run("calibrate", write(tmp_path / "r.jsonl", rows), "--max-risk", 0.1, "--out", out, *flags)
    assert result.exit_code == 1
    assert not out.exists()
    if flags:
        data = json.loads(result.stdout)
        assert data["met"] is False
        assert data["attainable"] is None  # half are wrong, and none could be met that is nearer to a tenth
        assert data["base"] == 0.5
    else:
        assert "with every answer kept 50.0% are wrong" in result.stdout
        assert "A looser goal" not in result.stdout
        assert "no number of rows like these would do" in result.stdout


def test_reversed_confidence_warns(tmp_path):
    rows = foreign(600)
    for i, row in enumerate(rows):
        row["confidence"] = 0.9 if i % 2 == 0 else 0.8
        row["correct"] = i % 10 != 0  # one in five of the surer half is wrong, none of the others
    result = run("calibrate", write(tmp_path / "r.jsonl", rows), "--max-risk", 0.4, "--out", tmp_path / "p.json")
    assert "does not go with more right answers" in result.stderr


GOALS = ("--max-risk", "--budget", "--cost", "--match-expert", "--max-false-alarms")


@pytest.mark.parametrize(
    ("rows", "flags", "says"),
    [
        ([], (), "has no records"),
        ([row | {"confidence": 100 * row["confidence"]} for row in foreign(50)], (), "divide a percentage by 100"),
        (foreign(50), ("--source", "reader"), "from reader; there are: given"),
        (foreign(50), ("--max-risk", "1.5"), "max-risk must lie"),
        (foreign(50), ("--level", "95"), "level must lie"),
        ([row | {"split": "train"} for row in foreign(50)], (), "calibration split"),
        (foreign(50) + foreign(1), (), "duplicate ids"),
        ([row | {"correct": None} for row in foreign(50)], (), "at least 29 rows, got 0"),
        ([{"id": "a", "confidence": "high", "correct": True}], (), "line 1: confidence"),
        (foreign(50), ("--max-risk", "0.1", "--budget", "0.3"), "--match-expert and --max-false-alarms, got 2"),
        (
            foreign(50),
            ("--max-risk", "0.1", "--max-false-alarms", "0.1"),
            "--match-expert and --max-false-alarms, got 2",
        ),
        (
            [row | {"correct": False} for row in foreign(50)],
            ("--max-false-alarms", "0.05"),
            "fine rows (correct is true), got 0",
        ),
        (foreign(50), ("--max-false-alarms", "5"), "false-alarms must lie"),
        (foreign(50), ("--cost", "answer=1"), "--cost lacks escalate, wrong"),
        (foreign(50), ("--match-expert", "0.2"), "needed (--expert)"),
        (
            [row | {"confidence": -2.0} for row in foreign(50)],
            (),
            "row r0: the confidence -2 from given is not in [0, 1]",
        ),
    ],
)
def test_calibrate_bad_input(tmp_path, rows, flags, says):
    out = tmp_path / "p.json"
    goal = () if any(flag in GOALS for flag in flags) else ("--max-risk", "0.1")
    result = run("calibrate", write(tmp_path / "r.jsonl", rows), "--out", out, *goal, *flags)
    assert isinstance(result.exception, ConfideError), result.output
    assert says in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "flags", "says"),
    [
        (foreign(28), ("--max-risk", 0.1), "at least 29 rows, got 28"),
        (foreign(60), ("--max-risk", 0.01), "a bound of 0.01 at level 0.95 needs at least 299 rows, got 60"),
        (foreign(8), ("--budget", 0.3), "at least 9 independent rows, got 8"),
        (foreign(50), ("--max-false-alarms", 0.05), "at least 59 independent fine rows (correct is true), got 3"),
    ],
)
def test_too_few_rows_are_a_no_with_the_same_help(tmp_path, rows, flags, says):
    records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
    result = run("calibrate", records, *flags, "--out", out)
    assert (result.exit_code, out.exists()) == (1, False), result.output
    assert says in result.stdout
    assert len(result.stdout.splitlines()) <= 5
    data = json.loads(run("calibrate", records, *flags, "--out", out, "--json").stdout)
    assert data["met"] is False
    assert data["rows_needed"] > data["n"]
    if hint := data["attainable"]:
        assert f"{hint['limit']:g} is the lowest that could be met" in result.stdout
        met = run("calibrate", records, flags[0], hint["limit"], "--out", out)
        assert met.exit_code == 0, met.output


def test_the_source_that_is_taken_is_told(tmp_path):
    out = tmp_path / "p.json"
    one = run("calibrate", write(tmp_path / "r.jsonl", foreign(600)), "--max-risk", 0.3, "--out", out)
    assert "Source: given.\n" in one.stderr
    table = tmp_path / "two.csv"
    lines = [f"{row['id']},{row['confidence']},{row['confidence'] / 2},{int(row['correct'])}" for row in foreign(600)]
    table.write_text("\n".join(["id,a,b,label", *lines]))
    columns = ("--confidence-column", "a,b", "--correct-column", "label", "--id-column", "id")
    two = run("calibrate", table, *columns, "--max-risk", 0.3, "--out", out)
    assert two.exit_code == 0, two.output
    assert "Source: the best of a, b, which share the level; --source takes one.\n" in two.stderr
    named = run("calibrate", table, *columns, "--source", "b", "--max-risk", 0.3, "--out", out)
    assert "Source: " not in named.stderr


def test_no_goal_is_named(tmp_path):
    result = run("calibrate", write(tmp_path / "r.jsonl", foreign(50)), "--out", tmp_path / "p.json")
    assert "takes one of --max-risk, --budget, --cost, --match-expert and --max-false-alarms, got 0" in str(
        result.exception
    )


def test_budget_end_to_end(tmp_path):
    records, out = write(tmp_path / "r.jsonl", foreign(1000)), tmp_path / "p.json"
    result = run("calibrate", records, "--budget", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    assert "at most 30% of new questions escalate" in result.stdout
    assert "taken to be always right" in result.stdout
    fresh = write(tmp_path / "f.jsonl", [{"id": f"f{i}", "confidence": 0.5 + i / 2000} for i in range(1000)])
    result = run("validate", out, fresh)
    assert result.exit_code == 3 or "The promise holds: the share escalated is at most 0.3" in result.stdout
    low = write(tmp_path / "l.jsonl", [{"id": f"l{i}", "confidence": 0.5} for i in range(100)])
    assert run("validate", out, low).exit_code == 1


def harmless_or_harmful(n: int, seed: int, prefix: str) -> list[dict]:
    """Half of the rows are fine and score high, as read by a detector."""
    rng = np.random.default_rng(seed)
    return [
        {"id": f"{prefix}{i}", "confidence": {"red_flag": float(rng.beta(*((6, 2) if i % 2 else (2, 6))))},
         "correct": bool(i % 2)}
        for i in range(n)
    ]  # fmt: skip


def test_false_alarms_end_to_end(tmp_path):
    records, out = write(tmp_path / "r.jsonl", harmless_or_harmful(1600, 0, "r")), tmp_path / "p.json"
    flags = ("--source", "red_flag", "--max-false-alarms", 0.05)
    result = run("calibrate", records, *flags, "--level", 0.95, "--out", out)
    assert result.exit_code == 0, result.output
    for words in (
        "at most 5% of fine answers (correct is true) are not kept",
        "Of 800 rows that are not fine, ",
        "Rows: 1600 used, 800 of them tested that are fine; 0 without a confidence, 0 without a label.",
    ):
        assert words in result.stdout
    policy = Policy.load(out)
    assert policy.guarantee.n == 800
    assert policy.guarantee.detection.detected > 0.85
    assert policy.decide(0.1) == "escalate"
    told = run("calibrate", records, *flags, "--out", out, "--json")
    assert json.loads(told.stdout)["policy"]["guarantee"]["detection"]["n"] == 800
    fresh = harmless_or_harmful(3000, 1, "f")
    kept = run("validate", out, write(tmp_path / "f.jsonl", fresh))
    assert kept.exit_code in (0, 3), kept.output
    assert "of 1500 independent fine rows kept" in kept.stdout
    lower = [row | {"confidence": {"red_flag": row["confidence"]["red_flag"] / 2}} for row in fresh]
    broken = run("validate", out, write(tmp_path / "l.jsonl", lower))
    assert broken.exit_code == 1
    assert "The promise does not hold: the share of fine answers not kept is above 0.05" in broken.stdout
    few = run("validate", out, write(tmp_path / "few.jsonl", fresh[:20]), "--json")
    assert few.exit_code == 3
    assert json.loads(few.stdout)["detection"]["n"] == 10
    decided = run("decide", out, tmp_path / "f.jsonl", "--out", tmp_path / "d.jsonl")
    assert decided.exit_code == 0, decided.output
    assert "fine answers" in run("policy", "show", out).stdout
    missing = [row | {"confidence": {"red_flag": None}} if i % 16 == 1 else row
               for i, row in enumerate(harmless_or_harmful(1600, 0, "r"))]  # fmt: skip
    unmet = run("calibrate", write(tmp_path / "m.jsonl", missing), *flags, "--out", tmp_path / "q.json")
    assert unmet.exit_code == 1
    assert "as 12.5% of the fine rows have no confidence and escalate" in unmet.stdout
    assert not (tmp_path / "q.json").exists()


def test_false_alarms_in_domains_and_entities(tmp_path):
    rows = [row | {"domain": "ab"[i // 2 % 2], "entity": f"e{i // 4}"}
            for i, row in enumerate(harmless_or_harmful(3200, 0, "r"))]  # fmt: skip
    records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
    flags = ("--source", "red_flag", "--max-false-alarms", 0.05, "--per", "entity", "--out", out)
    whole = run("calibrate", records, *flags)
    assert "3200 used, 800 of them tested that are fine (one per entity)" in whole.stdout
    assert run("calibrate", records, *flags, "--per-domain").exit_code == 0
    assert set(Policy.load(out).thresholds) == {"a", "b", "*"}


def test_match_expert_end_to_end(tmp_path):
    records, expert = with_expert(tmp_path, 2500, 0.9)
    out = tmp_path / "p.json"
    result = run("calibrate", records, "--match-expert", 0.05, "--expert", expert, "--out", out)
    assert result.exit_code == 0, result.output
    assert "at most 5% less accurate than big alone" in result.stdout
    fresh, theirs = with_expert(tmp_path, 2400, 0.9, "ff")
    result = run("validate", out, fresh, "--expert", theirs)
    assert result.exit_code in (0, 3)
    assert "of accuracy lost to the expert's" in result.stdout
    assert "--expert" in str(run("validate", out, fresh).exception)
    poor = write(
        tmp_path / "poor.jsonl", [row | {"correct": i % 2 == 0} for i, row in enumerate(foreign(2400, prefix="ff"))]
    )
    unmet = run("calibrate", poor, "--match-expert", 0.002, "--expert", theirs, "--out", tmp_path / "q.json")
    assert unmet.exit_code == 1
    assert "below the expert's at level 0.95" in unmet.stdout


def test_cost_end_to_end(tmp_path):
    records, expert = with_expert(tmp_path, 1200, 0.8)
    out = tmp_path / "p.json"
    prices = "answer=1,escalate=20,wrong=100,abstain=60"
    result = run(
        "calibrate", records, "--cost", prices, "--expert", expert, "--out", out, "--last-resort", "unverified"
    )
    assert result.exit_code == 0, result.output
    assert "The expert is big." in result.stdout
    assert "Nothing is promised" in run("policy", "show", out).stdout
    assert Policy.load(out).last_resort == "unverified"
    assert "promises nothing" in str(run("validate", out, records).exception)


def test_the_last_resort_may_be_to_abstain(tmp_path):
    records, out = write(tmp_path / "r.jsonl", foreign(1200)), tmp_path / "p.json"
    for word in ("abstain", "error"):
        goal = ("--cost", "answer=1,escalate=20,wrong=100", "--out", out)
        assert run("calibrate", records, *goal, "--last-resort", word).exit_code == 0
        assert Policy.load(out).last_resort == word
        assert ("nothing is claimed" in run("policy", "show", out).stdout) == (word == "abstain")
    assert run("calibrate", records, *goal, "--last-resort", "shrug").exit_code == 2


def test_per_domain_end_to_end(tmp_path):
    rows = [row | {"domain": "law" if i % 2 else "art"} for i, row in enumerate(foreign(1600))]
    out = tmp_path / "p.json"
    records = write(tmp_path / "r.jsonl", rows)
    result = run("calibrate", records, "--max-risk", 0.3, "--per-domain", "--out", out, "--calibrator", "isotonic")
    assert result.exit_code == 0, result.output
    assert set(Policy.load(out).thresholds) == {"art", "law", "*"}
    assert "  art: 800 rows" in result.stdout
    assert "Calibrator: isotonic." in result.stdout
    fresh = write(tmp_path / "f.jsonl", [row | {"id": f"f{i}", "correct": True} for i, row in enumerate(rows)])
    result = run("validate", out, fresh)
    assert result.exit_code == 0
    assert "law: holds." in result.stdout
    few = [row | {"domain": f"d{i % 40}"} for i, row in enumerate(foreign(1600))]
    pooled = run("calibrate", write(tmp_path / "w.jsonl", few), "--max-risk", 0.3, "--per-domain", "--out", out)
    assert "No domain has the 200 independent rows" in pooled.stdout


def test_rows_without_an_identity_are_warned_of_when_others_have_one(tmp_path):
    rows = [row | ({"identity": "weights=ab"} if i else {}) for i, row in enumerate(foreign(600))]
    result = run("calibrate", write(tmp_path / "r.jsonl", rows), "--max-risk", 0.3, "--out", tmp_path / "p.json")
    assert "not all rows say which weights answered them" in result.stderr
    assert Policy.load(tmp_path / "p.json").identity == ""
    plain = run("calibrate", write(tmp_path / "r.jsonl", foreign(600)), "--max-risk", 0.3, "--out", tmp_path / "p.json")
    assert plain.stderr == f"Source: given.\nNext: confide validate {tmp_path / 'p.json'} FRESH.jsonl\n"


HOT = {"confidence": 0.99, "correct": False}


@pytest.mark.parametrize("goal", [("--max-risk", 0.3), ("--budget", 0.5), ("--max-risk", 0.3, "--per-domain")])
def test_rows_that_a_promise_per_question_does_not_cover_are_refused_or_warned_of(tmp_path, goal):
    out = tmp_path / "p.json"
    for hot, refused in ((40, False), (120, True)):
        rows = [row | {"domain": "law" if i % 2 else "art"} for i, row in enumerate(foreign(1_600))]
        rows += [HOT | {"id": f"h{i}", "entity": "hot", "domain": "law"} for i in range(hot)]
        records = write(tmp_path / "r.jsonl", rows)
        result = run("calibrate", records, *goal, "--out", out)
        if refused:
            assert isinstance(result.exception, ConfideError)
            where = "13% of the rows of law" if "--per-domain" in goal else "7% of the rows"
            assert where in str(result.exception)
        else:
            assert result.exit_code == 0, result.output
            share = "4.8%" if "--per-domain" in goal else "2.4%"
            assert f"Warning: {share} of the rows are of entities with more than 1 row each" in result.stderr
            assert f"not covered; {share} of these rows are theirs" in run("policy", "show", out).stdout
            assert Policy.load(out).guarantee.uncovered == (40 / 840 if "--per-domain" in goal else 40 / 1_640)


def two_sources(n: int, seed: int = 0) -> list[dict]:
    """Rows with a telling confidence and one that tells nothing."""
    noise = np.random.default_rng(seed + 1_000).random(n).tolist()
    return [
        row | {"confidence": {"telling": row["confidence"], "noise": c}}
        for row, c in zip(foreign(n, seed=seed), noise, strict=True)
    ]


def test_the_best_of_several_sources_is_taken_at_a_split_level(tmp_path):
    records, out = write(tmp_path / "r.jsonl", two_sources(1_500)), tmp_path / "p.json"
    result = run("calibrate", records, "--source", "noise, telling", "--max-risk", 0.2, "--out", out)
    assert result.exit_code == 0, result.output
    chosen = Policy.load(out)
    assert (chosen.source, chosen.guarantee.level) == ("telling", 0.95)
    assert "the best of noise, telling, each at level 0.975" in result.output
    alone = tmp_path / "alone.json"
    run("calibrate", records, "--source", "telling", "--max-risk", 0.2, "--level", 0.975, "--out", alone)
    strict = Policy.load(alone)
    assert chosen.thresholds == strict.thresholds
    assert (chosen.guarantee.coverage, chosen.guarantee.upper_bound) == (
        strict.guarantee.coverage,
        strict.guarantee.upper_bound,
    )
    # One source twice is one source, at the whole level.
    run("calibrate", records, "--source", "telling,telling", "--max-risk", 0.2, "--out", out)
    run("calibrate", records, "--source", "telling", "--max-risk", 0.2, "--out", alone)
    assert out.read_text() == alone.read_text()
    missing = run("calibrate", records, "--source", "telling,stack", "--max-risk", 0.2, "--out", out)
    assert "no row has a confidence from stack" in str(missing.exception)


@pytest.mark.parametrize(
    "goal",
    [
        ("--budget", 0.3),
        ("--cost", "answer=1,escalate=5,wrong=20"),
        ("--max-risk", 0.2, "--per-domain"),
        ("--max-false-alarms", 0.2),
    ],
)
def test_the_best_of_several_sources_by_what_each_goal_seeks(tmp_path, goal):
    records, out = write(tmp_path / "r.jsonl", two_sources(1_500)), tmp_path / "p.json"
    result = run("calibrate", records, "--source", "noise,telling", *goal, "--out", out)
    assert result.exit_code == 0, result.output
    assert Policy.load(out).source == "telling"


def test_no_source_meets_the_goal(tmp_path):
    records = write(tmp_path / "r.jsonl", two_sources(500))
    result = run("calibrate", records, "--source", "noise,telling", "--max-risk", 0.01, "--out", tmp_path / "p.json")
    assert result.exit_code == 1
    assert "no threshold on telling shows" in result.output
    assert not (tmp_path / "p.json").exists()


def test_the_limit_that_an_unmet_goal_proposes_can_be_adopted_and_none_below_it(tmp_path):
    rng = np.random.default_rng(3)
    hard = [row | {"correct": bool(rng.random() < 0.15)} for row in foreign(200)]
    for rows, flag, limit in (
        (foreign(400), "--max-risk", 0.05),
        (hard, "--max-risk", 0.2),
        ([row | {"domain": "ab"[i % 2]} for i, row in enumerate(foreign(1200))], "--max-risk", 0.02),
        ([row | {"confidence": {"given": row["confidence"] if i % 3 else None}} for i, row in enumerate(foreign(300))],
         "--budget", 0.2),
    ):  # fmt: skip
        records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
        more = ("--per-domain",) if "domain" in rows[0] else ()
        told = json.loads(run("calibrate", records, flag, limit, "--out", out, "--json", *more).stdout)
        assert told["met"] is False
        if rows is hard:
            assert told["attainable"] is None  # nothing nearer to the goal than keeping every answer
            continue
        proposed = told["attainable"]["limit"]
        assert proposed == round(proposed, 3) > limit
        met = run("calibrate", records, flag, proposed, "--out", out, *more)
        assert met.exit_code == 0, met.output
        if not more:  # which domains have rows enough depends on the limit, so there may be a smaller one
            below = run("calibrate", records, flag, round(proposed - 0.001, 3), "--out", out, "--json")
            assert json.loads(below.stdout)["met"] is False
        said = run("calibrate", records, flag, limit, "--out", out, *more).output
        assert f"{flag} {proposed:g} is the lowest that could be met" in said
        assert "Ask it of fresh rows." in said
        assert said.count("More rows: ") + said.count("no number of rows") + said.count("What would help: ") == 1


@pytest.mark.parametrize("kind", ["auto", "platt", "isotonic", "temperature", "beta"])
@pytest.mark.parametrize("flags", [(), ("--per", "entity"), ("--simultaneous",), ("--per-domain",)])
def test_rows_that_are_all_right_keep_everything(tmp_path, flags, kind):
    rows = [row | {"correct": True, "domain": "ab"[i % 2]} for i, row in enumerate(foreign(800))]
    records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
    result = run("calibrate", records, "--max-risk", 0.1, "--calibrator", kind, "--out", out, *flags)
    assert result.exit_code == 0, result.output
    policy = Policy.load(out)
    assert policy.guarantee.coverage == 1
    level, n = (0.975, 400) if "--per-domain" in flags else (0.95, 800)
    assert policy.guarantee.upper_bound == pytest.approx(1 - (1 - level) ** (1 / n), abs=1e-6)
    fresh = write(tmp_path / "f.jsonl", [row | {"id": f"f{row['id']}"} for row in rows])
    assert run("validate", out, fresh).exit_code == 0
    assert "Of 800 kept answers with a label, 0 are wrong" in run("decide", out, fresh, "--out", tmp_path / "d").output


def test_rows_that_are_all_wrong_meet_no_risk_but_other_goals(tmp_path):
    rows = [row | {"correct": False} for row in foreign(400)]
    records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
    assert (
        "as even of the surest 5% 100.0% are wrong" in run("calibrate", records, "--max-risk", 0.1, "--out", out).output
    )
    assert not out.exists()
    expert = write(tmp_path / "e.jsonl", rows)
    for goal in (
        ("--budget", 0.3),
        ("--cost", "answer=1,escalate=20,wrong=100,abstain=5"),
        ("--match-expert", 0.05, "--expert", expert),
    ):
        result = run("calibrate", records, *goal, "--out", out)
        assert result.exit_code == 0, result.output
        assert Policy.load(out).probability(0.9) < 0.01
        out.unlink()


def test_fewer_rows_than_a_curve_takes_are_enough_for_a_bound(tmp_path):
    rows, out = [row | {"correct": True} for row in foreign(12)], tmp_path / "p.json"
    result = run("calibrate", write(tmp_path / "r.jsonl", rows), "--max-risk", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    assert Policy.load(out).probability(0.9) == pytest.approx(13 / 14)
