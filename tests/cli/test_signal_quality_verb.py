import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from confide.cli.signal_quality_verb import signal_quality
from confide.errors import ConfideError
from confide.records import Record, Sample, write_records

app = typer.Typer()
app.command()(signal_quality)


@pytest.fixture
def rollouts(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(80):
        rolled = []
        for _ in range(4):
            gold = float(rng.random() < 0.5)
            said = {"f_pred": gold + rng.normal() / 2, "p_true": float(rng.random()), "[red]odd": float(rng.random())}
            rolled.append(Sample(answer="", answered="ab"[rng.integers(2)], confidence=said, f_gold=gold))
        rows.append(Record(id=str(i), samples=rolled))
    path = tmp_path / "rollouts.jsonl"
    write_records(path, rows)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_table_and_a_sentence_a_signal(rollouts):
    result = run(rollouts, "--resamples", 100)
    assert result.exit_code == 0, result.output
    assert "Rank correlation with f_gold; 320 answers, 80 questions" in result.output
    assert "f_pred: worth training on" in result.output
    assert "[red]odd: no evidence" in " ".join(result.output.split())
    assert "p_true †" in result.output
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_json_is_the_only_thing_on_standard_output(rollouts):
    result = run(rollouts, "--resamples", 20, "--json", "--seed", 3, "--target", "consistency", "--signal", "f_pred, ")
    found = json.loads(result.stdout)
    assert (found["target"], list(found["signals"])) == ("consistency", ["f_pred", "p_true"])
    assert found["bootstrap"]["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "truth"], "--target is f_gold, correct or consistency, not 'truth'"),
        (["--signal", "f_pred,other"], "no answer has the signal 'other'"),
        (["--target", "correct"], "no answer carries the target correct"),
    ],
)
def test_bad_input(rollouts, arguments, message):
    result = run(rollouts, *arguments)
    assert isinstance(result.exception, ConfideError)
    assert message in str(result.exception)


def test_a_missing_file(tmp_path):
    assert "does not exist" in str(run(tmp_path / "none.jsonl").exception)


def test_help_has_an_example():
    assert "confide signal-quality rollouts.jsonl" in run("--help").output
