"""``confide export --for vllm``: a folder that vLLM loads, and the same confidence from it as in this process.

vLLM's part is played by the plug-in's arithmetic on states that Transformers hands out; ``make test-vllm`` has the
real one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import confide
from confide.cli.main import app
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.along.along_training import train_signal
from confide.methods.along.stop_watch import joined
from confide.methods.checkpoint import read_info
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.frozen.served_export import export_served, weight_files
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.served_stack import SERVED, served_values
from confide.records import Message, Record
from confide.signals import RED_FLAG
from confide_vllm.extra_ids import Fingerprint, extended, project, split, widen
from confide_vllm.refusals import wrong_export
from scored_model import COLOURS, records
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base model in two shards, and what was trained on it without a reader."""
    place = tmp_path_factory.mktemp("export")
    base, trained = place / "base", place / "trained"
    model, tokenizer = tiny_model()
    model.bfloat16().save_pretrained(base, max_shard_size="30KB")
    tokenizer.save_pretrained(base)
    engine = TransformersEngine.load(str(base))
    rows = [row.model_copy(update={"model": str(base)}) for row in records(60)]
    parts = [[row for row in rows if row.split == split] for split in ("train", "validation")]
    options = FrozenOptions()
    train_confidence(engine, *parts, options, trained)
    train_signal(engine, RED_FLAG, *parts, trained)  # any labels will do
    return base, trained


@pytest.fixture(scope="module")
def served(folders: tuple[Path, Path]) -> Path:
    out = folders[1].with_name("served")
    assert "stack_served and red_flag of LlamaForCausalLM" in export_served(folders[1], out)
    return out


