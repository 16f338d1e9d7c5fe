from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.engines.openai.exported_reader import ExportedReader, difference
from confide.errors import ConfideError
from verdict_server import CONFIDENT, END, UNCONFIDENT, exported, exported_folder


def test_a_folder_or_its_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = exported_folder(tmp_path / "exported")
    assert ExportedReader.load(folder) == exported()
    assert ExportedReader.load(folder / "confide" / "reader.json") == exported()


def test_a_file_of_before_with_a_bias_of_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "reader.json").write_text(json.dumps(exported().to_json() | {"bias": 0.0}))
    assert ExportedReader.load(tmp_path / "reader.json") == exported()


def test_the_second_request_goes_on_after_the_closing_token() -> None:
    reader = exported()
    assert reader.asked([1, 2], [3]) == [1, 2, 3, END]
    assert reader.verdict_ids == (CONFIDENT, UNCONFIDENT)


@pytest.mark.parametrize(("written", "answer"), [([3, 4, END], [3, 4]), ([END], []), ([3, 4], None), ([], None)])
def test_an_answer_is_what_stands_before_its_closing_token(written: list[int], answer: list[int] | None) -> None:
    assert exported().closed(written) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"end_ids": 3},
        {"end_ids": "12"},
        {"identity": "no identity"},
        {"examples": [{"ids": [1]}]},
        {"confident_id": None},
    ],
)
def test_another_file_is_refused_by_its_name(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "reader.json").write_text(json.dumps(exported().to_json() | change))
    with pytest.raises(ConfideError, match=r"reader\.json"):
        ExportedReader.load(tmp_path / "reader.json")


def test_a_reader_of_ask_tokens_is_refused_and_a_file_without_any_is_read(tmp_path: Path) -> None:
    file = tmp_path / "reader.json"
    file.write_text(json.dumps(exported().to_json() | {"ask_ids": [258]}))
    with pytest.raises(ConfideError, match=r"a reader of ask tokens, .*: train and export it again"):
        ExportedReader.load(file)
    file.write_text(json.dumps(exported().to_json() | {"ask_ids": []}))
    assert ExportedReader.load(file) == exported()


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reader.json").write_text(text)
    with pytest.raises(ConfideError, match="confide export"):
        ExportedReader.load(tmp_path / "reader.json")


def test_a_folder_without_a_reader_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match="train reader"):
        ExportedReader.load(tmp_path)


def test_weights_are_known_by_what_they_say_of_the_examples() -> None:
    reader = exported()
    z = [example.z for example in reader.examples]
    assert difference(reader, [*z]) is None
    assert difference(reader, [z[0] + 0.4, z[1] - 0.4, z[2]]) is None
    assert "other weights" in str(difference(reader, [*z[:2], z[2] + 0.6]))
    assert "probabilities" in str(difference(reader, [*z[:2], None]))
