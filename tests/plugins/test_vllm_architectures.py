"""The plug-in in the real vLLM on tiny random models of several architectures, and with settings that split them."""

from __future__ import annotations

from pathlib import Path

import pytest

import confide
from architectures import VLLM_SIZES, architecture
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.frozen.served_export import export_served
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.states import States
from scored_model import records
from vllm_server import PYTHON, vllm_server

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON, reason="CONFIDE_VLLM_PYTHON is not set: run `make test-vllm`"),
]


def served(place: Path, name: str) -> tuple[Path, FrozenModel]:
    """The export of a tiny model with a stack, and the model in this process."""
    model, tokenizer = architecture(name, **VLLM_SIZES)
    model.resize_token_embeddings(384, mean_resizing=False)  # Qwen 2's tokenizer gains a token when it is loaded again
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    engine = TransformersEngine.load(str(place / "base"), dtype="float32")
    rows = [row.model_copy(update={"model": engine.name}) for row in records(60)]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    train_confidence(engine, *parts, FrozenOptions(), place / "trained")
    export_served(place / "trained", place / "served")
    trained = confide.load(place / "trained", dtype="float32")
    assert isinstance(trained, FrozenModel)
    return place / "served", trained


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("Llama", ()),
        ("Qwen2", ()),
        ("Qwen3", ()),
        ("Mistral", ()),
        ("Granite", ()),
        ("Llama", ("--tensor-parallel-size", "2")),
        ("Llama", ("--enable-lora", "--max-lora-rank", "8")),
    ],
)
def test_z_is_that_of_this_process(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    folder, model = served(tmp_path, name)
    assert model.parts.served is not None
    reading, layers = ServedFile.load(folder).reading, model.parts.served.reading.layers
    # Spare rows are other ones in the trained copy: a random model would write them.
    bias = {str(id): -100 for id in range(300, 384)} | {str(model.engine.turn_end): 100}
    with vllm_server(folder, tmp_path / "log", "float32", "--max-model-len", "512", *flags) as server:
        off = []
        for number, least in enumerate((0, 1, 2, 5, 9)):
            told = server.chat(
                [{"role": "user", "content": f"Which country is the city in? {number}"}],
                temperature=1, seed=number, min_tokens=least, logit_bias=bias, **reading.fields(),
            )  # fmt: skip
            assert "status" not in told, told
            back = reading.read(told["choices"][0]["logprobs"]["content"])
            assert len(back.ids) == least
            assert back.z is not None
            closed = model.engine.closed([told["prompt_token_ids"]], [back.ids], layers=layers)
            ours = model.parts.served.reading.z(States(layers, closed.states_before_closing()))
            off.append(abs(back.z - float(ours[0])))
        asked = {"max_tokens": 1, **reading.fields(check=True)}
        told = server.chat([{"role": "user", "content": "red"}], **asked)
        assert reading.wrong(told["choices"][0]["logprobs"]["content"]) is None
    assert max(off) < 3e-4
