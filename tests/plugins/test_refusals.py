"""What the plug-in refuses, and that each refusal is one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from confide_vllm import __version__
from confide_vllm.refusals import cannot, wrong_export, wrong_version

FINE: dict[str, Any] = {
    "architecture": "LlamaForCausalLM",
    "hands_out_layers": True,
    "pipeline": 1,
    "drafter": None,
    "quantization": None,
    "mode": "raw_logprobs",
}


@pytest.mark.parametrize("version", ["0.30.0", "0.31.2", "0.32.0", "0.32.0+cpu", "0.32.1.dev7+gabc"])
def test_versions_in_the_range_are_taken(version: str) -> None:
    assert wrong_version(version) is None


@pytest.mark.parametrize("version", ["0.29.1", "0.33.0", "1.0.0", "0.3.2", "dev", ""])
def test_other_versions_are_refused(version: str) -> None:
    told = wrong_version(version)
    assert told is not None
    assert "0.30 to 0.32 (tested: 0.32.0)" in told
    assert version in told


@pytest.mark.parametrize("drafter", [None, "ngram", "suffix", "draft_model"])
def test_drafters_that_take_no_states_are_taken(drafter: str | None) -> None:
    assert cannot(**FINE | {"drafter": drafter}) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hands_out_layers": False}, "does not hand out its middle layers"),
        ({"pipeline": 2}, "use tensor parallelism"),
        ({"drafter": "eagle3"}, "speculative decoding by eagle3"),
        ({"drafter": "mtp"}, "speculative decoding by mtp"),
        ({"drafter": "extract_hidden_states"}, "speculative decoding by extract_hidden_states"),
        ({"quantization": "fp8"}, "quantised weights (fp8)"),
        ({"quantization": "awq"}, "quantised weights (awq)"),
        ({"mode": "processed_logprobs"}, "leave out --logprobs-mode processed_logprobs"),
        ({"mode": "raw_logits"}, "leave out --logprobs-mode raw_logits"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(change: dict[str, Any], told: str) -> None:
    sentence = cannot(**FINE | change)
    assert sentence is not None
    assert told in sentence
    assert "\n" not in sentence


def test_an_export_must_fit_plugin_and_model() -> None:
    block = {"version": __version__, "hidden_size": 32}
    assert wrong_export(block, 32) is None
    for none in (None, "yes", {}, {"hidden_size": 32}):
        assert "confide export --for vllm" in str(wrong_export(none, 32))
    assert "install confide-vllm==9.9" in str(wrong_export(block | {"version": "9.9"}, 32))
    assert "for states of 32 numbers, the model has 64" in str(wrong_export(block, 64))
