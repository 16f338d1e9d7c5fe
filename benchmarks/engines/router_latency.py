"""The router in front of vLLM with a learned confidence: what it adds to latency, and its share of vLLM's throughput.

vLLM runs the exported folder. It is asked directly, for the answer alone (``vLLM``) and for the reading too, as a
client does that reads it itself (``vLLM, reading``); through confide, whose policy keeps every answer; and through
LiteLLM's proxy, which passes the answer on. Rounds are interleaved and paired: the same questions at the same times,
all of which vLLM has read before: the less it has to do, the more a router's own work shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

import confide
from benchmarks.common import Json
from benchmarks.engines.paired_rounds import added_p50, in_turn, ratio
from benchmarks.engines.prepared import ROOM, Prepared, messages, wait_for_reading
from benchmarks.engines.request_rounds import Ask, Client, Round, ask_all, ask_at
from benchmarks.serving.litellm_proxy import LITELLM, litellm
from confide.methods.scoring import score
from confide.methods.stack.served_stack import SERVED
from confide.policies.goals import MaxRisk
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.records import Record
from confide.serving.api_keys import hash_key
from routers import KEY, serve
from vllm_server import Server

RATE = 10.0
STREAMS = 64
ALONE, READ = "vLLM", "vLLM, reading"
PROXY = Path("runs/router")
"""Where `benchmarks.serving.router_load` keeps LiteLLM's environment; it is built there where it is missing."""

POLICY_ROWS = 400
KEPT = 0.9
"""The risk that the router's policy promises: it keeps every answer, so that no expert is waited for."""


def measure(prepared: Prepared) -> Json:
    """Latency at `RATE`, then throughput."""
    return prepared.stage("router-latency", partial(all_systems, prepared))


def all_systems(prepared: Prepared) -> Json:
    """Start vLLM, both routers, and ask."""
    quick = prepared.quick
    rounds, seconds, questions = (2, 2.0, 8) if quick else (5, 10.0, 60)
    PROXY.mkdir(parents=True, exist_ok=True)
    with ExitStack() as up:
        server = up.enter_context(prepared.up("served"))
        port = int(server.url.rpartition(":")[2])
        router = up.enter_context(serve(prepared.folder.resolve(), "confide", serve_yaml(prepared, server), set()))
        wait_for_reading(router.port)
        proxy = up.enter_context(litellm(PROXY.resolve(), port))
        systems = {
            ALONE: (server.url, {}),
            READ: (server.url, prepared.file.reading.fields()),
            "confide": (f"http://127.0.0.1:{router.port}", {"model": "small"}),
            "litellm": (f"http://127.0.0.1:{proxy.port}", {"model": "small"}),
        }
        rows = prepared.rows["test"][:questions]

        def asked(name: str, count: int) -> list[Ask]:
            return [partial(chat, body(rows[i % len(rows)], systems[name][1])) for i in range(count)]

        def at_rate(name: str, number: int) -> Round:
            due = arrivals(number, seconds)
            return ask_at(systems[name][0], asked(name, len(due)), due, KEY)

        def at_once(name: str, number: int) -> Round:
            return ask_all(systems[name][0], asked(name, 2 * questions), STREAMS, KEY)

        interleaved([ALONE], 0, at_once)  # vLLM reads every question
        slow = interleaved(list(systems), rounds, at_rate)
        fast = interleaved(list(systems), rounds, at_once)
    return told(slow, fast, 2 * questions) | {
        "rate": RATE,
        "seconds_a_round": seconds,
        "streams": STREAMS,
        "litellm": LITELLM,
    }


def interleaved(names: list[str], rounds: int, run: Callable[[str, int], Round]) -> dict[str, list[Round]]:
    """Every system's rounds; a first one warms up."""
    found: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in in_turn(names, number):
            one = run(name, number)
            if number:
                found[name].append(one)
    return found


def told(slow: dict[str, list[Round]], fast: dict[str, list[Round]], questions: int) -> Json:
    """Latency and throughput of every system, and what the routers add to vLLM alone."""
    runs = {name: [vars(one) for one in rounds] for name, rounds in slow.items()}
    seconds = {name: [one.seconds for one in rounds] for name, rounds in fast.items()}
    systems = {
        name: {
            "p50_ms": float(np.median(np.concatenate([one["latency_ms"] for one in runs[name]]))),
            "p99_ms": float(np.quantile(np.concatenate([one["latency_ms"] for one in runs[name]]), 0.99)),
            "questions_a_second": questions * len(seconds[name]) / sum(seconds[name]),
        }
        for name in runs
    }
    routers = {
        f"{name} over {alone}": {
            "p50_added_ms": added_p50(runs[name], runs[alone]),
            "throughput": ratio(seconds[alone], seconds[name]),
        }
        for name in ("confide", "litellm")
        for alone in (ALONE, READ)
    }
    about = [reply["confide"] for one in slow["confide"] for reply in one.replies]
    learned = sum(told["source"] == SERVED and told["served"] == "small" for told in about)
    return {
        "systems": systems,
        "over": routers,
        "rounds": len(slow[ALONE]),
        "requests": len(about),
        "learned": learned,
        "questions": questions,
    }


def arrivals(seed: int, seconds: float) -> list[float]:
    """When requests come: a Poisson process, its times in seconds."""
    draw, due, found = random.Random(seed), 0.0, []
    while (due := due + draw.expovariate(RATE)) < seconds:
        found.append(due)
    return found


def body(row: Record, more: Json) -> Json:
    """A greedy request."""
    return {"model": "m", "messages": messages(row), "temperature": 0, "max_tokens": ROOM, **more}


async def chat(asked: Json, client: Client) -> Json:
    """Ask it."""
    return await client.chat(asked)


def serve_yaml(prepared: Prepared, server: Server) -> Json:
    """The router's configuration, beside a policy that it may use."""
    policy = prepared.folder / "keeps-all.json"
    rows = score(prepared.rows["calibration"][:POLICY_ROWS], [SERVED], model=confide.load(prepared.trained))
    made = calibrate_policy(rows, SERVED, MaxRisk(KEPT, per="entity"))
    assert isinstance(made, Policy)
    made.save(policy)
    small = {"engine": "vllm", "base_url": f"{server.url}/v1", "model": "m", "reading": str(prepared.served.resolve())}
    keys = [{"name": "load", "hash": hash_key(KEY), "scopes": ["ask", "feedback", "read"]}]
    return {"policy": str(policy.resolve()), "small": small, "experts": [], "api_keys": keys}
