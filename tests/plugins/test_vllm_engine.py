"""The plug-in in the real vLLM, on the bundled model: `make test-vllm` runs it, everything else skips it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import confide
from confide.annotation import annotate, split_questions
from confide.engines.transformers.loading import bundled_path
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.along.along_training import train_signal
from confide.methods.along.stop_watch import joined
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.frozen.served_export import export_served
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.states import States
from confide.records import read_records
from confide.signals import OUTCOME, RED_FLAG
from confide.tasks import load_task
from vllm_server import PYTHON, Server, vllm_server

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.model,
    pytest.mark.skipif(not PYTHON, reason="CONFIDE_VLLM_PYTHON is not set: run `make test-vllm`"),
]
QUESTIONS, ASKED = 260, 24
CHUNKED = ("--max-num-batched-tokens", "64")
"""Fewer than a prompt has: it is read in several passes. (A seed then ends stock vLLM's CPU engine.)"""

Messages = list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotated records, a stack trained on them, and its export."""
    place = tmp_path_factory.mktemp("vllm")
    task = load_task("geography", limit=QUESTIONS, seed=0)
    engine = TransformersEngine.load("smollm2")
    annotate(engine, task, place / "records.jsonl", splits=split_questions(task.questions, "standard", 0))
    rows = [row for row in read_records(place / "records.jsonl") if row.correct is not None]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    train_confidence(engine, *parts, FrozenOptions(), place / "trained")
    # Two made-up signals: is the answer long, does it begin with a letter of the first half.
    for signal, fine in ((RED_FLAG, lambda row: len(row.answer_ids) < 3), (OUTCOME, lambda row: row.answer < "M")):
        labelled = [[row.model_copy(update={"correct": fine(row)}) for row in some] for some in parts]
        train_signal(engine, signal, *labelled, place / "trained")
    export_served(place / "trained", place / "served")
    return place


@pytest.fixture(scope="module")
def conversations(folder: Path) -> list[Messages]:
    rows = read_records(folder / "records.jsonl")[:ASKED]
    return [[message.model_dump() for message in row.messages] for row in rows]


@pytest.fixture(scope="module")
def reading(folder: Path) -> ServedFile:
    return ServedFile.load(folder / "served")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Server]:
    with vllm_server(bundled_path(), folder / "plain.log") as server:
        yield server


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with vllm_server(folder / "served", folder / "served.log") as server:
        yield server


def content(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """What was told of each token of a choice."""
    told: list[dict[str, Any]] = choice["logprobs"]["content"]
    return told


def off_by(model: FrozenModel, server: Server, file: ServedFile, conversations: list[Messages]) -> list[float]:
    """By how much z of the answers that were closed is off from this process's, on the same tokens."""
    assert model.parts.served is not None
    ours, off = model.parts.served.reading, []
    for messages in conversations:
        told = server.chat(messages, temperature=0, **file.reading.fields())
        back = file.reading.read(content(told["choices"][0]))
        if back.z is None:
            assert told["choices"][0]["finish_reason"] == "length"
            continue
        closed = model.engine.closed([told["prompt_token_ids"]], [back.ids], layers=ours.layers, measure=True)
        z = ours.z(States(ours.layers, closed.states_before_closing()))
        off.append(abs(back.z - float(z[0])))
        assert back.logprobs == pytest.approx(closed.completions[0].logprobs, abs=1e-3)
    return off


def test_z_is_that_of_this_process(
    folder: Path, server: Server, reading: ServedFile, conversations: list[Messages]
) -> None:
    model = confide.load(folder / "trained", dtype="float32")
    assert isinstance(model, FrozenModel)
    off = off_by(model, server, reading, conversations * 2)  # the second time from a warm prefix cache
    with vllm_server(folder / "served", folder / "chunked.log", "float32", *CHUNKED) as chunked:
        off += off_by(model, chunked, reading, conversations)
    print(f"z: {len(off)} answers, furthest off {max(off):.1e}")
    assert len(off) > 2 * ASKED
    assert max(off) < 3e-4


def test_signals_along_the_answer_are_those_of_this_process(
    server: Server, folder: Path, reading: ServedFile, conversations: list[Messages]
) -> None:
    model = confide.load(folder / "trained", dtype="float32")
    assert isinstance(model, FrozenModel)
    carried = list(model.signals.values())
    assert [one.rule for one in carried] == list(reading.signals)
    assert [rule.signal for rule in reading.signals] == ["outcome", "red_flag"]
    off, start = [], len(reading.reading.positions)
    for messages in conversations:
        told = server.chat(messages, temperature=0, **reading.reading.fields())
        read = reading.reading.read(content(told["choices"][0]))
        assert read.shares is not None
        (closed,) = model.engine.closed([told["prompt_token_ids"]], [read.ids], directions=joined(carried)).completions
        assert closed.shares is not None
        rows = len(read.ids) + (told["choices"][0]["finish_reason"] == "stop")
        assert read.shares.shape == (rows, start + 2)
        off.append(np.abs(read.shares[:, start:] - closed.shares[:rows]).max())
    print(f"signals: furthest off {max(off):.1e}")
    assert max(off) < 3e-4


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 1, "seed": 7}, {"temperature": 2, "seed": 1}])
def test_answers_and_log_probabilities_are_bitwise_those_of_plain_vllm(
    plain: Server, server: Server, reading: ServedFile, conversations: list[Messages], how: dict[str, Any]
) -> None:
    for messages in conversations:
        ids = {"return_tokens_as_token_ids": True, "logprobs": True}
        wanted = plain.chat(messages, **how, **ids)["choices"][0]
        for fields in (ids, reading.reading.fields()):
            found = server.chat(messages, **how, **fields)["choices"][0]
            assert found["message"]["content"] == wanted["message"]["content"]
            assert [(t["token"], t["logprob"]) for t in content(found)] == [
                (t["token"], t["logprob"]) for t in content(wanted)
            ]
        tops = [server.chat(messages, **how, **ids, top_logprobs=5), plain.chat(messages, **how, **ids, top_logprobs=5)]
        assert content(tops[0]["choices"][0]) == content(tops[1]["choices"][0])


