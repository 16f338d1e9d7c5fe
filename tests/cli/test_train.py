from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

import confide
from confide.cli.exit_codes import ExitCode
from confide.cli.flags import command
from confide.cli.train import app as train_app
from confide.cli.train import rlmf
from confide.errors import ConfideError
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.records import Record, write_records
from stating_model import question, saved, toy_records

app = typer.Typer()
app.command()(command(rlmf))
SMALL = ("--steps", 2, "--group-size", 6, "--questions", 2, "--rank", 4, "--samples", 6, "--look-every", 1,
         "--learning-rate", 1e-3)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def inputs(tmp_path):
    """A model, a question file and records with samples."""
    questions = tmp_path / "toy.jsonl"
    questions.write_text("".join(question(i).model_dump_json(exclude_none=True) + "\n" for i in range(24)))
    records = tmp_path / "records.jsonl"
    write_records(records, [r.model_copy(update={"task": str(questions)}) for r in toy_records()])
    return saved(tmp_path / "base"), records


def run(inputs, *more):
    model, records = inputs
    arguments = ["--model", model, records, *SMALL, *more]
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_model_learns_to_state_its_confidence_from_the_command_line(inputs, tmp_path):
    out = tmp_path / "out"
    result = run(inputs, "--out", out)
    assert result.exit_code == 0, result.exception
    assert f"{out}: step" in result.stdout
    assert "cMFG*" in result.stdout
    about = json.loads((out / "confide.json").read_text())
    assert about["signals"]["confidence"]["statement"] == "graded"
    assert about["training"]["config"]["feedback"] == "self"
    assert [look["step"] for look in about["training"]["looks"]] == [0, 1, 2]
    assert len((out / "log.jsonl").read_text().splitlines()) >= 2
    assert confide.load(out).info.confidence.statement == "graded"
    # The format stage is used again; only the feedback differs.
    other = run((out / "format", inputs[1]), "--out", tmp_path / "other", "--feedback", "none")
    assert other.exit_code == 0, other.exception
    refused = run((out / "format", inputs[1]), "--out", tmp_path / "third", "--target", "constant")
    assert "has passed its format stage" in str(refused.exception)
    assert not (tmp_path / "other" / "format").exists()


def test_tagged_text_is_a_way_to_state_too(inputs, tmp_path):
    result = run(inputs, "--out", tmp_path / "out", "--statement", "tagged", "--steps", "0")
    assert result.exit_code == 0, result.exception
    model = confide.load(tmp_path / "out")
    assert model.info.confidence.statement == "tagged"
    assert model.answer("Which country is city 3 in?", max_new_tokens=6).source == "tagged"


def test_rows_without_a_label_are_counted(tmp_path):
    records = tmp_path / "r.jsonl"
    rows = [
        Record(id=f"r{i}", answer="a", split=split, correct=None if i < 3 else True)
        for i, split in enumerate(["train", "validation", "test", "train"] * 2)
    ]
    write_records(records, rows)
    result = CliRunner().invoke(
        train_app, ["reader", str(records), "--out", str(tmp_path / "o"), "--model", saved(tmp_path / "m")]
    )
    assert "2 of the 6 train and validation rows have no label and are left out" in result.stderr
    assert "training needs right and wrong answers" in str(result.exception)


@pytest.mark.parametrize("verb", ["reader", "self-ref", "rlmf"])
def test_answers_of_other_weights_are_refused(inputs, tmp_path, verb):
    rows = [r.model_copy(update={"identity": "weights=ab", "correct": i % 3 > 0}) for i, r in enumerate(toy_records())]
    rows = [r.model_copy(update={"task": str(tmp_path / "toy.jsonl")}) for r in rows]
    write_records(inputs[1], rows)
    arguments = [verb, "--model", inputs[0], inputs[1], "--out", tmp_path / "out"]
    result = CliRunner().invoke(train_app, [str(a) for a in arguments])
    assert f"records were answered by tiny (weights=ab), not by {inputs[0]} (weights=" in str(result.exception)
    assert not (tmp_path / "out" / "confide.json").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--passes", 5], "12 completions a step do not split into 5 passes"),
        (["--group-size", 3], "take at least 6"),
        (["--select", "random", "--select-rows", 99], "99 records are wanted, but only 18 of 18 are there"),
        (["--select", "metacognitive", "--select-rows", 18], "have a rating that can be read"),
    ],
)
def test_bad_input_is_one_sentence(inputs, tmp_path, more, sentence):
    result = run(inputs, "--out", tmp_path / "out", *more)
    assert isinstance(result.exception, ConfideError)
    assert sentence in str(result.exception)


def test_fewer_questions_may_be_chosen(inputs, tmp_path):
    result = run(inputs, "--out", tmp_path / "out", "--steps", "0", "--select", "active", "--select-rows", 4,
                 "--select-source", "answer_length")  # fmt: skip
    assert result.exit_code == 0, result.exception
    assert "4 of 18 train rows kept, 0 had no score" in result.output


