"""The model card says what was trained and measured, and its code gives the confidence that confide gives."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import confide
from confide.errors import ConfideError
from confide.methods.checkpoint import read_info
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.model_card import read_results, write_card

pytestmark = pytest.mark.usefixtures("one_thread")
SAVED = Path(__file__).parent / "saved"


def results(*sources: str) -> dict[str, Any]:
    figures = {"auroc": {"value": 0.8, "low": 0.75, "high": 0.85}, "ece": {"value": 0.05, "low": None, "high": None}}
    return {"schema": 1, "n": 1200, "accuracy": 0.4, "split": "test", "estimators": dict.fromkeys(sources, figures)}


def card_of(method: str, tmp_path: Path, found: dict[str, Any] | None = None) -> tuple[ModelCard, Path]:
    out = tmp_path / "exported"
    export_checkpoint(SAVED / method, out)
    write_card(out, read_info(SAVED / method), found, str(out))
    return ModelCard.load(out / "README.md"), out


def test_the_table_and_the_metadata_are_the_results(tmp_path: Path) -> None:
    card, _ = card_of("self_ref", tmp_path, results("logprob_sum", "self_ref", "portable"))
    table = [line for line in card.text.splitlines() if line.startswith("|")]
    assert table == [
        "| source | AUROC | ECE |",
        "|---|---:|---:|",
        "| `portable` | 0.800 [0.750, 0.850] | 0.050 |",
        "| `self_ref` | 0.800 [0.750, 0.850] | 0.050 |",
        "| `logprob_sum` | 0.800 [0.750, 0.850] | 0.050 |",
    ]
    assert "On 1,200 graded rows of the split `test`, of whose answers 40.0% are right:" in card.text
    # Only what this export gives is a result of it.
    found = card.data.eval_results or []
    told = {one.metric_name: one.metric_value for one in found}
    assert told == {"AUROC of self_ref": 0.8, "ECE of self_ref": 0.05}


def test_what_was_trained_is_told(tmp_path: Path) -> None:
    card, _ = card_of("self_ref", tmp_path)
    info = read_info(SAVED / "self_ref")
    assert str(info.training_data_sha256) in card.text
    assert "Training rows: 32 right, 16 wrong" in card.text
    assert "None were given: judge it" in card.text
    # The base model was a folder on somebody's machine: no name that the hub could look up.
    assert card.data.base_model is None
    assert card.data.eval_results is None


@pytest.mark.parametrize(
    ("base", "told"), [("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("some/model", "some/model")]
)
def test_a_base_model_of_the_hub_is_linked(tmp_path: Path, base: str, told: str) -> None:
    out = tmp_path / "exported"
    export_checkpoint(SAVED / "self_ref", out)
    write_card(out, read_info(SAVED / "self_ref").model_copy(update={"base_model": base}), None, "me/sure")
    card = ModelCard.load(out / "README.md")
    assert card.data.base_model == told
    assert f"Base model: {told}" in card.text


def test_the_code_of_self_ref_gives_its_confidence(tmp_path: Path) -> None:
    card, out = card_of("self_ref", tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    model = confide.load(out, dtype="float32")
    answer = model.confidence("Where is Lyon?", "France")
    ids = [*model.engine.encode(model.as_asked("Where is Lyon?")), *model.engine.encode_answer("France")]
    names: dict[str, Any] = {"ids": ids}
    exec(blocks[0], names)
    assert answer.source == "self_ref"
    assert names["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
    offline = blocks[1].replace("snapshot_download(", "str(").replace("import snapshot_download", "import ModelCard")
    exec(offline, {})


def test_the_code_of_a_reader_loads_its_adapter(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    card, out = card_of("reader", tmp_path)
    assert f'PeftModel.from_pretrained(model, "{out}", subfolder="adapter")' in card.text
    model = AutoModelForCausalLM.from_pretrained(out)
    read = PeftModel.from_pretrained(model, str(out), subfolder="adapter")
    assert any("lora" in name for name, _ in read.named_parameters())


def test_each_kind_says_how_it_is_used(tmp_path: Path) -> None:
    card, out = card_of("stated", tmp_path)
    assert "skip_special_tokens=False" in card.text
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"confide": {}}))
    write_card(out, read_info(SAVED / "stated"), None, "me/sure")
    assert "pip install confide-vllm" in (out / "README.md").read_text()
    plain = tmp_path / "plain"
    shutil.copytree(SAVED / "reader", plain)
    write_card(plain, read_info(plain), None, "me/sure")
    assert "the trained stack is read by confide" in (plain / "README.md").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 2, "estimators": {"a": {}}}'])
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ConfideError, match=r"results\.json is no"):
        read_results(path)
