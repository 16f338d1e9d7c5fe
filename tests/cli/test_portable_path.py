"""From questions to a router with a portable confidence, through an endpoint alone; and what cannot be used for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_missing_packages import MAIN, MODEL, without
from typer.testing import CliRunner, Result

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.methods.portable.portable_file import PortableFile
from confide.methods.portable.portable_training import train_portable
from confide.records import Record, read_records, write_records
from endpoint_server import Endpoint, share_of
from graded_rows import among_options, graded
from upstreams import router


def knows(text: str) -> str:
    """Right answers where the server is sure, and mostly wrong ones where it is not."""
    return "Japan" if share_of(text) < 0.6 else ("Peru" if share_of(text, "which") < 0.8 else "Japan")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(knows=knows, card={"root": "/models/tiny"}).running() as server:
        yield server  # type: ignore[misc]


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portable")
    train_portable(graded(200), folder)
    return folder


def flags(endpoint: Endpoint, engine: str = "openai") -> list[str]:
    return ["--engine", engine, "--base-url", endpoint.url, "--model", "tiny"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def refused(*arguments: object) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        result = run(*arguments)
    assert result.exception is not None, result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_from_questions_to_a_router_without_torch(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "kind": "short", "question": f"Where is {n}?", "answer": ["Japan"]} for n in range(400)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, learned, scored = (tmp_path / name for name in ("records.jsonl", "learned", "scored.jsonl"))
    said = ""
    for line in (
        ["annotate", *flags(endpoint), "--task", tmp_path / "questions.jsonl", "--out", records],
        ["train", "portable", records, "--out", learned],
        ["score", "--portable", learned, records, "--out", scored],
        ["evaluate", scored, "--resamples", 20, "--out", tmp_path / "report"],
        ["calibrate", scored, "--source", "portable", "--max-risk", 0.3, "--out", tmp_path / "policy.json"],
    ):
        done = without(MODEL, MAIN, *line)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    train = [row for row in read_records(records) if row.split == "train"]
    validation = [row for row in read_records(records) if row.split == "validation"]
    assert f"{learned}: learned from {len(train)} graded rows" in said
    assert f"; nothing was chosen on the {len(validation)} graded validation rows" in said
    new = [row for row in read_records(scored) if row.split != "train"]
    file = PortableFile.load(learned)
    assert [row.confidence["portable"] for row in new] == file.confidences(new)
    assert len({row.confidence["portable"] for row in new}) > 20
    assert {row.scored_by["portable"] for row in new} == {file.scored_by}
    assert all(row.confidence["portable"] is None for row in read_records(scored) if row.split == "train")
    small = {"base_url": endpoint.url, "model": "tiny", "portable": str(learned)}
    experts = [{"name": "big", "tool": "callables:always"}]
    with router(tmp_path, policy=str(tmp_path / "policy.json"), small=small, experts=experts) as running:
        for row in new[:10]:
            turns = [message.model_dump() for message in row.messages]
            told = running.post("/v1/chat/completions", {"messages": turns, "temperature": 0}).json()["confide"]
            assert (told["source"], told["raw"]) == ("portable", pytest.approx(row.confidence["portable"], abs=1e-9))
            assert "model" not in told["unlike"]


@pytest.mark.parametrize("engine", ["openai", "vllm", "llama.cpp"])
def test_with_an_engine_it_is_one_of_the_sources_and_the_same(
    endpoint: Endpoint, portable: Path, tmp_path: Path, engine: str
) -> None:
    rows = [row.model_copy(update={"split": "validation", "identity": ""}) for row in graded(20, seed=2)]
    write_records(tmp_path / "rows.jsonl", rows)
    line = ["score", "--portable", portable, tmp_path / "rows.jsonl"]
    for more, out in ((flags(endpoint, engine), "with.jsonl"), ([], "without.jsonl")):
        done = run(*line, *more, "--out", tmp_path / out)
        assert done.exit_code == ExitCode.DONE, done.exception
    columns = [
        [row.confidence["portable"] for row in read_records(tmp_path / name)]
        for name in ("with.jsonl", "without.jsonl")
    ]
    assert columns[0] == columns[1] == PortableFile.load(portable).confidences(rows)
    assert "p_true" in read_records(tmp_path / "with.jsonl")[0].confidence


def test_ask_tells_it_and_a_policy_decides_by_it(endpoint: Endpoint, portable: Path) -> None:
    line = ["ask", *flags(endpoint), "--portable", portable, "--json"]
    told = json.loads(run(*line, "Where is Nara?").stdout)
    values = [-0.01 - share_of("Where is Nara?")] * len(range(0, len(told["answer"]), 3))
    record = Record.model_validate({
        "id": "0", "messages": [{"role": "user", "content": "Where is Nara?"}], "answer": told["answer"],
        "logprobs": values,
    })  # fmt: skip
    (wanted,) = PortableFile.load(portable).confidences([record])
    assert (told["source"], told["confidence"]) == ("portable", pytest.approx(wanted, abs=1e-9))
    endpoint.logprobs = False
    assert json.loads(run(*line, "Where is Nara?").stdout)["source"] == "logprob_sum"


@pytest.mark.parametrize(("by", "warned"), [("", False), ("another", True)])
def test_a_policy_for_another_portable_file_is_told_by_ask(
    endpoint: Endpoint, portable: Path, tmp_path: Path, by: str, warned: bool
) -> None:
    rows = [row.model_copy(update={"split": "calibration", "identity": ""}) for row in graded(400, seed=2)]
    write_records(tmp_path / "rows.jsonl", rows)
    assert run("score", "--portable", portable, tmp_path / "rows.jsonl", "--source", "portable",
               "--out", tmp_path / "scored.jsonl").exit_code == 0  # fmt: skip
    if by:
        scored = read_records(tmp_path / "scored.jsonl")
        write_records(tmp_path / "scored.jsonl", [r.model_copy(update={"scored_by": {"portable": by}}) for r in scored])
    policy = tmp_path / "policy.json"
    done = run("calibrate", tmp_path / "scored.jsonl", "--source", "portable", "--max-risk", 0.4, "--out", policy)
    assert done.exit_code == 0, done.output
    asked = run("ask", *flags(endpoint), "--portable", portable, "--policy", policy, "--json", "Where is Nara?")
    assert json.loads(asked.stdout)["source"] == "portable"
    assert ("nothing is promised" in asked.stderr) is warned


def test_rows_without_a_label_are_counted_and_the_train_rows_alone_are_needed(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"correct": row.correct if i > 4 else None}) for i, row in enumerate(graded(100))]
    write_records(tmp_path / "rows.jsonl", rows)
    done = run("train", "portable", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--seed", 1)
    assert done.exit_code == 0, done.exception
    assert "5 of the 100 train and validation rows have no label and are left out" in done.stderr
    assert "learned from 95 graded rows" in done.stdout
    assert "validation" not in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"split": "test"}, "there is no graded train row, of 0 graded ones"),
        ({"split": "validation"}, "there is no graded train row, of 40 graded ones"),
        ({"correct": None}, "there is no graded train row"),
        ({"correct": True}, "there are 40 right and 0 wrong"),
        ({"logprobs": []}, "none of the 40 graded train rows has log-probabilities of its answer"),
    ],
    ids=["no split", "validation", "no labels", "right", "no logprobs"],
)
def test_records_that_teach_nothing_are_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    write_records(tmp_path / "rows.jsonl", [row.model_copy(update=change) for row in graded(40)])
    assert sentence in refused("train", "portable", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "portable.json").exists()


def test_answers_of_another_model_are_refused(portable: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"identity": "weights=cd34", "split": "test"}) for row in graded(20)]
    write_records(tmp_path / "rows.jsonl", rows)
    sentence = refused("score", "--portable", portable, tmp_path / "rows.jsonl", "--out", tmp_path / "s")
    assert "answered by tiny (weights=cd34), not by tiny (weights=ab12)" in sentence
    assert "a portable confidence knows one model's answers" in sentence


def test_rows_without_log_probabilities_have_none(portable: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"logprobs": [], "split": "test"}) for row in graded(20)]
    write_records(tmp_path / "rows.jsonl", rows)
    line = ["score", "--portable", portable, tmp_path / "rows.jsonl", "--out", tmp_path / "s.jsonl"]
    assert "the source portable cannot be had" in refused(*line, "--source", "portable")
    write_records(tmp_path / "rows.jsonl", [*rows, *(row.model_copy(update={"split": "test"}) for row in graded(1, 1))])
    assert run(*line).exit_code == 0
    assert [row.confidence["portable"] is None for row in read_records(tmp_path / "s.jsonl")] == [True] * 20 + [False]


def test_what_is_no_portable_file_is_named(endpoint: Endpoint, portable: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    write_records(tmp_path / "rows.jsonl", graded(4))
    for name, why in (
        ("empty", "portable.json does not exist"), ("other.json", "is not what"), ("none", "none does not exist")
    ):  # fmt: skip
        line = ["--portable", tmp_path / name]
        assert why in refused("score", *line, tmp_path / "rows.jsonl", "--out", tmp_path / "s.jsonl")
        assert why in refused("ask", *flags(endpoint), *line, "Where is Nara?")
    assert "--engine openai, vllm or llama.cpp" in refused("ask", "--model", "m", "--portable", portable, "hello")


def test_a_server_of_another_model_is_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"identity": "model=tiny, root=/models/other"}) for row in graded(60)]
    for name, learned, why in (
        ("other", rows, "learned from tiny (model=tiny, root=/models/other), and the server has another model"),
        ("chosen", among_options(graded(60)), "among options alone"),
    ):
        train_portable(learned, tmp_path / name)
        assert why in refused("ask", *flags(endpoint), "--portable", tmp_path / name, "Where is Nara?")
