"""``--config FILE`` of the verbs: values as on the command line, paths from the folder of the file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from confide.cli.exit_codes import ExitCode
from confide.cli.main import main
from policy_runs import foreign, write


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["confide", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert "Traceback" not in error
        code = stopped.value.code
        assert isinstance(code, int)
        return int(code), error

    return run


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder with rows and a configuration, which is not the working folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write(folder / "rows.jsonl", foreign(600))
    (folder / "c.yaml").write_text("records: rows.jsonl\nout: made/policy.json\nmax-risk: 0.4\nseed: 3\n")
    return folder


def test_paths_start_at_the_folder_of_the_file(told, elsewhere, tmp_path):
    code, error = told("calibrate", "--config", "elsewhere/c.yaml")
    assert code == ExitCode.DONE, error
    assert (elsewhere / "made" / "policy.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


def test_the_command_line_means_the_working_folder(told, elsewhere, tmp_path):
    code, _ = told("calibrate", "--config", "elsewhere/c.yaml", "--out", "here.json")
    assert code == ExitCode.DONE
    assert (tmp_path / "here.json").is_file()


@pytest.mark.parametrize("key", ["records", "expert", "out"])
def test_a_path_from_the_working_folder_is_refused_with_both_places(told, elsewhere, tmp_path, key):
    (tmp_path / "there.jsonl").write_text("{}\n")
    text = "max-risk: 0.4\nrecords: rows.jsonl\nout: p.json\n".replace(f"{key}:", "seed: 1 #")
    (elsewhere / "c.yaml").write_text(f"{text}{key}: there.jsonl\n")
    code, error = told("calibrate", "--config", "elsewhere/c.yaml")
    assert code == ExitCode.BAD_INPUT
    assert "elsewhere/there.jsonl" in error
    assert str(tmp_path / "there.jsonl") in error


def test_models_tasks_and_pairs_are_paths_where_there_is_one(told, elsewhere, tmp_path):
    saved = Path(__file__).parents[1] / "methods" / "saved" / "reader"
    shutil.copytree(saved, elsewhere / "model")
    (elsewhere / "q.jsonl").write_text('{"id": "1", "kind": "number", "question": "1 + 1?", "answer": "2"}\n')
    (elsewhere / "a.yaml").write_text("model: model\ntask: q.jsonl\nout: a.jsonl\nmax-new-tokens: 2\n")
    code, error = told("annotate", "--config", "elsewhere/a.yaml")
    assert code == ExitCode.DONE, error
    assert (elsewhere / "a.jsonl").read_text().count("\n") == 1
    (elsewhere / "m.yaml").write_text("matrix: ['one=rows.jsonl']\nout: report\nresamples: 10\n")
    code, error = told("evaluate", "--config", "elsewhere/m.yaml")
    assert code == ExitCode.DONE, error
    (elsewhere / "a=b.jsonl").write_bytes((elsewhere / "rows.jsonl").read_bytes())
    (elsewhere / "m.yaml").write_text("matrix: one=a=b.jsonl\nout: report\nresamples: 10\n")
    code, error = told("evaluate", "--config", "elsewhere/m.yaml")
    assert code == ExitCode.DONE, error
    (elsewhere / "arithmetic").mkdir()  # bundled names stay names
    (elsewhere / "a.yaml").write_text("model: model\ntask: arithmetic\nlimit: 1\nout: b.jsonl\nmax-new-tokens: 2\n")
    assert told("annotate", "--config", "elsewhere/a.yaml")[0] == ExitCode.DONE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: [1, 2]", "seed takes one value, not a list"),
        ("seed: {a: 1}", "seed takes a text or a number"),
        ("seed: true", "seed takes a text or a number"),
        ("seed: 2024-01-01", "datetime.date"),
        ("seed: 2024-13-45", "not valid YAML"),
        ("seed: 1.5", "--seed"),
        ("seed: .nan", "--seed"),
        ("seed: 1\nseed: 2", "line 1: seed is there twice"),
        ("max-risk: 1\nmax_risk: 2", "twice, with - and with _"),
        ("seed:\t1\n\tx: 2", "not valid YAML"),
        ("seed: 1\n---\nseed: 2", "line 2: not valid YAML"),
        ("seed: *nope", "not valid YAML"),
        ("? [a]\n: 1", "not valid YAML"),
        ("5", "must map names to values"),
        ("- 1", "must map names to values"),
        ("config: other.yaml", "no such flag: config"),
        ("help: true", "no such flag: help"),
        ("json: 5", "--json"),
        ("level: .inf", "--level takes a finite number"),
        ("seed: " + "[" * 3000, "not valid YAML"),
    ],
)
def test_what_a_file_cannot_say(told, elsewhere, text, sentence):
    (elsewhere / "c.yaml").write_text(text + "\n")
    code, error = told(
        "calibrate", "elsewhere/rows.jsonl", "--max-risk", 0.4, "--out", "p.json", "--config", "elsewhere/c.yaml"
    )
    assert code == ExitCode.BAD_INPUT
    assert sentence in " ".join(error.split())


def test_an_empty_file_and_an_empty_value_say_nothing(told, elsewhere):
    for text in ("", "seed:\n", "{}\n", "# nothing\n"):
        (elsewhere / "c.yaml").write_text(text)
        arguments = ("calibrate", "elsewhere/rows.jsonl", "--max-risk", 0.4, "--out", "p.json")
        assert told(*arguments, "--config", "elsewhere/c.yaml")[0] == ExitCode.DONE
