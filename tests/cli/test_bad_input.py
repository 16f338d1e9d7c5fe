"""What a user can get wrong is one sentence and exit code 2, for every verb: never a traceback, never a file made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from confide.cli.exit_codes import ExitCode
from confide.cli.main import main
from policy_runs import foreign, write

SAVED = Path(__file__).parents[1] / "methods" / "saved"
MODEL = SAVED / "reader"


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """Runs ``confide`` in a folder of its own; gives its exit code and what it said on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["confide", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        assert isinstance(code, int)
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return int(code), error

    return run


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.jsonl", foreign(400))


CONTENTS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "zeros": b"\0" * 64,
    "number": b"5\n",
    "null": b"null\n",
    "list": b"[1, 2]\n",
    "text": b'"a"\n',
    "deep": b"[" * 100_000,
    "surrogate": b'{"id": "\\ud800", "confidence": 0.5, "correct": true}\n',
    "long number": b'{"id": "a", "confidence": 1' + b"0" * 400 + b', "correct": true}\n',
}
READING = {
    "evaluate": "evaluate {file} --out r",
    "calibrate": "calibrate {file} --max-risk 0.3 --out p.json",
    "split": "split {file} --out s.jsonl",
    "hedge": "hedge {file} --out h.jsonl",
    "signal-quality": "signal-quality {file}",
    "score": "score {file} --source logprob_sum --out s.jsonl",
    "train portable": "train portable {file} --out t",
    "portable": "score rows.jsonl --portable {file} --out s.jsonl",
    "train": f"train reader --model {MODEL} {{file}} --out t",
    "expert": "calibrate rows.jsonl --match-expert 0.1 --expert {file} --out p.json",
    "annotate": f"annotate --model {MODEL} --task {{file}} --out a.jsonl",
    "policy": "policy show {file}",
    "validate": "validate {file} rows.jsonl",
    "decide": "decide {file} rows.jsonl --out d.jsonl",
    "ask": f"ask --model {MODEL} --policy {{file}} hello",
    "model": "ask --model {file} hello",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("verb", READING)
def test_a_file_that_holds_something_else(told, rows, tmp_path, verb, content):
    for suffix in (".parquet", ".csv", ".jsonl"):
        file = tmp_path / f"x{suffix}"
        file.write_bytes(CONTENTS[content])
        code, error = told(*READING[verb].format(file=file.name).split())
        assert code == ExitCode.BAD_INPUT, (suffix, error)
        assert error.splitlines()[-1].startswith("confide: ")


@pytest.mark.parametrize("verb", READING)
def test_a_file_that_is_not_there_or_is_a_folder(told, rows, tmp_path, verb):
    (tmp_path / "folder").mkdir()
    for file in ("absent.jsonl", "folder"):
        code, error = told(*READING[verb].format(file=file).split())
        assert code == ExitCode.BAD_INPUT
        assert file in error


SEEDED = (
    "evaluate rows.jsonl --out r", "calibrate rows.jsonl --max-risk 0.5 --out p.json", "split rows.jsonl --out s.jsonl",
    "signal-quality rows.jsonl", "score rows.jsonl --source shuffled --out s.jsonl",
    "hedge rows.jsonl --out h.jsonl", f"annotate --model {MODEL} --task arithmetic --out a.jsonl",
    "train portable rows.jsonl --out t", f"train stack --model {MODEL} rows.jsonl --out t",
    f"train reader --model {MODEL} rows.jsonl --out t",
    f"train self-ref --model {MODEL} rows.jsonl --out t",
    f"train rlmf --model {MODEL} rows.jsonl --out t", "demo --quick --out d",
)  # fmt: skip


@pytest.mark.parametrize("verb", SEEDED)
@pytest.mark.parametrize("seed", ["-1", str(2**32), "nan"])
def test_seeds_lie_between_0_and_2_to_the_32(told, rows, tmp_path, verb, seed):
    before = sorted(tmp_path.iterdir())
    code, error = told(*verb.split(), "--seed", seed)
    assert code == ExitCode.BAD_INPUT
    assert "--seed" in error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        *(f"calibrate rows.jsonl {goal} {value} --out p.json"
          for goal in ("--max-risk", "--budget", "--match-expert", "--max-false-alarms", "--max-risk 0.3 --level")
          for value in ("nan", "inf", "-1", "1", "2", "x")),
        *(f"annotate --model {MODEL} --task arithmetic --samples 2 --out a.jsonl {flag} {value}"
          for flag, values in {"--temperature": "nan inf 0 -1", "--limit": "-1 0 1.5 " + "9" * 30,
                               "--batch-size": "0 -1", "--max-new-tokens": "0 -1", "--reject": "nan -1 2"}.items()
          for value in values.split()),
        *(f"train self-ref --model {MODEL} rows.jsonl --out t {flag} {value}"
          for flag, values in {"--ratio": "nan inf x", "--learning-rate": "-1 inf nan", "--rank": "0",
                               "--kl-weight": "-1 nan"}.items()
          for value in values.split()),
        "evaluate rows.jsonl --out r --expert-cost nan", "evaluate rows.jsonl --out r --resamples 0",
        "calibrate rows.jsonl --cost answer=nan,escalate=1,wrong=2 --out p.json",
        "split rows.jsonl --out s.jsonl --sizes train=-1",
        f"ask --model {MODEL} --chat-template-kwargs {'[' * 9999} hello",
    ],
)  # fmt: skip
def test_numbers_that_no_verb_takes(told, rows, tmp_path, arguments):
    before = sorted(tmp_path.iterdir())
    code, _ = told(*arguments.split())
    assert code == ExitCode.BAD_INPUT
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "a/b/c", "bad name", "~/nothing", "", " ", ".x", "typo"])
def test_a_model_that_is_not_there(told, rows, tmp_path, name):
    for verb in ("ask hello", "annotate --task arithmetic --out a.jsonl"):
        before = sorted(tmp_path.iterdir())
        code, error = told(*verb.split(), "--model", name)
        assert code == ExitCode.BAD_INPUT
        assert "there is no" in error or "name is empty" in error
        assert sorted(tmp_path.iterdir()) == before


