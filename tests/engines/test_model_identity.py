"""What a model is: its weights, however they are stored and however their folder is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import confide
from confide.engines.transformers.transformers_engine import TransformersEngine
from stating_model import saved
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def identity(name: object) -> str:
    return TransformersEngine.load(str(name)).identity


def stored(folder: Path, model: Any, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    tiny_model()[1].save_pretrained(folder)
    return folder


def test_every_spelling_of_a_path_is_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "m")
    (tmp_path / "link").symlink_to("m")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("m", "./m", "m/", str(tmp_path / "m"), "link", "~/m")
    assert len({identity(name) for name in names}) == 1
    assert confide.load("~/m").identity == confide.load("m").identity


def test_a_trained_folder_is_one_under_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[1] / "methods" / "saved"
    monkeypatch.setenv("HOME", str(folder))
    assert confide.load("~/reader").identity == confide.load(folder / ".." / "saved" / "reader").identity
    assert confide.load("~/reader").info.trained


def test_shards_and_the_type_they_are_stored_in_change_nothing(tmp_path: Path) -> None:
    model = tiny_model()[0].to(torch.bfloat16)
    whole = stored(tmp_path / "whole", model)
    shards = stored(tmp_path / "shards", model, max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    wide = stored(tmp_path / "wide", model.float())
    assert identity(whole) == identity(shards) == identity(wide)


def test_the_type_that_a_model_runs_in_is_part_of_what_it_is(tmp_path: Path) -> None:
    name = saved(tmp_path / "m")
    assert TransformersEngine.load(name, dtype="float32").identity != identity(name)


def test_two_adapters_on_one_base_are_two_models(tmp_path: Path) -> None:
    found = {identity(stored(tmp_path / "base", tiny_model()[0]))}
    for seed in (1, 2):
        base = tiny_model()[0]
        torch.manual_seed(seed)
        adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        found.add(identity(stored(tmp_path / f"adapter{seed}", adapted.merge_and_unload())))
    assert len(found) == 3
