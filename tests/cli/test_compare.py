import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.compare import compare, records_of
from confide.cli.evaluate import evaluate
from confide.cli.flags import command
from confide.errors import ConfideError
from confide.records import write_records
from two_runs import a_run

app = typer.Typer()
app.command()(command(compare))
judge = typer.Typer()
judge.command()(command(evaluate))


def run(*arguments, app=app):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_records(a, a_run(1, sharp=0.6)[:-2])
    write_records(b, a_run(2, sharp=1.6, bias=0.15)[1:])
    return a, b


def test_a_table_sentences_and_both_files(files, tmp_path):
    result = run(*files, "--out", tmp_path / "out", "--resamples", 30)
    assert result.exit_code == 0, result.output
    for words in (
        "B − A on 297 common rows",
        "stack",
        "B is right on",
        "1 row is only in A: q0.",
        "2 rows are only in B",
    ):
        assert words in result.output
    found = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert found["n"] == 297
    assert (tmp_path / "out" / "compare.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_is_written_unless_asked_and_json_is_what_the_file_holds(files, tmp_path):
    before = set(tmp_path.iterdir())
    result = run(*files, "--json", "--resamples", 20, "--seed", 3, "--source", "stack", "--max-risk", 0.2)
    assert set(tmp_path.iterdir()) == before
    found = json.loads(result.stdout)
    assert list(found["sources"]) == ["stack"]
    assert (found["max_risk"], found["bootstrap"]["seed"]) == (0.2, 3)


@pytest.fixture
def reports(files, tmp_path):
    folders = [tmp_path / "runs" / name for name in ("one", "two")]
    for file, folder in zip(files, folders, strict=True):
        result = run(file, "--out", folder, "--resamples", 5, app=judge)
        assert result.exit_code == 0, result.output
    return folders


def test_two_reports_are_compared_by_their_records(reports, files):
    ours = json.loads(run(*reports, "--json", "--resamples", 10).stdout)
    theirs = json.loads(run(*files, "--json", "--resamples", 10).stdout)
    assert ours.pop("names") != theirs.pop("names")
    assert ours == theirs


def test_a_folder_that_moved_with_its_records_is_found(reports, files, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(reports[0], moved / "report")
    shutil.move(files[0], moved / "a.jsonl")
    assert records_of(moved / "report") == moved / "a.jsonl"


def test_reports_whose_rows_cannot_be_had_are_refused(reports, files, tmp_path):
    (tmp_path / "empty").mkdir()
    old = json.loads((reports[1] / "results.json").read_text())
    (reports[1] / "results.json").write_text(json.dumps(old | {"records": None}))
    files[0].write_text(files[0].read_text() + '{"id": "late"}\n')
    for folder, words in (
        (tmp_path / "empty", "holds no results.json"),
        (reports[1], "does not say which records it is of"),
        (reports[0], "has changed since the report"),
    ):
        with pytest.raises(ConfideError, match=words):
            records_of(folder)
    files[0].unlink()
    with pytest.raises(ConfideError, match="which is not there"):
        records_of(reports[0])


def test_the_report_names_the_readers_own_file(reports, files):
    page = (reports[0] / "report.html").read_text(encoding="utf-8")
    assert f"confide calibrate {files[0]} --source stack" in page
    assert "S.jsonl" not in page
