"""What a verb writes never costs what it reads, and is whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from confide.cli.main import app
from confide.errors import ConfideError
from confide.files import locked, locked_file
from policy_runs import foreign, write

CLI = "import sys; from confide.cli.main import main; main()"


def confide(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, ConfideError), result.output
    return str(result.exception)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A folder with every kind of input, which no test may change."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "r.jsonl", foreign(60))
    write(tmp_path / "e.jsonl", foreign(60))
    write(tmp_path / "q.jsonl", [{"kind": "short", "question": "?", "answer": "x"}])
    (tmp_path / "run").mkdir()
    for name in ("results.json", "log.jsonl"):
        write(tmp_path / "run" / name, foreign(60))
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    (tmp_path / "p.json").write_text("{}")
    (tmp_path / "s.db").write_text("")
    (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "r.jsonl")
    (tmp_path / "soft.jsonl").symlink_to("r.jsonl")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "soft.json").symlink_to("model/config.json")
    (tmp_path / "questions").write_bytes((tmp_path / "q.jsonl").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    yield tmp_path
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("calibrate r.jsonl --max-risk 0.2 --out r.jsonl", "RECORDS"),
        ("calibrate r.jsonl --max-risk 0.2 --out ./run/../r.jsonl", "RECORDS"),
        ("calibrate r.jsonl --max-risk 0.2 --out hard.jsonl", "RECORDS"),
        ("calibrate soft.jsonl --max-risk 0.2 --out r.jsonl", "RECORDS"),
        ("calibrate r.jsonl --match-expert 0.1 --expert e.jsonl --out e.jsonl", "--expert"),
        ("calibrate r.jsonl --max-risk 0.2 --config c.yaml --out c.yaml", "--config"),
        ("calibrate --from-store sqlite:///s.db --max-risk 0.2 --out s.db", "--from-store"),
        ("split r.jsonl --out soft.jsonl", "RECORDS"),
        ("score r.jsonl --out r.jsonl", "RECORDS"),
        ("hedge r.jsonl --source given --out r.jsonl", "RECORDS"),
        ("decide p.json r.jsonl --out p.json", "POLICY"),
        ("decide p.json r.jsonl --out r.jsonl", "RECORDS"),
        ("annotate --task q.jsonl --out q.jsonl", "--task"),
        ("annotate --task questions --out questions", "--task"),
        ("annotate --task q.jsonl --model model --out model/config.json", "--model"),
        ("score r.jsonl --model model --out model/config.json", "--model"),
        ("score r.jsonl --verifier model --out soft.json", "--verifier"),
        ("evaluate run/results.json --out run", "RECORDS"),
        ("evaluate --matrix a=r.jsonl --matrix b=run/results.json --out run", "--matrix"),
        ("evaluate r.jsonl --expert run/results.json --out run", "--expert"),
        ("score r.jsonl --portable run --out run/results.json", "--portable"),
        ("train rlmf run/log.jsonl --out run", "RECORDS"),
        ("train stack r.jsonl --model model --out model", "--model"),
        ("train reader r.jsonl --model model --out model", "--model"),
        ("train self-ref r.jsonl --model ./model --out model/.", "--model"),
    ],
)
def test_an_input_is_never_the_output(inputs: Path, arguments: str, read: str) -> None:
    sentence = refused(*arguments.split())
    assert sentence.startswith("--out would overwrite ")
    assert sentence.endswith(f", which is read as {read}: choose another")


@pytest.mark.parametrize("out", ["kept.json", "link.json", "run", "kept.json/below.json"])
@pytest.mark.parametrize(
    "verb",
    [
        "calibrate r.jsonl --max-risk 0.2",
        "split r.jsonl",
        "score r.jsonl",
        "hedge r.jsonl --source given",
        "decide p.json r.jsonl",
        "annotate --model nowhere",
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_work_starts(inputs: Path, verb: str, out: str) -> None:
    kept = inputs / "kept.json"
    kept.touch(mode=0o444)
    (inputs / "link.json").symlink_to("kept.json")
    assert ("a folder" if out == "run" or "below" in out else "is read-only") in refused(*verb.split(), "--out", out)
    kept.unlink()


@pytest.mark.parametrize(
    "verb",
    [
        "evaluate r.jsonl",
        "train reader r.jsonl",
        "train portable r.jsonl",
        "export --model model",
        "demo",
    ],
)
def test_a_folder_that_is_a_file_is_told_before_work_starts(inputs: Path, verb: str) -> None:
    assert "p.json is a file, --out wants a folder" in refused(*verb.split(), "--out", "p.json")
    assert "p.json is a file, a folder is wanted" in refused(*verb.split(), "--out", "p.json/below")


def test_a_file_of_the_folder_that_is_read_only_is_told_before_work_starts(inputs: Path) -> None:
    page = inputs / "run" / "report.html"
    page.touch(mode=0o444)
    assert "report.html is read-only" in refused("evaluate", "e.jsonl", "--out", "run")
    page.unlink()


def test_no_empty_file_is_written_that_no_verb_reads(inputs: Path) -> None:
    assert refused("split", "r.jsonl", "--sizes", "test=0", "--out", "e.jsonl") == "--sizes test=0 leaves no row"


def test_a_file_that_is_called_like_a_name_is_no_input(inputs: Path) -> None:
    hedged = inputs / "stack"
    hedged.touch()
    result = CliRunner().invoke(app, ["hedge", "r.jsonl", "--source", "stack", "--out", "stack"])
    assert result.exit_code == 0, result.output
    assert hedged.read_text().count("\n") == 60
    hedged.unlink()


def test_a_file_that_is_appended_to_belongs_to_one_run_and_its_folder_to_all(inputs: Path) -> None:
    hedge = ["hedge", "r.jsonl", "--source", "given", "--out"]
    with locked_file(inputs / "new.jsonl"), locked(inputs):
        assert f"in use by another run: process {os.getpid()} on" in refused(*hedge, "run/../new.jsonl")
        result = CliRunner().invoke(app, [*hedge, "other.jsonl"])
    assert result.exit_code == 0, result.output
    (inputs / "other.jsonl").unlink()


@pytest.mark.parametrize(
    "verb",
    ["annotate --model nowhere", "decide p.json r.jsonl", "hedge r.jsonl", "score r.jsonl", "split r.jsonl"],
)
def test_records_are_not_written_as_csv(inputs: Path, verb: str) -> None:
    assert ".jsonl" in refused(*verb.split(), "--out", "new.csv")


def test_scores_in_csv_go_through_every_verb(tmp_path: Path) -> None:
    lines = [
        f"{row['id']};{str(row['confidence']).replace('.', ',')};{'yes' if row['correct'] else 'no'}"
        for row in foreign(900)
    ]
    (tmp_path / "r.csv").write_text("\n".join(["id;score;label", *lines]))
    lines = [f"{row['id']},1" for row in foreign(900)]
    (tmp_path / "expert.csv").write_text("\n".join(["id,correct", *lines]))
    rows, out, expert = tmp_path / "r.csv", tmp_path / "out", tmp_path / "expert.csv"
    policy = out / "policy.json"
    for arguments, code in (
        (("evaluate", rows, "--expert", expert, "--out", out, "--resamples", 5), 0),
        (("signal-quality", rows, "--resamples", 5), 0),
        (("split", rows, "--sizes", "train=9,test=9", "--out", out / "s.jsonl"), 0),
        (("calibrate", rows, "--match-expert", 0.3, "--expert", expert, "--level", 0.9, "--out", policy), 0),
        (("validate", policy, rows, "--expert", expert), 0),
        (("decide", policy, rows, "--out", out / "d.jsonl"), 0),
        (("hedge", rows, "--source", "given", "--out", out / "h.jsonl"), 0),
        (("score", rows, "--source", "constant", "--out", out / "scored.parquet"), 0),
        (("train", "reader", rows, "--out", out / "model"), 2),  # no splits, but read
    ):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        sentence = str(done.exception)
        assert done.exit_code == code or (code and isinstance(done.exception, ConfideError)), (
            arguments,
            done.output,
            sentence,
        )
        assert "csv" not in sentence or "0 graded train" in sentence
    assert (out / "d.jsonl").read_text().count("\n") == 900


@pytest.mark.parametrize(
    "verb", ["evaluate", "calibrate --max-risk 0.1", "split", "signal-quality", "score", "hedge",
             "train portable", "train stack", "train reader", "train self-ref",
             "train rlmf", "decide p.json",
             "validate p.json"]
)  # fmt: skip
@pytest.mark.parametrize("line", ["5", "null", '{"id": "b", "correct": "maybe"}', '{"id": "b", "x": tru}'])
def test_a_line_that_is_no_record_is_named_by_every_verb(tmp_path: Path, made: Path, verb: str, line: str) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps(foreign(1)[0]) + f"\n{line}")
    words = [str(made) if word == "p.json" else word for word in verb.split()]
    out = [] if words[0] in ("signal-quality", "validate") else ["--out", str(tmp_path / "new")]
    assert "records.jsonl, line 2: " in refused(*words, records, *out)
    assert not (tmp_path / "new").exists()


def test_a_half_written_last_line_is_said_on_standard_error(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in foreign(60)) + '{"id": "x", "corr')
    done = confide("split", records, "--sizes", "test=60", "--out", tmp_path / "s.jsonl")
    assert done.returncode == 0, done.stderr
    said, next_ = done.stderr.splitlines()
    assert said == f"{records}: the half-written last line is left out"
    assert next_.startswith("Next: confide train portable ")


def test_standard_output_and_pipes_hold_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    records = write(tmp_path / "r.jsonl", foreign(60))
    for verb in (
        ("split", records, "--sizes", "test=60"),
        ("score", records, "--source", "constant"),
        ("hedge", records, "--source", "given"),
    ):
        done = confide(*verb, "--out", "/dev/stdout")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["id"] for row in rows] == [row["id"] for row in foreign(60)]
        assert "/dev/stdout: " in done.stderr
    assert not Path("/dev/.stdout.lock").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize("out", ["new.parquet", "old.parquet"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_the_old_file_and_nothing_else(tmp_path: Path, number: int, out: str) -> None:
    records = write(tmp_path / "r.jsonl", foreign(60))
    (tmp_path / "old.parquet").write_bytes(b"old")
    slow = (
        "import pyarrow.parquet, time, pathlib\n"
        "def write_table(table, path):\n"
        "    pathlib.Path(path).write_bytes(b'half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "pyarrow.parquet.write_table = write_table\n"
    )
    command = [
        sys.executable,
        "-c",
        slow + CLI,
        "split",
        str(records),
        "--sizes",
        "test=60",
        "--out",
        str(tmp_path / out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 143, errors
        assert errors == ""
    assert process.returncode != 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.parquet", "r.jsonl"]
    assert (tmp_path / "old.parquet").read_bytes() == b"old"


def test_a_run_that_is_stopped_gives_its_folder_back(tmp_path: Path) -> None:
    records = write(tmp_path / "r.jsonl", foreign(60))
    slow = (
        "import time, confide.cli.evaluate as module\n"
        "def write_text(path, text):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "module.write_text = write_text\n"
    )
    arguments = ["evaluate", str(records), "--out", str(tmp_path / "out"), "--resamples", "5"]
    process = subprocess.Popen([sys.executable, "-c", slow + CLI, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert f"in use by another run: process {process.pid} on {os.uname().nodename}" in refused(*arguments)
    process.terminate()
    assert process.wait(60) == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_the_server_keeps_its_own_way_to_stop(tmp_path: Path) -> None:
    code = (
        "import signal, sys, confide.cli.main as module\n"
        "module.app = lambda: print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
        "for verb in ('serve', 'split'):\n    sys.argv = ['confide', verb]\n"
        "    try:\n        module.main()\n    except SystemExit:\n        pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
