"""The second request to the real, stock vLLM: z is that of this process, whoever asks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import logit

import confide
from architectures import VLLM_SIZES, architecture
from confide.engines.openai.asked import Asked
from confide.engines.openai.exported_reader import READER, ExportedReader
from confide.engines.openai.reply import Reply
from confide.engines.openai.second_reading import SecondReading
from confide.engines.openai.second_request import SecondRequest
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http
from confide.engines.openai.upstream import Server as UpstreamServer
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderConfig
from scored_model import records
from vllm_server import PYTHON, Server, vllm_server

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON, reason="CONFIDE_VLLM_PYTHON is not set: run `make test-vllm`"),
]
ADAPTER = "reads"
QUESTIONS = [f"Which country is the city in? {number}" for number in range(5)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a trained reader, made louder so that it cannot be taken for the base model, and its export."""
    place = tmp_path_factory.mktemp("second")
    model, tokenizer = architecture("Llama", **VLLM_SIZES)
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    engine = TransformersEngine.load(str(place / "base"), dtype="float32")
    rows = [row.model_copy(update={"model": engine.name}) for row in records(60)]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    train_confidence(engine, *parts, FrozenOptions(), place / "trained", reader=ReaderConfig(epochs=1))
    file = place / "trained" / "adapter" / "adapter_model.safetensors"
    torch.manual_seed(0)
    save_file({name: value + 0.2 * torch.randn_like(value) for name, value in load_file(file).items()}, file)
    export_checkpoint(place / "trained", place / "exported")
    return place


@pytest.fixture(scope="module")
def model(place: Path) -> FrozenModel:
    loaded = confide.load(place / "trained", dtype="float32")
    assert isinstance(loaded, FrozenModel)
    return loaded


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    lora = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{ADAPTER}={place / 'exported' / 'adapter'}")
    with vllm_server(place / "exported", place / "log", "float32", "--max-model-len", "512", *lora) as server:
        yield server


def z_in_process(model: FrozenModel, prompt: list[int], answer: list[int]) -> float:
    assert model.parts.reader is not None
    return float(model.parts.reader.logits(model.engine.closed([prompt], [answer]))[0])


@asynccontextmanager
async def reading(server: Server, place: Path, **more: Any) -> AsyncIterator[tuple[SecondRequest, SecondReading]]:
    http = Http()
    config = ServerModel(name="m", base_url=f"{server.url}/v1", model="m", fields=("min_tokens", "return_token_ids"))
    reader = ExportedReader.load(place / "exported")
    second = SecondRequest(config, http, reader, "vllm", ADAPTER, **more)
    try:
        answers = SecondReading("m", await asyncio.to_thread(UpstreamServer, config, http), second, timeout_s=60.0)
        assert await answers.check.look() is None
        yield second, answers
    finally:
        await http.close()


async def read_given(place: Path, model: FrozenModel, server: Server, chosen_ids: bool) -> None:
    async with reading(server, place, chosen_ids=chosen_ids) as (second, _):
        assert await second.problem() is None
        for question in QUESTIONS:
            turns = [{"role": "user", "content": question}]
            for answer in ("Japan", "é", "a long answer, of several words"):
                z, _ = await second.read_given(turns, {}, answer)
                ours = z_in_process(model, model.engine.encode(turns), model.engine.encode_answer(answer))
                assert z == pytest.approx(ours, abs=3e-4)


async def read_answers(place: Path, model: FrozenModel, server: Server, stream: bool) -> None:
    bias = {str(id): -100 for id in range(300, model.engine.vocabulary)} | {str(model.engine.turn_end): 100}
    async with reading(server, place) as (_, answers):
        for number, question in enumerate(QUESTIONS):
            turns = [{"role": "user", "content": question}]
            options = {"temperature": 1, "seed": number, "min_tokens": 3 + number, "logit_bias": bias, "max_tokens": 24}
            asked = Asked(chat=True, messages=turns, options=options, deadline=math.inf)
            if stream:
                reply = [piece async for piece in answers.stream(asked)][-1]
            else:
                reply = await answers.ask(asked)
            assert isinstance(reply, Reply)
            written = reply.choices[0].token_ids
            assert written is not None
            assert len(written) == 4 + number
            assert reply.prompt_token_ids == model.engine.encode(turns)
            ours = z_in_process(model, model.engine.encode(turns), written[:-1])
            assert logit(reply.sources[READER]) == pytest.approx(ours, abs=3e-4)
            assert reply.verdict_tokens == 2
            assert reply.read_tokens == 2 * (reply.prompt_tokens + 3 + number + 1)


@pytest.mark.parametrize("chosen_ids", [False, True])
def test_z_of_a_given_answer_is_that_of_this_process(
    place: Path, model: FrozenModel, server: Server, chosen_ids: bool
) -> None:
    asyncio.run(read_given(place, model, server, chosen_ids))


@pytest.mark.parametrize("stream", [False, True])
def test_z_of_an_answer_is_read_after_the_tokens_that_were_written(
    place: Path, model: FrozenModel, server: Server, stream: bool
) -> None:
    asyncio.run(read_answers(place, model, server, stream))


async def problem_of(url: str, reader: ExportedReader) -> str | None:
    http = Http()
    try:
        config = ServerModel(name="m", base_url=f"{url}/v1", model="m")
        return await SecondRequest(config, http, reader, "vllm", "m").problem()
    finally:
        await http.close()


def test_the_base_model_without_the_adapter_is_known(place: Path, server: Server) -> None:
    found = asyncio.run(problem_of(server.url, ExportedReader.load(place / "exported")))
    assert found is not None
    assert "runs other weights than the exported ones" in found
