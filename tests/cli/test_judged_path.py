"""From answers that no grader can tell right from wrong to a promise: a judge, a sheet, a person's labels, a policy."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.engines.openai import patient_server
from confide.errors import ConfideError
from confide.records import Message, Record, read_records, write_records
from endpoint_server import Endpoint, share_of

QUESTIONS = 900


def right(name: str) -> bool:
    """Whether the answer to a question is right: more often where the model is sure."""
    return share_of(name, "right") > share_of(f"Write about {name}.") ** 2


@dataclass
class JudgingEndpoint(Endpoint):
    """Serves a judge, too: it is wrong on one answer in ten, and says nothing on the ``quiet`` ones."""

    quiet: Sequence[str] = ()

    def tokens_of(self, text: str, pieces: list[str], body: dict[str, Any]) -> list[dict[str, Any]]:
        tokens = super().tokens_of(text, pieces, body)
        if body["model"] != "big" or "Proposed answer" not in text:
            return tokens
        found = re.search(r"Write about (\w+)\.", text)
        assert found is not None
        says = right(found[1]) != (share_of(found[1], "judge") < 0.1)
        listed = [{"token": "Yes" if says else "No", "logprob": -0.1}, {"token": "Yes no"[says * 4 :], "logprob": -3.0}]
        tokens[0]["top_logprobs"] = [] if found[1] in self.quiet else listed
        return tokens


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgingEndpoint]:
    monkeypatch.setattr(patient_server, "_FIRST_WAIT_S", 0.001)
    with JudgingEndpoint(knows=lambda text: f"An essay for: {text}"[:60]).running() as server:
        yield server  # type: ignore[misc]


@pytest.fixture
def line(endpoint: JudgingEndpoint, tmp_path: Path) -> list[object]:
    rows = [{"id": f"q{n}", "kind": "prompt", "question": f"Write about q{n}."} for n in range(QUESTIONS)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["annotate", "--engine", "openai", "--base-url", endpoint.url, "--model", "tiny", "--judge", "big",
            "--task", tmp_path / "q.jsonl", "--out", tmp_path / "r.jsonl"]  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def fill(sheet: Path, count: int) -> list[dict[str, str]]:
    """Label the first ``count`` rows of a sheet, as a person would."""
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:count]:
        row["correct"] = "yes" if right(row["id"]) else "no"
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def judging(endpoint: JudgingEndpoint) -> list[str]:
    """What the judge was asked."""
    texts = [body["messages"][-1]["content"] for body in endpoint.requests if body["model"] == "big"]
    return [text for text in texts if "Proposed answer" in text]


def test_from_a_judge_to_a_promise(endpoint: JudgingEndpoint, line: list[object], tmp_path: Path) -> None:
    done = run(*line)
    assert done.exit_code == 0, done.output
    rows = read_records(tmp_path / "r.jsonl")
    assert all(row.correct is None and row.judged_by == "big" for row in rows)
    wrong = sum(row.judged != right(row.id) for row in rows)
    assert 0.05 * QUESTIONS < wrong < 0.15 * QUESTIONS
    told = re.search(
        r"(\d+) without a grade, of which (\d+) are right and (\d+) wrong by the judge's word", done.output
    )
    assert told is not None
    assert [int(n) for n in told.groups()] == [QUESTIONS, (n := sum(bool(r.judged) for r in rows)), QUESTIONS - n]
    assert len(judging(endpoint)) == QUESTIONS
    assert judging(endpoint)[0].startswith("Question: Write about")

    sheet, labelled = tmp_path / "sheet.csv", tmp_path / "labelled.jsonl"
    assert run("label", tmp_path / "r.jsonl", "--out", sheet).exit_code == 0
    listed = fill(sheet, 250)
    assert {row["id"] for row in listed} == {r.id for r in rows if r.split in ("calibration", "test")}
    assert "judged" not in listed[0]
    taken = run("label", tmp_path / "r.jsonl", "--labels", sheet, "--out", labelled)
    assert taken.exit_code == 0, taken.output
    rows = read_records(labelled)
    known = [row for row in rows if row.correct is not None]
    assert {row.id for row in known} == {row["id"] for row in listed[:250]}
    missed, alarms = (sum(row.judged is said and row.correct is not said for row in known) for said in (True, False))
    assert f"on 250 labelled ones: missed {missed}, false alarms {alarms}." in taken.output

    scored, policy = tmp_path / "scored.jsonl", tmp_path / "policy.json"
    assert run("score", labelled, "--source", "logprob_sum", "--out", scored).exit_code == 0
    ready = ["--source", "logprob_sum", "--max-risk", "0.4", "--level", "0.9", "--out", policy]
    made = run("calibrate", scored, *ready)
    assert made.exit_code == 0, made.output
    g = json.loads(policy.read_text())["guarantee"]
    used = [row for row in rows if row.split == "calibration"]
    assert g["n"] == len(used)
    count = sum(row.correct is not None for row in used)
    assert f"{len(used)} used" in made.output
    assert f"fitted on the {count} rows with a label" in made.output
    assert f"graded by big, whose own error was measured on {g['judge']['labelled']} labelled ones" in made.output
    checked = run("validate", policy, scored)
    assert checked.exit_code in (ExitCode.DONE, ExitCode.CANNOT_SAY), checked.output
    assert "graded by big" in checked.output
    told = json.loads(run("validate", policy, scored, "--json").stdout)
    assert told["judge"].keys() == {"by", "judged", "labelled", "missed", "false_alarms"}
    assert (told["judge"]["by"], told["exit_code"]) == ("big", checked.exit_code)
    seen = run("evaluate", scored, "--out", tmp_path / "report", "--resamples", 20)
    assert seen.exit_code == 0, seen.output
    tested = [row for row in rows if row.split == "test"]
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["n"] == sum(row.correct is not None for row in tested)
    assert results["judge"]["judged"] == len(tested)
    assert results["judge"]["labelled"] == results["n"]
    assert "All figures are of rows with a label." in " ".join(seen.output.split())
    assert "All figures are of rows with a label." in (tmp_path / "report" / "report.html").read_text()


def test_verdicts_that_did_not_come_are_asked_for_again_and_no_others(
    endpoint: JudgingEndpoint, line: list[object], tmp_path: Path
) -> None:
    endpoint.quiet = [f"q{n}" for n in range(0, 60, 2)]
    first = run(*line)
    assert first.exit_code == ExitCode.LEFT_OUT, first.output
    assert "30 answers got no verdict of the judge" in first.stderr
    before = {row.id: row for row in read_records(tmp_path / "r.jsonl")}
    assert sum(row.judged is None for row in before.values()) == 30
    endpoint.quiet = ()
    endpoint.requests.clear()
    assert run(*line).exit_code == ExitCode.DONE
    after = read_records(tmp_path / "r.jsonl")
    assert len(judging(endpoint)) == 30
    assert all(row.judged is not None for row in after)
    assert all(before[row.id] == row for row in after if before[row.id].judged is not None)


def test_one_judge_judges_a_file(endpoint: JudgingEndpoint, line: list[object], tmp_path: Path) -> None:
    line = [*line, "--limit", 20]
    assert run(*line).exit_code == 0
    (tmp_path / "r.jsonl").write_text(
        (tmp_path / "r.jsonl").read_text().replace('"judged_by": "big"', '"judged_by": "old"')
    )
    done = run(*line)
    assert isinstance(done.exception, ConfideError)
    assert "holds verdicts of old, not of big" in str(done.exception)


def test_what_a_grader_can_tell_is_not_judged(endpoint: JudgingEndpoint, line: list[object], tmp_path: Path) -> None:
    endpoint.knows = lambda text: "1.234" if "q1" in text else "12"
    rows: list[dict[str, Any]] = [
        {"id": "q1", "kind": "number", "question": "Write about q1.", "answer": "1234"},  # may be 1.234 or 1234
        {"id": "q2", "kind": "number", "question": "Write about q2.", "answer": "12"},
        {"id": "q3", "kind": "short", "question": "Write about q3.", "answer": []},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(*line).exit_code == 0
    found = {row.id: (row.correct, row.judged is None) for row in read_records(tmp_path / "r.jsonl")}
    assert found == {"q1": (None, False), "q2": (True, True), "q3": (None, False)}
    told = {text.partition("about ")[2][:2]: text for text in judging(endpoint)}
    assert "\nRight answer: 1234\nProposed answer: 1.234\n" in told["q1"]
    assert "Right answer" not in told["q3"]


def test_a_judge_needs_a_server_that_tells_a_yes_from_a_no(endpoint: JudgingEndpoint, line: list[object]) -> None:
    endpoint.logprobs = False
    done = run(*line)
    assert isinstance(done.exception, ConfideError)
    assert "--judge big: its server tells no top_logprobs" in str(done.exception)
    streamed = run(*line[:-1], "/dev/stdout")
    assert isinstance(streamed.exception, ConfideError)
    assert "--out must be a file" in str(streamed.exception)


def judged(tmp_path: Path, **fields: object) -> Path:
    rows = [Record(id=f"q{n}", answer="a", judged=n % 2 == 0, **fields) for n in range(20)]  # type: ignore[arg-type]
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(row.line() + "\n" for row in rows))
    return path


def test_the_order_of_a_sheet_is_random_and_hangs_on_the_seed_alone(tmp_path: Path) -> None:
    path, sheets = judged(tmp_path), [tmp_path / f"{n}.csv" for n in range(3)]
    for sheet, seed in zip(sheets, (0, 0, 1), strict=True):
        assert run("label", path, "--seed", seed, "--out", sheet).exit_code == 0
    one, again, other = ([line.partition(",")[0] for line in sheet.read_text().splitlines()[1:]] for sheet in sheets)
    assert one == again != other
    assert sorted(one) == sorted(other) == sorted(row.id for row in read_records(path))
    assert one != [row.id for row in read_records(path)]


@pytest.mark.parametrize(
    ("sheet", "said"),
    [
        ("id,correct\nq1,yes\nz,no\n", "1 of its ids are not among the records, first z"),
        ("id,correct\nq1,\n", "no row has a label in the column `correct`"),
        ("id,correct\nq1,maybe\n", "neither true nor false"),
        ("id,correct\nq1,yes\nq1,no\n", "q1"),
    ],
)
def test_a_sheet_that_says_nothing_of_these_rows_is_refused(tmp_path: Path, sheet: str, said: str) -> None:
    (tmp_path / "s.csv").write_text(sheet)
    done = run("label", judged(tmp_path), "--labels", tmp_path / "s.csv", "--out", tmp_path / "o.jsonl")
    assert isinstance(done.exception, ConfideError)
    assert said in str(done.exception)
    assert not (tmp_path / "o.jsonl").exists()


def written(path: Path, seed: int = 0) -> list[dict[str, str]]:
    """The rows of a sheet of these records."""
    sheet = path.with_name(f"sheet-{seed}.csv")
    assert run("label", path, "--seed", seed, "--out", sheet).exit_code == 0
    with sheet.open(newline="") as file:
        return list(csv.DictReader(file))


def taken_in(path: Path, rows: list[dict[str, str]], *flags: object) -> Result:
    sheet = path.with_name("filled.csv")
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return run("label", path, "--labels", sheet, "--out", path.with_name("o.jsonl"), *flags)


def test_labels_that_are_no_random_sample_are_refused(tmp_path: Path) -> None:
    path = judged(tmp_path)
    rows = [row | {"correct": "yes" if at < 8 else ""} for at, row in enumerate(written(path))]
    blank = [row | {"correct": ""} if at in (2, 5) else row for at, row in enumerate(rows)]
    gone = [row for at, row in enumerate(rows) if at not in (2, 5)]
    chosen = [row | {"correct": "" if at < 12 else "no"} for at, row in enumerate(rows)]
    for some, count, first in ((blank, 2, 2), (gone, 2, 2), (gone[:6], 2, 2), (chosen, 12, 0)):
        done = taken_in(path, some)
        said = f"{count} rows above the last label of the sheet have none, first {rows[first]['id']}"
        assert isinstance(done.exception, ConfideError)
        assert said in str(done.exception)
        assert not (tmp_path / "o.jsonl").exists()
    assert taken_in(path, rows, "--seed", 3).exception is not None  # the order of another sheet


def test_labels_of_the_first_rows_are_taken_in_however_the_sheet_is_sorted(tmp_path: Path) -> None:
    path = judged(tmp_path)
    rows = [row | {"correct": "yes" if at < 8 else ""} for at, row in enumerate(written(path, 4))]
    for some in (rows, rows[:8], sorted(rows, key=lambda row: row["id"])):
        assert taken_in(path, some, "--seed", 4).exit_code == 0
        found = [row.id for row in read_records(tmp_path / "o.jsonl") if row.correct]
        assert sorted(found) == sorted(row["id"] for row in rows[:8])
    # More of the same sheet, and another sheet of what is left.
    labelled = (tmp_path / "o.jsonl").rename(tmp_path / "l.jsonl")
    more = [row | {"correct": "yes" if at < 12 else ""} for at, row in enumerate(rows)]
    assert taken_in(labelled, more, "--seed", 4).exit_code == 0
    left = written(labelled, 5)
    assert {row["id"] for row in left} == {row["id"] for row in rows[8:]}
    assert taken_in(labelled, [row | {"correct": "no"} for row in left[:3]], "--seed", 5).exit_code == 0
    assert sum(row.correct is not None for row in read_records(tmp_path / "o.jsonl")) == 11


def test_a_label_does_not_overrule_another(tmp_path: Path) -> None:
    path = judged(tmp_path, correct=True)
    (tmp_path / "s.csv").write_text("id,correct\nq1,yes\nq2,no\n")
    done = run("label", path, "--labels", tmp_path / "s.csv", "--out", tmp_path / "o.jsonl")
    assert "1 labels contradict those that the records have, first of q2" in str(done.exception)
    nothing = run("label", path, "--out", tmp_path / "o.csv")
    assert "there is no judged answer without a label" in str(nothing.exception)
    ending = run("label", path, "--out", tmp_path / "o.jsonl")
    assert "should end in .csv" in str(ending.exception)


def test_a_sheet_keeps_what_an_answer_holds(tmp_path: Path) -> None:
    text = 'He said "no", then\nleft; =1+1'
    path = tmp_path / "r.jsonl"
    row = Record(id="q", answer=text, reference=1, choices=["red", "green"], kind="choice", judged=True)
    path.write_text(row.line() + "\n")
    assert run("label", path, "--out", tmp_path / "s.csv").exit_code == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        listed = next(csv.DictReader(file))
    assert (listed["given answer"], listed["right answer"], listed["correct"]) == (text, "green", "")
    fill(tmp_path / "s.csv", 1)
    assert run("label", path, "--labels", tmp_path / "s.csv", "--out", tmp_path / "o.jsonl").exit_code == 0
    (back,) = read_records(tmp_path / "o.jsonl")
    assert back == row.model_copy(update={"correct": right("q")})


def test_a_judge_says_which_sentence_is_right(endpoint: JudgingEndpoint, tmp_path: Path) -> None:
    rows = [
        Record(id=f"r{n}", model="tiny", reference="an essay", answer="It is long. It is dull.",
               messages=[Message(role="user", content=f"Write about q{n}.")])
        for n in range(20)
    ]  # fmt: skip
    write_records(tmp_path / "r.jsonl", rows)
    endpoint.quiet = ["q7"]
    line = ["parts", tmp_path / "r.jsonl", "--by", "sentences", "--out", tmp_path / "p.jsonl",
            "--engine", "openai", "--base-url", endpoint.url, "--judge", "big"]  # fmt: skip
    done = run(*line)
    assert (done.exit_code, "2 parts got no verdict of the judge" in done.output) == (4, True), done.output
    refused = run(*line[:5], "/dev/stdout", *line[6:])
    assert (refused.exit_code, "--out must be a file" in str(refused.exception)) == (1, True)
    found = read_records(tmp_path / "p.jsonl")
    assert len(found) == 40
    assert all((row.judged is None) == (row.id.startswith("r7#")) and row.correct is None for row in found)
    assert len(judging(endpoint)) == 40
    assert "Proposed answer: It is dull." in judging(endpoint)[1]
    assert "Right answer: an essay" in judging(endpoint)[1]
