"""Files: whole or not at all, one run per folder, and data files of the package."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.files import locked, locked_file, read_text, write_text, written, written_folder


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
    holder = rf"in use by another run: process {process.pid} on {socket.gethostname()}, since 20"
    with pytest.raises(ConfideError, match=holder), locked(tmp_path):
        pass
    done.set()
    process.join()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_belongs_to_one_run_by_any_spelling_and_its_neighbours_to_others(tmp_path: Path) -> None:
    path, link = tmp_path / "a.jsonl", tmp_path / "link.jsonl"
    link.symlink_to("a.jsonl")
    with locked_file(path), locked_file(tmp_path / "b.jsonl"), locked(tmp_path):
        for spelling in (path, link, tmp_path / "x" / ".." / "a.jsonl"):
            (tmp_path / "x").mkdir(exist_ok=True)
            with (
                pytest.raises(ConfideError, match=f"in use by another run: process {os.getpid()} "),
                locked_file(spelling),
            ):
                pass
    with pytest.raises(ZeroDivisionError), locked_file(path):
        _ = 1 / 0
    with locked_file(link):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.jsonl", "x"]


def test_a_killed_run_blocks_nobody(tmp_path: Path) -> None:
    code = f"import time\nfrom confide.files import *\nwith locked(Path({str(tmp_path)!r})):\n"
    code += "    print(1, flush=True)\n    time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(ConfideError, match=f"process {process.pid} "), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
        with written(tmp_path / "b") as part:
            os.open(part, os.O_WRONLY)
            part.unlink()
            part.write_text("x")
            part.chmod(0o600)  # as some libraries make their files
        with written_folder(tmp_path / "c", "last") as part:
            (part / "last").touch(mode=0o600)
    finally:
        os.umask(before)
    for name in ("a", "b", "c/last"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640, name
    (tmp_path / "a").chmod(0o604)
    write_text(tmp_path / "a", "y")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o604


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target in ("there/old.txt", "there/new.txt"):
        link = tmp_path / f"{target[-7:]}.link"
        link.symlink_to(target)
        if "old" in target:
            (tmp_path / target).write_text("old")
        write_text(link, "new")
        assert link.is_symlink()
        assert (tmp_path / target).read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["new.txt", "old.txt"]


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "whole")
    reader.join(30)
    assert read == ["whole"]
    assert pipe.is_fifo()


def test_standard_output_is_written_through_where_it_stands(tmp_path: Path) -> None:
    code = "from confide.files import *\nprint('before')\nwrite_text(Path('/dev/stdout'), 'text\\n')\nprint('after')"
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\ntext\nafter\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "before\ntext\nafter\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "link").symlink_to("hop")
    (tmp_path / "hop").symlink_to("/dev/stdout")
    with open(tmp_path / "out", "a") as out:
        subprocess.run(
            [sys.executable, "-c", code.replace("/dev/stdout", "link")], stdout=out, check=True, cwd=tmp_path
        )
    assert (tmp_path / "out").read_text() == "before\ntext\nafter\n" * 2


def test_what_cannot_be_written_is_refused_and_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("old")
    kept.chmod(0o444)
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "folder").mkdir()
    for name, sentence in (
        ("kept", "kept is read-only"),
        ("link", "link is read-only"),
        ("folder", "folder is a folder, a file is wanted"),
        ("kept/below", "kept is a file, a folder is wanted"),
    ):
        with pytest.raises(ConfideError, match=sentence):
            write_text(tmp_path / name, "new")
    assert kept.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "kept", "link"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from confide.errors import ConfideError
from confide.files import write_text, written, written_folder
from confide.records import Record, write_records
import pyarrow.parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path(sys.argv[1])

def tensors(path):
    with written(path) as part:
        save_file({"a": np.zeros(9999)}, part)

def checkpoint(path):
    with written_folder(path.parent, path.name) as part:
        (part / "other").write_text("x")
        save_file({"a": np.zeros(9999)}, part / path.name)

rows = [Record(id=str(i), answer=str(i) * 500) for i in range(100)]
for name, write in {
    "a.json": lambda path: write_text(path, "x" * 9999),
    "a.parquet": lambda path: write_records(path, rows),
    "a.jsonl": lambda path: write_records(path, rows),
    "a.safetensors": tensors,
    "folder/confide.json": checkpoint,
}.items():
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("old")
    try:
        write(path)
        print("written")
    except ConfideError as error:
        print(str(error).replace("\\n", " "))
    assert path.read_text() == "old", name
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cannot be written: ") == done.stdout.count("File too large") == 5, done.stdout
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["a.json", "a.jsonl", "a.parquet", "a.safetensors", "folder/confide.json"]


def test_a_folder_gets_its_mark_last_and_keeps_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with written_folder(folder, "mark") as part:
        (part / "mark").write_text("1")
        (part / "weights").write_text("1")
        (part / "inner").mkdir()
        (part / "inner" / "file").write_text("1")
    (folder / "own").write_text("mine")
    with suppress(KeyboardInterrupt), written_folder(folder, "mark") as part:
        (part / "weights").write_text("2")
        raise KeyboardInterrupt
    assert (folder / "weights").read_text() == (folder / "mark").read_text() == "1"
    with written_folder(folder, "mark") as part:
        for name in ("mark", "weights"):
            (part / name).write_text("2")
        (part / "inner").mkdir()
    assert sorted(p.name for p in folder.iterdir()) == ["inner", "mark", "own", "weights"]
    assert (folder / "weights").read_text() == (folder / "mark").read_text() == "2"
    assert list((folder / "inner").iterdir()) == []


def test_text_that_is_none_is_told(tmp_path: Path) -> None:
    for data, sentence in ((b"\xff\xfea\0", "UTF-16"), (b"a\n\0", "line 2: a NUL byte"), (b"\xff", "not UTF-8")):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ConfideError, match=sentence):
            read_text(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(tmp_path / "a") == "{}"


def test_a_folder_whose_files_moved_only_in_part_has_no_mark(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("1")
    (tmp_path / "weights" / "in the way").mkdir(parents=True)
    with pytest.raises(ConfideError, match="cannot be written: "), written_folder(tmp_path, "mark") as part:
        _fill(part, "mark", "tokens", "weights")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".part", "tokens", "weights"]


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("2")
