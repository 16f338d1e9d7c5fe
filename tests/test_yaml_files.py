from __future__ import annotations

import os
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.yaml_files import beside, beside_or_name, read_yaml, read_yaml_resource, store_beside


def test_a_data_file_of_the_package_is_read() -> None:
    assert read_yaml_resource("confide.tasks", "hub_tasks.yaml")["gsm8k"]["licence"] == "MIT"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a: 1\na: 2\n", "a is there twice"), ("a:\n\tb: 1\n", "not valid YAML"), ("- a\n", "must map names to values")],
)
def test_what_is_no_plain_mapping_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfideError, match=sentence):
        read_yaml(path)


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "c.yaml") == {}


def test_a_relative_path_starts_at_the_file_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    config = tmp_path / "conf" / "c.yaml"
    (tmp_path / "here.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert beside(config, "new.json") == tmp_path / "conf" / "new.json"
    assert beside_or_name(config, "geography") == "geography"
    with pytest.raises(ConfideError, match="write that whole path"):
        beside(config, "here.json")


def test_a_store_is_a_path_where_it_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Path("conf", "c.yaml")
    assert store_beside(config, "sqlite:///d.db") == "sqlite:///conf/d.db"
    for url in (f"sqlite:///{tmp_path}/d.db", "sqlite:///:memory:", "sqlite://", "postgresql://host/name"):
        assert store_beside(config, url) == url


def test_what_comes_through_a_pipe_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for config in (Path("pipe"), Path("/dev/null"), tmp_path / "pipe"):
        assert beside(config, "here.json") == Path("here.json")
        assert beside_or_name(config, "here.json") == "here.json"
        assert store_beside(config, "sqlite:///d.db") == "sqlite:///d.db"