def _trained(tmp_path: Path, **changes: object) -> Path:
    """Rows that the saved model could learn from, with ``changes``."""
    made = [
        {"id": f"r{i}", "answer": "a b", "answer_ids": [5, 6], "logprobs": [-0.5, -0.5],
         "split": ["test", "train", "validation"][i % 3], "messages": [{"role": "user", "content": f"what is {i}?"}]}
        | changes
        for i in range(12)
    ]  # fmt: skip
    for i, row in enumerate(made):
        row["correct"] = changes.get("correct", i // 3 % 2 == 0)
    return write(tmp_path / "trained.jsonl", made)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"answer_ids": [10**9]}, "1000000000 is no token of the model"),
        ({"answer_ids": [-7]}, "-7 is no token of the model"),
        ({"answer_ids": [2**70]}, "is no token of the model"),
        ({"reasoning_ids": [10**9]}, "1000000000 is no token of the model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "hi " * 9000}]}, "do not fit the model's context"),
        ({"split": "train"}, "both are needed"),
        ({"split": "test"}, "both are needed"),
        ({"correct": True}, "wrong"),
    ],
)
def test_rows_that_a_model_cannot_read(told, tmp_path, changes, sentence):
    file = _trained(tmp_path, **changes)
    for verb in ("reader", "self-ref"):
        code, error = told("train", verb, "--model", MODEL, file, "--out", f"t-{verb}")
        assert code == ExitCode.BAD_INPUT
        assert sentence in error


@pytest.mark.parametrize("changes", [{"answer_ids": [10**9]}, {"reasoning_ids": [-1]}, {"messages": []}])
def test_rows_that_a_model_cannot_score(told, tmp_path, changes):
    file = _trained(tmp_path, **changes)
    code, error = told("score", "--model", MODEL, file, "--source", "stack", "--out", "s.jsonl")
    assert code == ExitCode.BAD_INPUT
    assert "row r" in error
    # Another model's ids mean nothing here: its answer is read from its text.
    if "answer_ids" in changes:
        file = _trained(tmp_path, **changes, model="another")
        arguments = ("--model", MODEL, file, "--source", "stack", "--other-model", "--out", "s.jsonl")
        assert told("score", *arguments)[0] == ExitCode.DONE


def test_texts_without_a_word_have_the_base_rate_as_prior(told, tmp_path):
    file = _trained(tmp_path, messages=[{"role": "user", "content": "?"}], answer="!")
    code, error = told("score", file, "--source", "question_only,answer_only", "--out", "s.jsonl")
    assert code == ExitCode.DONE, error
    scored = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    rate = sum(row["correct"] for row in scored if row["split"] == "train") / 4
    for row in scored:
        if row["split"] == "test":
            assert row["confidence"] == pytest.approx({"question_only": rate, "answer_only": rate})


@pytest.mark.parametrize(
    "url", ["sqlite:///typo.db", "sqlite:///no/typo.db", "sqlite:///empty.db", "sqlite:///rows.jsonl", "sqlite:///.",
            "sqlite://", "typo.db", "", "mysql://h/d", "postgresql://127.0.0.1:1/x"],
)  # fmt: skip
def test_a_store_that_is_none_is_not_made(told, rows, tmp_path, url):
    (tmp_path / "empty.db").write_bytes(b"")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, _ = told("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", "p.json")
    assert code == ExitCode.BAD_INPUT
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "verb",
    ["evaluate rows.jsonl --resamples 10", "calibrate rows.jsonl --max-risk 0.5", "split rows.jsonl --sizes train=9",
     "hedge rows.jsonl --source given", f"score {SAVED / 'reader.jsonl'} --source logprob_sum",
     f"annotate --model {MODEL} --task arithmetic --limit 2", f"export --model {MODEL}"],
)  # fmt: skip
def test_an_output_that_cannot_be_made(told, rows, tmp_path, verb):
    for out in ("rows.jsonl/x", "/proc/x/y", "n" * 300):
        code, error = told(*verb.split(), "--out", out)
        assert code == ExitCode.BAD_INPUT, error


SHOWING = (
    ["tasks"], ["--help"], ["evaluate", "--help"], ["evaluate", "rows.jsonl", "--out", "r", "--resamples", "10"],
    ["calibrate", "rows.jsonl", "--max-risk", "0.5", "--out", "p.json"], ["signal-quality", "rows.jsonl"],
    ["hedge", "rows.jsonl", "--out", "h.jsonl"], ["split", "rows.jsonl", "--out", "ü\udcff.jsonl"],
    ["ask", "--model", str(MODEL), "--max-new-tokens", "2", "Zürich → 東京?"], ["no\udcff"],
)  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_shows_what_it_can(rows, tmp_path, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}
    code = "import sys; from confide.cli.main import main; main()"
    for arguments in SHOWING:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode("utf-8", "replace")
        assert done.returncode in (ExitCode.DONE, ExitCode.BAD_INPUT), arguments
        assert done.stdout or done.stderr
