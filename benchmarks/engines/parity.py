"""Whether a vLLM with the plug-in answers as plain vLLM does, and whether its reading is that of this process.

Answers and log-probabilities are compared bit for bit with those of plain vLLM, which is asked one question at a time.
So is the plug-in; then both are asked many at once, for what shares a batch can change a last bit. The reading is
compared on the same tokens with this process in float32; decisions are those of a policy that promises a risk.

In float32 the policy is calibrated on rows that this process read. In bfloat16 it is calibrated on rows that the engine
answered and read; ``equal`` compares its decisions with those of the same policy on this process's reading of the same
tokens, and ``systems`` with those that this process alone, with the float32 policy, comes to about the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import Json
from benchmarks.engines.prepared import ROOM, Prepared, Read, messages
from benchmarks.engines.request_rounds import Ask, Client, ask_all
from confide.engines.openai.learned_reading import LearnedReading
from confide.methods.stack.served_stack import SERVED
from confide.policies.goals import MaxRisk
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.records import Record
from vllm_server import Server

DTYPES = ("float32", "bfloat16")
WAYS: dict[str, Json] = {"greedy": {"temperature": 0}, "seeded": {"temperature": 1, "seed": 7}}
AT_ONCE = 16
ASKED = {"greedy": 400, "seeded": 250, "at_once": 250, "calibration": 600}
"""How many of the test and calibration questions are asked in each way: one at a time, some 4,000 take two hours."""
RISKS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def measure(prepared: Prepared) -> Json:
    """All comparisons."""
    found = {dtype: prepared.stage(f"answers-{dtype}", partial(answers, prepared, dtype)) for dtype in DTYPES}
    made = prepared.stage("parity", partial(compared, prepared, found))
    return {"bitwise": {dtype: one["bitwise"] for dtype, one in found.items()}, **made}


# Answers of both servers


def answers(prepared: Prepared, dtype: str) -> Json:
    """Both servers' answers to the test questions; for bfloat16 those to the calibration questions too."""
    rows = prepared.rows
    made: Json = {"bitwise": {}, "read": {}}
    with prepared.both(dtype) as (plain, served):
        for way, options in WAYS.items():
            pair = together(prepared, rows["test"][: ASKED[way]], (plain, served), options)
            made["bitwise"][way] = bitwise(*pair)
            made["read"][way] = reads(prepared.file.reading, pair[1])
            print(f"  {dtype} {way}: {made['bitwise'][way]}", flush=True)
            if way == "greedy":
                made["bitwise"] |= batched(prepared, (plain, served), pair[0])
        if dtype != "float32":
            reading = prepared.file.reading
            asked = [partial(ask, fields(row, WAYS["greedy"], reading.fields())) for row in calibration_rows(prepared)]
            made["read"]["calibration"] = reads(reading, ask_all(served.url, asked, AT_ONCE).replies)
    return made


def together(prepared: Prepared, rows: Sequence[Record], servers: tuple[Server, Server], options: Json) -> list[Any]:
    """What plain vLLM and the one with the plug-in say to the same questions, one at a time at each."""
    extra = (plain_fields(), prepared.file.reading.fields())
    asks: list[list[Ask]] = [[partial(ask, fields(row, options, more)) for row in rows] for more in extra]
    with ThreadPoolExecutor(2) as pool:
        rounds = [pool.submit(ask_all, server.url, some, 1) for server, some in zip(servers, asks, strict=True)]
        return [one.result().replies for one in rounds]


def batched(prepared: Prepared, servers: tuple[Server, Server], alone: list[Json]) -> Json:
    """Both servers' answers to many questions at once, against those that plain vLLM gave one by one."""
    found: Json = {}
    extra = (plain_fields(), prepared.file.reading.fields())
    for name, server, more in zip(("plain", "plug-in"), servers, extra, strict=True):
        some = prepared.rows["test"][: ASKED["at_once"]]
        told = ask_all(server.url, [partial(ask, fields(row, WAYS["greedy"], more)) for row in some], AT_ONCE).replies
        found[f"greedy, {name}, {AT_ONCE} at once"] = bitwise(alone[: len(told)], told)
    return found


def calibration_rows(prepared: Prepared) -> list[Record]:
    """The rows that both policies are calibrated on."""
    return prepared.rows["calibration"][: ASKED["calibration"]]


def plain_fields() -> Json:
    """How plain vLLM is asked for the same as with a reading."""
    return {"logprobs": True, "return_tokens_as_token_ids": True}


def fields(row: Record, options: Json, more: Json) -> Json:
    """A request."""
    return {"model": "m", "messages": messages(row), "max_tokens": ROOM, "return_token_ids": True, **options, **more}


async def ask(body: Json, client: Client) -> Json:
    """Ask it; what counts of the reply."""
    told = await client.chat(body)
    choice = told["choices"][0]
    return {
        "prompt": told["prompt_token_ids"],
        "content": choice["logprobs"]["content"],
        "text": choice["message"]["content"],
    }


