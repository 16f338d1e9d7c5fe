"""Which engine gives which confidence: `confide engine check` against every server that can be had here.

Real servers: vLLM, and vLLM with the plug-in on an exported folder. Stand-ins, named as such: servers that answer in
the shapes of llama.cpp, of Ollama, and of a hosted API that refuses what it does not know. This process is asked for
its capabilities as every engine is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

import checked_endpoints
from benchmarks.common import Json
from benchmarks.engines.prepared import Prepared
from confide.methods.catalogue import METHODS
from confide.sources import Source, family

SAFE = "logprob_token_ids,prompt_logprobs"
SHOWN = ("learned", "asked", "sampled", "free", "prior")
"""Families of sources that are no floors, and take no other model."""

COMPARISON = "answer_only_table"
"""A source that others are compared with, and that nobody serves."""

STANDINS = {
    "llama.cpp": checked_endpoints.llama_cpp,
    "Ollama": checked_endpoints.ollama,
    "hosted API": checked_endpoints.openai,
}
"""Servers that answer in the shapes of those."""


def measure(prepared: Prepared) -> Json:
    """What each engine gives."""
    return prepared.stage("capabilities", partial(all_engines, prepared))


def all_engines(prepared: Prepared) -> Json:
    """Every engine, one after the other."""
    found: dict[str, Json] = {"Transformers, in process": in_process(prepared)}
    for what in ("served", "plain"):
        with prepared.up(what) as server:
            name = "vLLM with the plug-in" if what == "served" else "vLLM"
            found[name] = checked(f"{server.url}/v1", "m", "--safe-to-ask", SAFE) | {"real": True}
    with ExitStack() as up:
        for name, make in STANDINS.items():
            standin = up.enter_context(make().running())
            found[name] = checked(standin.url, "tiny") | {"real": False}
    return {"engines": found}


def in_process(prepared: Prepared) -> Json:
    """What the engine in this process gives: the sources of every method whose needs it meets."""
    given = prepared.model.engine.capabilities
    names = dict.fromkeys(name for method in METHODS if set(method.needs) <= given for name in method.sources)
    return {
        "sources": [name for name in names if shown(name)],
        "capabilities": sorted(given),
        "real": True,
    }


def shown(name: str) -> bool:
    """Whether a source has a place in the table."""
    return family(name) in SHOWN and name != COMPARISON and not Source.parse(name).auxiliary


def checked(url: str, model: str, *flags: str) -> Json:
    """What the check of an engine says of a server."""
    command = [
        sys.executable,
        "-m",
        "confide.cli.main",
        "engine",
        "check",
        "--base-url",
        url,
        "--model",
        model,
        "--json",
    ]
    told = subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE).stdout
    data: Json = json.loads(told)
    return {
        "sources": [one["source"] for one in data["sources"]],
        "capabilities": data["capabilities"],
        "version": data["version"],
    }
