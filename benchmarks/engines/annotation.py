"""Annotation through vLLM, many requests at once, against this process's Transformers engine: time and answers.

Both take both cores, both answer in float32, and both get the same questions, among them none that vLLM has read
before. The model's loading and the server's start are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import MODEL, Json
from benchmarks.engines.prepared import Prepared
from confide.annotation import annotate
from confide.engines.engine import Engine
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.openai_engine import OpenAIEngine
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import read_records
from confide.tasks import Task

CONCURRENCY = 32
THREADS = 2


def measure(prepared: Prepared) -> Json:
    """How long each takes, and on how many questions they agree."""
    return prepared.stage("annotation", partial(both, prepared))


def both(prepared: Prepared) -> Json:
    """One after the other."""
    asked = prepared.rows["test"][: 40 if prepared.quick else 500]
    wanted = {row.id for row in asked}
    task = replace(prepared.task, questions=[q for q in prepared.task.questions if q.id in wanted])
    found: dict[str, Json] = {}
    answers: dict[str, Mapping[str, str]] = {}
    with prepared.up("plain", "float32", threads=THREADS) as server:
        config = EndpointConfig(base_url=f"{server.url}/v1", concurrency=CONCURRENCY)
        engine = OpenAIEngine(config, "m")
        found["vllm"], answers["vllm"] = annotated(engine, task, prepared.folder / "through-vllm.jsonl")
        engine.close()
    torch.set_num_threads(THREADS)
    here = TransformersEngine.load(MODEL, dtype="float32")
    found["transformers"], answers["transformers"] = annotated(here, task, prepared.folder / "in-process.jsonl")
    equal = sum(text == answers["transformers"][id] for id, text in answers["vllm"].items())
    times = found["transformers"]["seconds"] / found["vllm"]["seconds"]
    return {"n": len(asked), "equal": equal, "times_as_fast": times, "concurrency": CONCURRENCY, **found}


def annotated(engine: Engine, task: Task, out: Path) -> tuple[Json, Mapping[str, str]]:
    """Annotate anew; seconds, tokens, and every answer's text."""
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    annotate(engine, task, out)
    seconds = time.perf_counter() - began
    records = read_records(out)
    return {"seconds": seconds, "questions_a_second": len(records) / seconds}, {r.id: r.answer.strip() for r in records}