def test_a_stream_carries_the_reading(server: Server, reading: ServedFile, conversations: list[Messages]) -> None:
    for messages in conversations[:10]:
        fields = {"temperature": 0, **reading.reading.fields()}
        whole = reading.reading.read(content(server.chat(messages, **fields)["choices"][0]))
        pieces = server.stream(messages, **fields)
        choices = [choice for piece in pieces for choice in piece["choices"] if choice.get("logprobs")]
        back = reading.reading.read([token for choice in choices for token in content(choice)])
        assert back.ids == whole.ids
        assert back.z == (None if whole.z is None else pytest.approx(whole.z, abs=3e-4))


def test_every_choice_has_its_own(server: Server, reading: ServedFile, conversations: list[Messages]) -> None:
    told = server.chat(conversations[0], temperature=1, seed=3, n=4, **reading.reading.fields())
    read = [reading.reading.read(content(choice)) for choice in told["choices"]]
    assert len(read) == 4
    by_answer: dict[tuple[int, ...], list[float]] = {}
    for one in read:
        if one.z is not None:
            by_answer.setdefault(tuple(one.ids), []).append(one.z)
    assert by_answer
    assert max(np.ptp(values) for values in by_answer.values()) < 3e-4
    assert len(by_answer) < 2 or np.ptp([values[0] for values in by_answer.values()]) > 1e-2


def test_the_fingerprint_tells_this_export_from_a_plain_server(
    plain: Server, server: Server, reading: ServedFile, conversations: list[Messages]
) -> None:
    asked = {"max_tokens": 1, "temperature": 0, **reading.reading.fields(check=True)}
    assert reading.reading.wrong(content(server.chat(conversations[0], **asked)["choices"][0])) is None
    refused = plain.chat(conversations[0], **asked)
    assert refused["status"] == 400
    assert "vocab" in refused["error"]


def test_structured_output_has_no_reading(server: Server, reading: ServedFile, conversations: list[Messages]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    told = server.chat(conversations[0], temperature=0, response_format=wanted, **reading.reading.fields())
    assert "status" not in told, told
    z = reading.reading.read(content(told["choices"][0])).z
    assert z is None or np.isfinite(z)  # masked where the mask comes before the log-probabilities


def test_an_answer_that_was_cut_has_no_reading(
    server: Server, reading: ServedFile, conversations: list[Messages]
) -> None:
    told = server.chat(conversations[0], temperature=0, max_tokens=1, **reading.reading.fields())
    read = reading.reading.read(content(told["choices"][0]))
    assert (told["choices"][0]["finish_reason"], read.z, read.end_logprob) == ("length", None, None)
    assert len(read.ids) == 1


def test_ids_past_the_vocabulary_in_a_prompt_do_no_harm(
    server: Server, reading: ServedFile, conversations: list[Messages]
) -> None:
    past = reading.reading.vocabulary
    server.post("/v1/completions", prompt=[1, past, past + 63], max_tokens=2)
    told = server.chat(conversations[0], temperature=0, **reading.reading.fields())
    assert told["choices"][0]["message"]["content"]


@pytest.mark.parametrize("flags", [["--pipeline-parallel-size", "2"], ["--logprobs-mode", "processed_logprobs"]])
def test_what_cannot_be_read_does_not_start(folder: Path, flags: list[str]) -> None:
    with (
        pytest.raises(RuntimeError, match="confide's reading"),
        vllm_server(folder / "served", folder / "refused.log", "float32", *flags),
    ):
        pass


def test_an_export_of_another_version_does_not_start(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    for path in (folder / "served").iterdir():
        (other / path.name).symlink_to(path)
    config = json.loads((other / "config.json").read_text())
    config["confide"]["version"] = "9.9"
    (other / "config.json").unlink()
    (other / "config.json").write_text(json.dumps(config))
    with (
        pytest.raises(RuntimeError, match=r"install confide-vllm==9\.9"),
        vllm_server(other, folder / "other.log"),
    ):
        pass
