"""``--fallback``: one policy file with an order of sources, made, shown, applied and checked on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.policies import Policy
from confide.records import Record, write_records
from endpoint_server import Endpoint
from policy_runs import run
from two_sources import two_sources

GOAL = ("--max-risk", 0.1, "--calibrator", "platt")


def saved(path: Path, rows: list[Record]) -> Path:
    write_records(path, rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("order")
    rows = saved(folder / "r.jsonl", two_sources(1500, missing=0.2))
    made = run("calibrate", rows, "--source", "stack", "--fallback", "logprob_sum", *GOAL, "--out", folder / "p.json")
    assert made.exit_code == 0, made.output
    (folder / "said.txt").write_text(made.output)
    return folder


def test_the_file_holds_a_part_for_each_source_and_the_words_say_what_is_promised(folder):
    policy = Policy.load(folder / "p.json")
    assert policy.sources == ["stack", "logprob_sum"]
    for said in ((folder / "said.txt").read_text(), run("policy", "show", folder / "p.json").output):
        assert "Order of sources: stack, then logprob_sum. The first one that gives a confidence decides alone." in said
        assert "Source where stack gives none: logprob_sum (a log-probability, in nats)." in said
        assert said.count("Promise: with probability at least 95%") == 2
        assert "each at level 0.975" in said
        assert "Which questions fall back is not chance" in said
    said = (folder / "said.txt").read_text()
    assert "Rows of stack: 1184 used; 316 without a confidence, 0 without a label." in said
    assert "Rows of logprob_sum: 1500 used; 0 without a confidence" in said


def test_json_says_what_was_left_out_of_each(folder, tmp_path):
    flags = ("--source", "stack", "--fallback", "logprob_sum", *GOAL, "--out", tmp_path / "p.json", "--json")
    data = json.loads(run("calibrate", folder / "r.jsonl", *flags).stdout)
    assert data["left_out"] == {"without_confidence": 316, "without_label": 0}
    assert data["left_out_of_fallbacks"] == {"logprob_sum": {"without_confidence": 0, "without_label": 0}}
    assert [part["source"] for part in data["policy"]["fallbacks"]] == ["logprob_sum"]


def test_without_a_fallback_the_file_is_what_it_was(folder, tmp_path):
    run("calibrate", folder / "r.jsonl", "--source", "stack", *GOAL, "--out", tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    assert "fallbacks" not in data
    assert "Order of sources" not in run("policy", "show", tmp_path / "p.json").output


def test_decide_says_which_source_decided(folder, tmp_path):
    stack, free = (part.threshold() for part in Policy.load(folder / "p.json").parts)
    rows = [
        Record(id="a", confidence={"stack": stack, "logprob_sum": -9.0}),
        Record(id="b", confidence={"stack": stack - 1e-9, "logprob_sum": -0.001}),
        Record(id="c", confidence={"stack": None, "logprob_sum": free}),
        Record(id="d", confidence={"logprob_sum": free - 1e-9}),
        Record(id="e", confidence={"stack": None}),
        Record(id="f", confidence={"logprob_sum": free}, finish="length"),
    ]
    out = tmp_path / "d.jsonl"
    said = run("decide", folder / "p.json", saved(tmp_path / "s.jsonl", rows), "--out", out)
    assert said.exit_code == 0, said.output
    written = [json.loads(line) for line in out.read_text().splitlines()]
    found = [(row["source"], row["decision"], row["confidence"] is None) for row in written]
    assert found == [
        ("stack", "answer", False),
        ("stack", "escalate", False),
        ("logprob_sum", "answer", False),
        ("logprob_sum", "escalate", False),
        (None, "escalate", True),
        (None, "escalate", True),
    ]
    assert "2 rows were decided by stack.\n2 rows were decided by logprob_sum." in said.stdout
    assert "2 rows had no confidence from stack or logprob_sum and escalate." in said.stdout
    summary = json.loads(run("decide", folder / "p.json", tmp_path / "s.jsonl", "--out", out, "--json").stdout)
    assert summary["decided_by"] == {"stack": 2, "logprob_sum": 2}


@pytest.mark.parametrize("left", ["stack", "logprob_sum"])
def test_decide_needs_one_of_the_sources(folder, tmp_path, left):
    rows = saved(tmp_path / "s.jsonl", [Record(id="a", confidence={left: -0.001 if left != "stack" else 0.99})])
    assert run("decide", folder / "p.json", rows, "--out", tmp_path / "d.jsonl").exit_code == 0
    rows = saved(tmp_path / "s.jsonl", [Record(id="a", confidence={"reader": 0.9})])
    failed = run("decide", folder / "p.json", rows, "--out", tmp_path / "d.jsonl")
    assert "no row has a confidence from stack or logprob_sum, the policy's sources; there are: reader" in str(
        failed.exception
    )


@pytest.mark.parametrize("order", [("stack", "logprob_sum"), ("logprob_sum", "stack")])
@pytest.mark.parametrize("free", [None, -0.001])
def test_decide_refuses_a_number_on_another_scale_from_any_source(folder, tmp_path, order, free):
    first, second = order
    run("calibrate", folder / "r.jsonl", "--source", first, "--fallback", second, *GOAL, "--out", tmp_path / "p.json")
    rows = saved(tmp_path / "s.jsonl", [Record(id="a", confidence={"logprob_sum": free, "stack": 87.0})])
    failed = run("decide", tmp_path / "p.json", rows, "--out", tmp_path / "d.jsonl")
    assert "row a: the confidence 87 from stack is not in [0, 1]" in str(failed.exception)


def test_validate_checks_the_promise_of_each_source(folder, tmp_path):
    fresh = [
        row.model_copy(update={"correct": row.correct or i % 2 > 0})
        for i, row in enumerate(two_sources(3000, 5, missing=0.2, prefix="t"))
    ]
    good = run("validate", folder / "p.json", saved(tmp_path / "t.jsonl", fresh))
    assert good.exit_code == ExitCode.DONE, good.output
    assert "From stack, every domain: holds." in good.stdout
    data = json.loads(run("validate", folder / "p.json", tmp_path / "t.jsonl", "--json").stdout)
    assert (data["source"], data["verdict"]) == ("stack", "holds")
    assert data["fallbacks"]["logprob_sum"]["checks"]["*"]["verdict"] == "holds"
    bare = [row.model_copy(update={"confidence": {"stack": row.confidence["stack"]}}) for row in fresh]
    unsaid = run("validate", folder / "p.json", saved(tmp_path / "b.jsonl", bare))
    assert unsaid.exit_code == ExitCode.CANNOT_SAY
    assert "no fresh row has a confidence from logprob_sum" in unsaid.stderr


def test_a_fallback_that_misses_the_goal_is_warned_of(tmp_path):
    rows = saved(tmp_path / "r.jsonl", two_sources(800, sharp=0.0))
    flags = ("--source", "stack", "--fallback", "logprob_sum", *GOAL, "--out", tmp_path / "p.json")
    made = run("calibrate", rows, *flags)
    assert made.exit_code == 0, made.output
    assert "the goal is not shown with logprob_sum: what falls back to it escalates" in made.stderr
    assert "logprob_sum, so it keeps nothing." in made.stdout
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["fallbacks"][0]["guarantee"] is None
    missed = run(
        "calibrate", rows, "--source", "logprob_sum", "--fallback", "stack", *GOAL, "--out", tmp_path / "q.json"
    )
    assert missed.exit_code == ExitCode.NO
    assert not (tmp_path / "q.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--source", "stack", "--fallback", "stack"), "got stack twice"),
        (("--source", "stack,logprob_sum", "--fallback", "logprob_sum"), "got logprob_sum twice"),
        (("--source", "stack", "--fallback", "reader"), "no row has a confidence from reader"),
        (("--source", "stack", "--fallback", ""), "no row has a confidence from "),
    ],
)
def test_an_order_that_makes_no_sense_is_one_sentence(folder, tmp_path, flags, words):
    failed = run("calibrate", folder / "r.jsonl", *flags, *GOAL, "--out", tmp_path / "p.json")
    assert words in str(failed.exception)
    assert not (tmp_path / "p.json").exists()


def test_a_store_is_read_source_by_source(tmp_path):
    pytest.importorskip("sqlalchemy")
    from decision_rows import decision
    from stores import using

    rng = np.random.default_rng(0)
    rows = []
    for i in range(900):
        source = "stack" if i % 3 else "logprob_sum"
        sure = float(rng.uniform(0.5, 1))
        told = {"source": source, "raw": sure if source == "stack" else float(np.log(sure)), "created": float(i)}
        told |= {"raw": None} if i % 30 == 1 else {}  # nothing was given: the row names the first source
        agreed = bool(rng.random() < sure)
        rows.append(decision(audit=True, audit_probability=0.1, domain=None, policy_id="pol_1", agreed=agreed, **told))

    async def fill(store) -> None:
        for row in rows:
            await store.add(row)

    url = f"sqlite:///{tmp_path}/confide.db"
    using(url, fill)
    flags = ("--from-store", url, "--max-risk", 0.3, "--calibrator", "platt")
    made = run("calibrate", *flags, "--fallback", "logprob_sum", "--out", tmp_path / "p.json")
    assert made.exit_code == 0, made.output
    policy = Policy.load(tmp_path / "p.json")
    assert [(part.source, part.guarantee.n) for part in policy.parts] == [("stack", 570), ("logprob_sum", 300)]
    assert "each row of the store has the confidence that decided, of logprob_sum or stack" in made.stderr
    # One source alone: the rows of the other are no rows of it.
    run("calibrate", *flags, "--source", "logprob_sum", "--out", tmp_path / "q.json")
    assert Policy.load(tmp_path / "q.json").guarantee.n == 300
    # A row that another source decided is not one that this source would have escalated, as one without any is.
    flags = ("--from-store", url, "--budget", 0.3, "--calibrator", "platt", "--fallback", "logprob_sum")
    made = run("calibrate", *flags, "--out", tmp_path / "b.json")
    assert made.exit_code == 0, made.output
    budget = Policy.load(tmp_path / "b.json")
    assert [part.guarantee.n for part in budget.parts] == [600, 300]
    # What the requests look like is that of all of them: those that fall back are among them.
    assert [(part.profile.n, part.profile.confidence.missing) for part in budget.parts] == [(900, 330), (300, 0)]
    assert "Rows of stack: 570 used, 30 without" not in made.stdout
    assert "Rows of stack: 570 used; 30 without a confidence" in made.stdout


def test_a_store_in_which_all_fell_back_has_no_rows_of_the_first_source(tmp_path):
    pytest.importorskip("sqlalchemy")
    from decision_rows import decision
    from stores import using

    async def fill(store) -> None:
        for i in range(200):
            told = {
                "source": "logprob_sum",
                "raw": -0.01 * i,
                "created": float(i),
                "agreed": i % 9 > 0,
                "policy_id": "p",
            }
            await store.add(decision(audit=True, audit_probability=0.1, domain=None, **told))

    url = f"sqlite:///{tmp_path}/confide.db"
    using(url, fill)
    flags = ("--from-store", url, "--max-risk", 0.3, "--out", tmp_path / "p.json")
    for first in ((), ("--source", "stack")):
        failed = run("calibrate", *flags, *first, "--fallback", "logprob_sum")
        assert "no row has a confidence from stack; there are: logprob_sum" in str(failed.exception)
    assert run("calibrate", *flags).exit_code == 0  # without an order the one that is there


def test_ask_decides_by_the_first_source_that_the_server_gives(folder, tmp_path):
    with Endpoint().running() as server:
        told = main("ask", server.url, folder / "p.json")
        assert told.exit_code == 0, told.output
        data = json.loads(told.stdout)
        free = Policy.load(folder / "p.json").fallbacks[0]
        assert data["source"] == "logprob_sum"  # this server gives no stack
        assert data["confidence"] == free.probability(data["raw"])
        assert data["threshold"] == free.probability(free.threshold())
        assert data["decision"] == free.decide(data["raw"])
        other = json.loads((folder / "p.json").read_text())
        other["fallbacks"] = []
        (tmp_path / "o.json").write_text(json.dumps(other))
        refused = main("ask", server.url, tmp_path / "o.json")
        assert "the policy decides on stack, which this model does not give" in str(refused.exception)


def main(verb: str, url: str, policy: Path):
    line = [
        verb,
        "--engine",
        "openai",
        "--base-url",
        url,
        "--model",
        "tiny",
        "--policy",
        policy,
        "--json",
        "Where is 7?",
    ]
    return CliRunner().invoke(app, [str(word) for word in line])