def test_a_run_that_collapses_ends_with_the_reason(inputs, tmp_path, monkeypatch):
    from confide.methods.rlmf import reinforcement as module

    def collapsed(*_, **__):
        numbers = {"n": 6.0, "cmfg_star": 0.5, "spearman": 0.1, "accuracy": 0.2, "parsed": 1.0}
        return module.RLMFResult(
            tmp_path / "out", 3, 0, numbers, numbers, "step 3: every completion stated 0.3", 1.0, 0.1
        )

    monkeypatch.setattr(module, "train_rlmf", collapsed)
    result = run(inputs, "--out", tmp_path / "out")
    assert result.exit_code == ExitCode.LEFT_OUT
    assert "the best step was kept: step 3: every completion stated 0.3" in result.stderr


@pytest.fixture
def graded(tmp_path):
    """Graded records of both splits."""
    path = tmp_path / "graded.jsonl"
    write_records(path, [Record(id=f"{split}{i}", correct=bool(i), split=split)
                         for split in ("train", "validation") for i in range(2)])  # fmt: skip
    return path


def train(*arguments):
    return CliRunner().invoke(train_app, [str(argument) for argument in arguments])


@pytest.fixture
def seen(monkeypatch):
    """The options that a frozen model is trained with; nothing is loaded or trained."""
    seen = {}
    monkeypatch.setattr(
        "confide.engines.transformers.transformers_engine.TransformersEngine.load", lambda name, device: name
    )
    monkeypatch.setattr(
        "confide.methods.frozen.frozen_training.train_confidence",
        lambda *given, reader, progress: seen.update(options=given[3], reader=reader) or f"{given[4]}: done",
    )
    return seen


def test_the_reader_trains_with_what_the_flags_say(graded, tmp_path, seen):
    line = ("reader", graded, "--out", tmp_path / "out")
    result = train(*line, "--learning-rate", 1e-4, "--epochs", 3, "--seed", 7)
    assert result.exit_code == 0, result.exception
    assert f"{tmp_path / 'out'}: done" in result.stdout
    assert seen == {"options": FrozenOptions(seed=7), "reader": ReaderConfig(learning_rate=1e-4, epochs=3)}
    assert "No such option: --ask-tokens" in train(*line, "--ask-tokens", "4").stderr


def test_the_stack_trains_without_a_reader(graded, tmp_path, seen):
    line = ("stack", graded, "--out", tmp_path / "out")
    result = train(*line, "--positions", "--shuffle-labels", "--other-model", "--seed", 7)
    assert result.exit_code == 0, result.exception
    assert f"{tmp_path / 'out'}: done" in result.stdout
    flags = {"positions": True, "shuffle_labels": True, "other_model": True, "seed": 7}
    assert seen == {"options": FrozenOptions(**flags), "reader": None}
    assert "No such option: --epochs" in train(*line, "--epochs", "4").stderr


def test_self_ref_trains_with_what_the_flags_say(graded, tmp_path, monkeypatch):
    seen = {}

    def trained(model, tokenizer, records, config, out, base_model, progress):
        seen.update(config=config, rows=[record.id for record in records])
        return SimpleNamespace(right=1, wrong=1, seconds=2.0, epoch=1, held_losses=[0.25, 0.5])

    def choice(load, records, candidates, out, progress):
        seen["candidates"] = candidates
        return SimpleNamespace(config=candidates[1])

    monkeypatch.setattr("confide.engines.transformers.loading.load_model", lambda name, device: (name, None))
    monkeypatch.setattr("confide.methods.self_ref.self_ref_training.train_self_ref", trained)
    flags = ("--ratio", 0.5, "--rank", 4, "--no-mask-wrong-answers", "--max-rows", 9)
    result = train("self-ref", graded, "--out", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.exception
    assert (
        "trained on 1 right and 1 wrong answers in 2 s; learning rate 0.001, ratio 0.5, epoch 1 of 2 is best"
        in result.stdout
    )
    assert "log loss 0.250" in result.stdout
    assert seen["config"] == SelfRefConfig(ratio=0.5, rank=4, mask_wrong_answers=False, max_rows=9)
    assert seen["rows"] == ["train0", "train1", "validation0", "validation1"]
    monkeypatch.setattr("confide.methods.self_ref.self_ref_training.choose_settings", choice)
    several = train("self-ref", graded, "--out", tmp_path / "out", "--learning-rate", "1e-3,1e-4")
    assert several.exit_code == 0, several.exception
    assert [one.learning_rate for one in seen["candidates"]] == [1e-3, 1e-4]
    assert seen["config"].learning_rate == 1e-4
    bad = train("self-ref", graded, "--out", tmp_path / "out", "--ratio", "half")
    assert "--ratio is a number above 0, or several with commas, not 'half'" in str(bad.exception)
