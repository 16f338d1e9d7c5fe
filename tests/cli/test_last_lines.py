"""A verb's last line names the next command by the user's own files; after Ctrl-C it says what is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from shlex import split

import pytest
from typer.testing import CliRunner

from confide.cli import last_lines
from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from policy_runs import foreign, write


def confide(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "my runs"
    folder.mkdir()
    write(folder / "rows.jsonl", [row | {"answer": "a", "source": "x"} for row in foreign(900)])
    return folder


def test_each_step_names_one_that_the_command_line_takes(folder):
    """From scores on, every hint is followed to the letter until there is none that needs another file."""
    line = [
        "evaluate",
        str(folder / "rows.jsonl"),
        "--source",
        "given",
        "--out",
        str(folder / "report"),
        "--resamples",
        "20",
    ]
    assert confide(*line).exit_code == 0
    line = [
        "calibrate",
        str(folder / "rows.jsonl"),
        "--source",
        "given",
        "--max-risk",
        "0.2",
        "--out",
        str(folder / "p.json"),
    ]
    told = confide(*line)
    assert told.exit_code == 0, told.output
    *_, last = told.stderr.splitlines()
    assert split(last)[:4] == ["Next:", "confide", "validate", str(folder / "p.json")]
    fresh = [row | {"correct": i % 10 != 0} for i, row in enumerate(foreign(900, seed=5, prefix="f"))]
    write(folder / "fresh.jsonl", fresh)
    told = confide("validate", folder / "p.json", folder / "fresh.jsonl")
    *_, last = told.stderr.splitlines()
    assert split(last)[:4] == ["Next:", "confide", "decide", str(folder / "p.json")]
    told = confide("decide", folder / "p.json", folder / "rows.jsonl", "--out", folder / "d.jsonl")
    *_, last = told.stderr.splitlines()
    followed = confide(*split(last)[2:])
    assert followed.exit_code == 0, (last, followed.output, followed.exception)
    assert (folder / "hedged.jsonl").exists()


def test_standard_output_and_json_stay_clean(folder):
    plain = confide("score", folder / "rows.jsonl", "--source", "constant", "--out", folder / "s.jsonl")
    assert "Next:" not in plain.stdout
    assert "Next: confide evaluate" in plain.stderr
    told = confide("score", folder / "rows.jsonl", "--source", "constant", "--out", folder / "s.jsonl", "--json")
    assert "Next:" not in told.output


def test_nothing_is_said_of_a_stream_or_inside_another_verb(capsys):
    last_lines.tell_next("confide evaluate", Path("/dev/stdout"))
    with last_lines.running("demo", {}), last_lines.running("score", {}):
        last_lines.tell_next("confide evaluate")
    assert capsys.readouterr().err == ""
    last_lines.tell_next("confide evaluate", Path("a b"), comment="why")
    assert capsys.readouterr().err == "Next: confide evaluate 'a b'  # why\n"


def test_what_is_kept_has_a_sentence_for_every_kind_of_verb():
    out = Path("x.jsonl")
    assert last_lines.kept("annotate", out) == (
        "what is finished is in x.jsonl, and the same command goes on from there"
    )
    assert last_lines.kept("score", out) == "x.jsonl is as it was before, and the same command starts over"
    assert last_lines.kept("tasks", None) == "nothing was changed, and the same command starts over"
    from confide.cli.train import verbs

    functions = {"annotate", "hedge", "demo", "serve", *(verb.__name__ for verb in verbs.values())}
    assert set(last_lines.KEPT) <= functions


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_says_what_is_kept_in_one_sentence(folder):
    slow = (
        "import confide.methods.scoring as s, time\n"
        "def wait(*a, **k): print('ready', flush=True); time.sleep(60)\n"
        "s.score = wait\n"
        "from confide.cli.main import main; main()"
    )
    command = [sys.executable, "-c", slow, "score", "rows.jsonl", "--source", "constant", "--out", "s.jsonl"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Interrupted: s.jsonl is as it was before, and the same command starts over.\n" in told
    assert b"Abort" not in told
    assert not (folder / "s.jsonl").exists()


def test_a_hint_is_given_where_it_runs(folder):
    """No `hedge` where rows have no answers or columns of their own, nothing that names a file nobody has."""
    rows = foreign(900)
    lines = [f"{r['confidence']},{int(r['correct'])},a" for r in rows]
    (folder / "own.csv").write_text("\n".join(["p,correct,answer", *lines]) + "\n")
    (folder / "bare.csv").write_text("\n".join(["confidence,correct,answer", *lines]) + "\n")
    write(folder / "silent.jsonl", rows)
    policy, out = folder / "p.json", ("--out", folder / "d.jsonl")
    made = confide("calibrate", folder / "rows.jsonl", "--source", "given", "--max-risk", 0.2, "--out", policy)
    assert made.exit_code == 0, made.output
    for name, flags in (("own.csv", ("--confidence-column", "p")), ("bare.csv", ()), ("silent.jsonl", ())):
        told = confide("decide", policy, folder / name, *flags, *out)
        assert told.exit_code == 0, told.exception
        assert "Next:" not in told.stderr
    assert "Next: confide hedge" in confide("decide", policy, folder / "rows.jsonl", *out).stderr
    assert "NEW" not in confide("policy", "show", policy).output
    fresh = [f"{r['confidence']},{int(i % 10 != 0)}" for i, r in enumerate(foreign(900, seed=5))]
    (folder / "fresh.csv").write_text("\n".join(["p,correct", *fresh]) + "\n")
    told = confide("validate", policy, folder / "fresh.csv", "--confidence-column", "p")
    assert "NEW.csv --confidence-column p --out" in told.stderr
