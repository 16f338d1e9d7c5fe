"""Old spellings of flags still work, with one warning; today's give none."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from confide.cli.main import app
from confide.cli.old_spellings import RECORDS, today
from confide.records import read_records
from policy_runs import foreign, write


def confide(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.jsonl", [row | {"answer": "a"} for row in foreign(60)])


KNOWN = {RECORDS, "--source", "--out"}


@pytest.mark.parametrize(
    ("given", "wanted", "old"),
    [
        ("--out o r.jsonl", "--out o r.jsonl", []),
        ("--records r.jsonl --out o", "--out o -- r.jsonl", ["--records"]),
        ("--records=r.jsonl --sources=a,b", "--source=a,b -- r.jsonl", ["--records", "--sources"]),
        ("p.json --records r.jsonl -- x", "p.json -- x r.jsonl", ["--records"]),
        ("-- --records", "-- --records", []),
        ("--records", "", ["--records"]),
        ("--engine x", "--engine x", []),  # this verb has no --base-url
    ],
)
def test_arguments_in_todays_spelling(given, wanted, old):
    assert today(given.split(), KNOWN) == (wanted.split(), old)


def test_a_flag_that_the_verb_has_is_meant():
    assert today(["--signal", "red_flag"], {"--signal", "--source"}) == (["--signal", "red_flag"], [])


def test_an_old_command_line_gives_the_same_with_one_warning(rows, tmp_path):
    old = confide("score", "--records", rows, "--sources", "constant", "--out", tmp_path / "old.jsonl")
    new = confide("score", rows, "--source", "constant", "--out", tmp_path / "new.jsonl")
    assert (old.exit_code, new.exit_code) == (0, 0), (old.output, old.exception)
    assert read_records(tmp_path / "old.jsonl") == read_records(tmp_path / "new.jsonl")
    warnings = [line for line in old.stderr.splitlines() if "old spelling" in line]
    assert len(warnings) == 1
    assert "--records FILE is now written FILE alone; --sources is now --source" in warnings[0]
    assert "old spelling" not in new.stderr


def test_a_configuration_names_arguments_and_may_be_old(rows, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("records: rows.jsonl\nsources: constant\nout: made.jsonl\n")
    done = confide("score", "--config", config)
    assert done.exit_code == 0, (done.output, done.exception)
    assert [row.confidence["constant"] for row in read_records(tmp_path / "made.jsonl")]
    assert done.stderr.count("old spelling") == 1
    assert "--records" not in done.stderr
    config.write_text("records: rows.jsonl\nsources: constant\nsource: constant\nout: made.jsonl\n")
    assert "twice" in str(confide("score", "--config", config).exception)


def test_hedge_takes_the_old_name_of_its_server(rows, tmp_path):
    done = confide("hedge", rows, "--source", "given", "--engine", "gpt", "--model", "m", "--out", tmp_path / "h.jsonl")
    assert "--base-url takes an address" in str(done.exception)
    assert "--engine is now --base-url" in done.stderr