def bitwise(plain: Sequence[Json], served: Sequence[Json]) -> Json:
    """On how many questions text, tokens and every token's log-probability are the same."""

    def told(reply: Json) -> tuple[str, list[tuple[str, float]]]:
        return reply["text"], [(token["token"], token["logprob"]) for token in reply["content"]]

    pairs = [(told(a), told(b)) for a, b in zip(plain, served, strict=True)]
    tokens = sum(len(a[1]) for a, _ in pairs)
    same = [a[0] == b[0] for a, b in pairs]
    return {"n": len(pairs), "equal": sum(a == b for a, b in pairs), "same_text": sum(same), "tokens": tokens}


def reads(reading: LearnedReading, replies: Sequence[Json]) -> list[Json]:
    """Prompts and what was read of the answers."""
    found = []
    for reply in replies:
        back = reading.read(reply["content"])
        found.append({"prompt": reply["prompt"], **asdict(Read(back.ids, back.logprobs, back.end_logprob, back.z))})
    return found


# Against this process


def compared(prepared: Prepared, found: dict[str, Json]) -> Json:
    """How far z is off, and how often decisions are the same."""
    rows = prepared.rows
    fresh = calibration_rows(prepared)
    calibration = prepared.as_records(fresh, read_rows(prepared, fresh))
    here, engine = (
        policy(calibration),
        policy(scored(prepared, fresh, found["bfloat16"]["read"]["calibration"])),
    )
    made: Json = {"z": {}, "decisions": {}}
    decided: dict[str, list[str]] = {}
    for dtype in DTYPES:
        for way in WAYS if dtype == "float32" else ("greedy",):
            told = found[dtype]["read"][way]
            ours = prepared.read_here([one["prompt"] for one in told], [one["ids"] for one in told])
            made["z"][f"{dtype}, {way}"] = apart(told, ours)
            if way == "greedy":
                rule = here if dtype == "float32" else engine
                pair = [
                    scored(prepared, rows["test"][: len(told)], told),
                    prepared.as_records(rows["test"][: len(told)], cut(ours, told)),
                ]
                served, same = (decisions(rule, records) for records in pair)
                decided |= {dtype: served, f"{dtype}, here": same}
                made["decisions"][dtype] = agreement(served, same) | promise(rule)
    # This process alone: its own greedy answers are those that float32 vLLM gave, read here, with the policy from here.
    made["decisions"]["bfloat16"]["systems"] = agreement(decided["bfloat16"], decided["float32, here"])
    return made


def read_rows(prepared: Prepared, rows: Sequence[Record]) -> list[Read]:
    """The answers that the records have, read in this process; those that were cut have no end."""
    prompts = [prepared.model.engine.encode(messages(row)) for row in rows]
    found = prepared.read_here(prompts, [row.answer_ids for row in rows])
    return [
        one if row.finish == "stop" else Read(one.ids, one.logprobs, None, None)
        for row, one in zip(rows, found, strict=True)
    ]


def cut(ours: Sequence[Read], told: Sequence[Json]) -> list[Read]:
    """``ours`` without an end where the engine's answer has none."""
    return [
        Read(one.ids, one.logprobs, None, None) if reply["end_logprob"] is None else one
        for one, reply in zip(ours, told, strict=True)
    ]


def scored(prepared: Prepared, rows: Sequence[Record], told: Sequence[Json]) -> list[Record]:
    """Records of what an engine told."""
    read = [Read(one["ids"], one["logprobs"], one["end_logprob"], one["z"]) for one in told]
    return prepared.as_records(rows, read)


def policy(records: Sequence[Record]) -> Policy:
    """The policy with the least risk that these rows can promise."""
    for risk in RISKS:
        made = calibrate_policy(records, SERVED, MaxRisk(risk, per="entity"))
        if isinstance(made, Policy):
            return made
    raise SystemExit(f"no risk of {RISKS} can be promised")


def promise(made: Policy) -> Json:
    """What a policy promises."""
    data = made.guarantee
    return {"max_risk": getattr(data, "limit", None), "rows": getattr(data, "n", None)}


def decisions(rule: Policy, records: Sequence[Record]) -> list[str]:
    """What a policy does with each."""
    return [rule.decide(record.confidence[SERVED], record.domain) for record in records]


def agreement(one: Sequence[str], other: Sequence[str]) -> Json:
    """On how many of them two are the same."""
    equal = sum(a == b for a, b in zip(one, other, strict=True))
    return {"n": len(one), "equal": equal, "kept": sum(a == "answer" for a in one)}


def apart(told: Sequence[Json], ours: Sequence[Read]) -> Json:
    """How far z and log-probabilities are from this process's."""
    pairs = [(a, b) for a, b in zip(told, ours, strict=True) if a["z"] is not None]
    z = np.array([abs(a["z"] - (b.z or 0.0)) for a, b in pairs])
    tokens = np.array([abs(p - q) for a, b in pairs for p, q in zip(a["logprobs"], b.logprobs, strict=True)])
    return {"n": len(pairs), "most": float(z.max()), "median": float(np.median(z)), "logprob_most": float(tokens.max())}
