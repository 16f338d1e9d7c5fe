"""Learning ``portable.json`` from graded records: what is written, what is said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.files import locked
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PortableFile
from confide.methods.portable.portable_training import train_portable
from confide.records import Record
from graded_rows import graded


def untold(record: Record) -> Record:
    return record.model_copy(update={"logprobs": []})


def test_the_file_gives_what_was_learned(tmp_path: Path) -> None:
    train, new = graded(400), graded(50, seed=1)
    words = train_portable(train, tmp_path / "out", seed=3)
    file = PortableFile.load(tmp_path / "out")
    expected, _ = Mixture.fit(fit_signals(train, 3), train).read(new)
    assert file.confidences(new) == pytest.approx(expected.tolist(), abs=1e-12)
    assert (file.model, file.identity, file.training_rows) == ("tiny", "weights=ab12", 400)
    right = sum(bool(record.correct) for record in train)
    assert words == (
        f"{tmp_path / 'out'}: learned from 400 graded rows ({right} right, {400 - right} wrong): "
        "3 kinds of question, 12 answers"
    )
    assert np.std(expected) > 0.05


def test_the_same_rows_and_seed_give_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_portable(graded(200), tmp_path / name)
    assert (tmp_path / "one" / "portable.json").read_text() == (tmp_path / "two" / "portable.json").read_text()


def test_rows_without_log_probabilities_are_left_out_and_counted(tmp_path: Path) -> None:
    train = graded(200)
    mixed = [untold(record) if i % 4 == 0 else record for i, record in enumerate(train)]
    words = train_portable(mixed, tmp_path / "mixed")
    train_portable([record for record in mixed if record.logprobs], tmp_path / "told")
    assert "; 50 without log-probabilities left out)" in words
    assert (tmp_path / "mixed" / "portable.json").read_text() == (tmp_path / "told" / "portable.json").read_text()


def other_model(record: Record, number: int) -> Record:
    return record.model_copy(update={"identity": "weights=cd34"}) if number % 2 else record


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([record.model_copy(update={"correct": True}) for record in graded(40)], "there are 40 right and 0 wrong"),
        ([untold(record) for record in graded(40)], "none of the 40 graded train rows has log-probabilities"),
        ([other_model(record, i) for i, record in enumerate(graded(40))], "answers of different models"),
        ([record.model_copy(update={"entity": "one"}) for record in graded(40)], "at least 2 entities; there are 1"),
        ([], "there are 0 right and 0 wrong"),
    ],
    ids=["right", "untold", "two models", "one entity", "none"],
)
def test_rows_that_teach_nothing_are_refused(tmp_path: Path, rows: list[Record], sentence: str) -> None:
    (tmp_path / "portable.json").write_text("old")
    with pytest.raises(ConfideError, match=sentence):
        train_portable(rows, tmp_path)
    assert (tmp_path / "portable.json").read_text() == "old"


def test_what_belongs_to_a_trained_model_is_never_replaced(tmp_path: Path) -> None:
    train_portable(graded(60), tmp_path)
    before = (tmp_path / "portable.json").read_text()
    (tmp_path / "confide.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(ConfideError, match="holds a trained model"):
        train_portable(graded(80), tmp_path)
    assert (tmp_path / "portable.json").read_text() == before


def test_a_folder_belongs_to_one_run_and_keeps_its_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with locked(tmp_path), pytest.raises(ConfideError, match="in use by another run"):
        train_portable(graded(60), tmp_path)
    train_portable(graded(60), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "portable.json"]
