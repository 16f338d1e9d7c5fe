"""Files: whole or not at all, one run per folder, and data files of the package."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.files import locked, read_yaml_resource, write_text


def _hold(folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with locked(folder):
        ready.set()
        done.wait(30)


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(30)
    with pytest.raises(ConfideError, match="in use by another run"), locked(tmp_path):
        pass
    done.set()
    process.join()
    with locked(tmp_path):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_data_file_of_the_package_is_read() -> None:
    assert read_yaml_resource("confide.tasks", "hub_tasks.yaml")["gsm8k"]["licence"] == "MIT"
