"""What the plug-in does not do, each in one sentence."""

from __future__ import annotations

import re

from confide_vllm import __version__

TESTED = "0.32.0"
OLDEST, NEWEST = (0, 30), (0, 32)
"""The releases of vLLM in which the reading may work. Others than the tested one are untested."""

OWN_STATES = ("ngram", "ngram_gpu", "suffix", "draft_model")
"""Ways of speculative decoding that take no hidden states of the model."""


def wrong_version(version: str) -> str | None:
    """Why the reading is not had in this vLLM (None: it is)."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and OLDEST <= (int(found[1]), int(found[2])) <= NEWEST:
        return None
    return (
        f"confide-vllm {__version__} works in vLLM {_dotted(OLDEST)} to {_dotted(NEWEST)} (tested: {TESTED}), and this "
        f"is {version}: install one of these, or the confide-vllm of that vLLM"
    )


def wrong_export(block: object, width: int) -> str | None:
    """Why a folder's ``confide`` block cannot be served (None: it can)."""
    if not isinstance(block, dict) or not isinstance(block.get("version"), str):
        return "this folder has no confide block in its config.json: make it with `confide export --for vllm`"
    if (version := block.get("version")) != __version__:
        return (
            f"this folder was exported by confide {version}, and confide-vllm is {__version__}: export it again, or "
            f"install confide-vllm=={version}"
        )
    if block.get("hidden_size") != width:
        return f"this folder's reading is for states of {block.get('hidden_size')} numbers, the model has {width}"
    return None


def cannot(
    *,
    architecture: str,
    hands_out_layers: bool,
    pipeline: int,
    drafter: str | None,
    quantization: str | None,
    mode: str,
) -> str | None:
    """Why a model cannot be read as it is to be served (None: it can).

    Args:
        hands_out_layers: whether the architecture gives the states of its middle layers (``SupportsEagle3``).
        pipeline: over how many stages it is spread.
        drafter: the method of speculative decoding, if there is any.
        mode: which log-probabilities are returned (``--logprobs-mode``).
    """
    if not hands_out_layers:
        return f"{architecture} does not hand out its middle layers in this vLLM, so confide cannot read them"
    if pipeline > 1:
        return "confide's reading needs all layers in one stage: use tensor parallelism, not pipeline parallelism"
    if drafter is not None and drafter not in OWN_STATES:
        return f"speculative decoding by {drafter} takes the states that confide reads: leave it out, or use ngram"
    if quantization is not None:
        return (
            f"quantised weights ({quantization}) are not those that confide's reading was fitted on: serve them as is"
        )
    if mode != "raw_logprobs":
        return f"confide's reading comes with raw log-probabilities: leave out --logprobs-mode {mode}"
    return None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
