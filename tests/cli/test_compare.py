import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.compare import compare, file_of
from confide.cli.evaluate import evaluate
from confide.cli.flags import command
from confide.errors import ConfideError
from confide.records import write_records
from confide.score_columns import ScoreColumns
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
    assert file_of(moved / "report", ScoreColumns())[0] == moved / "a.jsonl"


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
            file_of(folder, ScoreColumns())
    files[0].unlink()
    with pytest.raises(ConfideError, match="which is not there"):
        file_of(reports[0], ScoreColumns())


def test_the_report_names_the_readers_own_file(reports, files):
    page = (reports[0] / "report.html").read_text(encoding="utf-8")
    assert f"confide calibrate {files[0]} --source stack" in page
    assert "S.jsonl" not in page


COLUMNS = ("--confidence-column", "score", "--correct-column", "ok")


@pytest.fixture
def tables(tmp_path):
    """CSVs with columns of their own: a and b call their scores otherwise."""
    for name, run_, score in (("a", a_run(1), "score"), ("b", a_run(2), "p")):
        lines = [f"{r.id},{r.confidence['stack']:.4f},{int(r.correct)}" for r in run_]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"qid,{score},ok", *lines]) + "\n")
    return tmp_path / "a.csv", tmp_path / "b.csv"


def test_a_report_remembers_the_columns_that_it_was_called_with(tables, tmp_path):
    for file, score, folder in zip(tables, ("score", "p"), ("ra", "rb"), strict=True):
        named = ("--confidence-column", score, "--correct-column", "ok", "--id-column", "qid")
        assert run(file, *named, "--out", tmp_path / folder, "--resamples", 5, app=judge).exit_code == 0
    page = (tmp_path / "ra" / "report.html").read_text(encoding="utf-8")
    flags = "--confidence-column score --correct-column ok --id-column qid --source score --max-risk"
    assert f"confide calibrate {tables[0]} {flags}" in page
    assert '"flags": "--confidence-column score ' in page.replace('"flags":"', '"flags": "')
    result = run(tmp_path / "ra", tmp_path / "rb", "--resamples", 5, "--json")
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert (found["n"], found["matched_by"], list(found["sources"])) == (300, "id", ["score / p"])
    mixed = run(tables[0], tmp_path / "rb", *COLUMNS, "--id-column", "qid", "--resamples", 5, "--json")
    assert json.loads(mixed.stdout)["sources"] == found["sources"]


def test_files_take_the_flags_and_without_ids_their_rows_are_matched_by_number(tables):
    tables[1].write_text(tables[1].read_text().replace("qid,p,ok", "qid,score,ok"))
    found = json.loads(run(*tables, *COLUMNS, "--resamples", 5, "--json").stdout)
    assert (found["n"], found["matched_by"]) == (300, "row")
    assert "The rows have no ids" in " ".join(found["verdict"]["sentences"])
    tables[1].write_text(tables[1].read_text().rpartition("q299")[0])
    assert "--id-column" in str(run(*tables, *COLUMNS).exception)


def test_of_several_sources_one_of_each_can_be_named(files):
    a, b = files
    rows = [r.model_copy(update={"confidence": {"new": r.confidence["stack"], "more": 0.5}}) for r in a_run(2)]
    write_records(b, rows)
    found = json.loads(run(a, b, "--source", "stack,new", "--resamples", 5, "--json").stdout)
    assert list(found["sources"]) == ["stack / new"]
    assert "no record has a confidence of the source 'nobody'" in str(run(a, b, "--source", "nobody").exception)
    assert "no record has a confidence of the source 'new'" in str(run(a, b, "--source", "new").exception)