def test_the_folder_is_the_base_models_with_linked_weights(folders: tuple[Path, Path], served: Path) -> None:
    base, _ = folders
    weights = weight_files(base)
    assert len(weights) > 1
    assert [file.name for file in weight_files(served)] == [file.name for file in weights]
    assert all((served / file.name).samefile(file) for file in weights)
    assert sorted(served.glob("*.safetensors")) == sorted(served / file.name for file in weights)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (served / name).read_bytes() == (base / name).read_bytes()
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (served, base))
    assert config["architectures"] == ["ConfideLlamaForCausalLM"]
    assert config["vocab_size"] == before["vocab_size"] + 64
    assert config["confide"]["vocab_size"] == before["vocab_size"]
    assert wrong_export(config["confide"], 32) is None
    changed = {"architectures", "vocab_size", "confide"}
    assert {k: v for k, v in config.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert not (served / "confide.json").exists()


def read_as_the_engine(served: Path, base: Path, prompt: list[int], answer: list[int]) -> list[dict[str, Any]]:
    """What vLLM would tell of the tokens of ``answer``, its end included, asked for the reading."""
    file, config = ServedFile.load(served), json.loads((served / "config.json").read_text())
    arrays = load_file(served / config["confide"]["arrays"])
    engine = TransformersEngine.load(str(base), dtype="float32")
    with torch.no_grad(), engine.forward.capture(config["confide"]["layers"]) as captured:
        out = engine.model(torch.tensor([prompt + answer[:-1]]), output_hidden_states=True)
        states = [captured[layer][0][0, len(prompt) - 1 :] for layer in config["confide"]["layers"]]
        shares = project(states, arrays["weight"], arrays["offset"])
        hidden, back = split(widen(out.hidden_states[-1][0, len(prompt) - 1 :], shares), len(arrays["offset"]))
        logits = engine.model.get_output_embeddings()(hidden)
    rows = extended(logits, back, torch.tensor(file.reading.fingerprint)).log_softmax(-1)
    ids = [*file.reading.ids, *file.reading.fingerprint_ids]
    return [
        {
            "token": f"token_id:{token}",
            "logprob": float(row[token]),
            "top_logprobs": [{"token": f"token_id:{id}", "logprob": float(row[id])} for id in ids],
        }
        for row, token in zip(rows, answer, strict=True)
    ]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_engine_gives_the_confidence_of_this_process(folders: tuple[Path, Path], served: Path, colour: str) -> None:
    base, trained = folders
    model = confide.load(trained, dtype="float32")
    assert isinstance(model, FrozenModel)
    conversation = [Message(role="user", content=f"Which country is the city in? {colour} 7")]
    prompt = model.engine.encode(conversation)
    for text in ("France", "Chile", ""):
        ids = model.engine.encode_answer(text) if text else []
        told = read_as_the_engine(served, base, prompt, [*ids, model.engine.turn_end])
        file = ServedFile.load(served)
        assert file.reading.wrong(told[:1]) is None
        back = file.reading.read(told)
        assert back.ids == ids
        closed = model.engine.closed([prompt], [ids], layers=model.parts.layers, measure=True)
        completion = closed.completions[0]
        assert back.logprobs == pytest.approx(completion.logprobs, abs=1e-4)
        directions = joined(list(model.signals.values()))
        (along,) = model.engine.closed([prompt], [ids], directions=directions).completions
        assert back.shares is not None
        np.testing.assert_allclose(back.shares[:, 3:], along.shares, atol=1e-3)
        record = Record(
            id="", messages=conversation, answer=text, answer_ids=ids, logprobs=completion.logprobs,
            entropies=completion.entropies, end_logprob=completion.end_logprob,
        )  # fmt: skip
        ours = model.parts.read(closed, [record])[SERVED]
        assert model.parts.served is not None
        mixed = served_values(file.mixture, np.array([back.z], dtype=float), [record])
        np.testing.assert_allclose(mixed, ours, atol=1e-4)
        assert np.isnan(ours[0]) == (text == "")


def test_ask_and_score_name_the_source(folders: tuple[Path, Path]) -> None:
    model = confide.load(folders[1], dtype="float32")
    answer = model.answer("Which country is the city in? red 3", max_new_tokens=64)
    assert SERVED in answer.sources
    assert (answer.sources[SERVED] is None) == (answer.finish != "stop")


def test_the_file_says_whose_answers_it_reads(folders: tuple[Path, Path], served: Path) -> None:
    file, model = ServedFile.load(served), confide.load(folders[1])
    assert file.identity == model.identity
    assert file.model == str(folders[0])
    assert file.reading.vocabulary == json.loads((folders[0] / "config.json").read_text())["vocab_size"]
    assert model.engine.turn_end in file.reading.end_ids
    assert ServedFile.load(served / "confide" / "reading.json").reading == file.reading


def test_what_reads_it_back_needs_no_torch(served: Path) -> None:
    code = """
import sys
import pathlib
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.served_stack import served_confidences
from confide.records import Record
file = ServedFile.load(pathlib.Path(sys.argv[1]))
record = Record(id="a", answer="France", answer_ids=[1], logprobs=[-0.2], end_logprob=-0.1)
(value,) = served_confidences(file.mixture, [1.0], [record])
print(0 < value < 1, {"torch", "transformers"} & {*sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code, str(served)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True set()", done.stderr


def test_an_export_is_no_model_to_load(served: Path) -> None:
    with pytest.raises(ConfideError, match="is an export for vLLM: name the trained folder"):
        confide.load(served)


def test_the_fingerprint_is_the_plugins(folders: tuple[Path, Path], served: Path) -> None:
    taken = Fingerprint()
    for path in [*weight_files(folders[0]), served / "confide" / "reading.safetensors"]:
        for name, tensor in load_file(path).items():
            taken.add(name, tensor)
    assert tuple(taken.bytes()) == ServedFile.load(served).reading.fingerprint


def copied(base: Path, out: Path, **config: Any) -> Path:
    """A copy of the base model with other entries in its configuration; None takes one away."""
    shutil.copytree(base, out)
    entries = json.loads((out / "config.json").read_text()) | config
    (out / "config.json").write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))
    return out


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architectures": ["LlavaForConditionalGeneration"]}, "a causal language model"),
        ({"architectures": []}, "no architecture; a causal"),
        ({"architectures": ["LlamaForCausalLM", "Other"]}, "LlamaForCausalLM, Other; a causal"),
        ({"quantization_config": {"quant_method": "awq"}}, "is quantised"),
        ({"vocab_size": None}, "keeps its sizes in a part of config.json"),
        ({"hidden_size": None}, "keeps its sizes in a part of config.json"),
    ],
)
def test_a_base_that_cannot_be_served_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    base = copied(folders[0], tmp_path / "base", **config)
    with pytest.raises(ConfideError, match=told):
        export_served(folders[1], tmp_path / "out", str(base))
    assert not (tmp_path / "out").exists()


def test_another_base_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base = copied(folders[0], tmp_path / "base")
    shard = weight_files(base)[-1]
    tensors = load_file(shard)
    tensors[next(iter(tensors))].view(-1)[0] += 1
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(ConfideError, match="has other weights than the base model"):
        export_served(folders[1], tmp_path / "out", str(base))


def test_weights_of_another_kind_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base = copied(folders[0], tmp_path / "base")
    weight_files(base)[0].rename(base / "pytorch_model.bin")
    with pytest.raises(ConfideError, match="vLLM is given weights as safetensors"):
        export_served(folders[1], tmp_path / "out", str(base))


def test_what_no_engine_can_read_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    saved = Path(__file__).parents[1] / "saved"
    for folder, told in (
        (saved / "reader", "has no reading that vLLM can give: train it again"),
        (saved / "self_ref", "only `confide train stack` and `train reader` leave one"),
        (saved / "stated", "only `confide train stack` and `train reader` leave one"),
        (folders[0], "was not trained by confide"),
        (tmp_path / "nowhere", "was not trained by confide"),
    ):
        with pytest.raises(ConfideError, match=told):
            export_served(folder, tmp_path / "out")
    control = tmp_path / "control"
    shutil.copytree(folders[1], control)
    info = json.loads((control / "confide.json").read_text())
    (control / "confide.json").write_text(json.dumps(info | {"shuffled_labels": 3}))
    with pytest.raises(ConfideError, match="a control is not served"):
        export_served(control, tmp_path / "out")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(ConfideError, match="full is not empty"):
        export_served(folders[1], full)


def run(*arguments: object) -> Result:
    """``confide ARGUMENTS``; what is refused is the result's exception."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_base_that_has_moved_is_named(folders: tuple[Path, Path], served: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(folders[1], trained)
    info = json.loads((trained / "confide.json").read_text())
    (trained / "confide.json").write_text(json.dumps(info | {"base_model": str(tmp_path / "gone")}))
    assert read_info(trained).base_model.endswith("gone")
    order = ["export", "--for", "vllm", "--model", trained, "--out", tmp_path / "out"]
    assert "is not here: name its folder with --base" in str(run(*order).exception)
    done = run(*order, "--base", folders[0])
    assert (done.exit_code, done.exception) == (0, None)
    assert "for vLLM with confide-vllm" in done.output
    assert ServedFile.load(tmp_path / "out").identity == ServedFile.load(served).identity
    alone = run("export", "--model", trained, "--base", folders[0], "--out", tmp_path / "plain")
    assert "an ordinary checkpoint needs none" in str(alone.exception)
    assert "--for" in run("export", "--for", "sglang", "--model", trained, "--out", tmp_path / "plain").output
    over = run("export", "--for", "vllm", "--model", trained, "--base", folders[0], "--out", folders[0])
    assert "--out would overwrite" in str(over.exception)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "reading": {"vocabulary": 3}}'])
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reading.json").write_text(text)
    with pytest.raises(ConfideError, match="is not what `confide export --for vllm` writes"):
        ServedFile.load(tmp_path / "reading.json")


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reading.json").write_text('{"schema": 2}')
    with pytest.raises(ConfideError, match="has schema 2; this version reads schema 1"):
        ServedFile.load(tmp_path / "reading.json")
