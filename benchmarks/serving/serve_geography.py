"""``confide serve`` on the bundled model, end to end: questions it never saw, two experts, the openai client.

    python -m benchmarks.serving.serve_geography                # 300 questions with either expert, under ten minutes
    python -m benchmarks.serving.serve_geography --questions 40

Steps, each kept in the work folder so that a killed run continues: annotate (or reuse the records of the quality
benchmark), split by entity, train the stack, score, calibrate to a risk of 0.2, then serve. The questions that are
asked belong to entities of their own; none took part in training or calibration. The expert ``gazetteer`` looks the
answer up (a tool); ``reread`` is the same small model with the gazetteer's passage in its prompt, which is no sure
thing. Each expert is also asked everything, by a policy that escalates all, to see what it is worth alone.
Writes ``results/serve_geography.json`` and the table of ``docs/results/serving.md``.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.common import RESULTS, Json, Work, parser, read_json, write_result
from benchmarks.serving import serving_tables
from confide.records import Record, read_records, write_records
from confide.tasks import load_task
from routers import Server, serve

QUALITY = Path("runs/quality/records.jsonl")
SIZES = {"train": 2500, "validation": 400, "calibration": 2000, "test": 900}
LIMIT = 6500
RISKS = (0.2, 0.25, 0.3)
EXPERTS: dict[str, dict[str, Any]] = {
    "gazetteer": {"name": "gazetteer", "tool": "confide.tasks.geography.gazetteer:look_up"},
    "reread": {"name": "reread", "self": {"passage": "confide.tasks.geography.gazetteer:passage"}},
}


def run(*arguments: object) -> int:
    """Run one verb of confide; its exit code."""
    print("$ confide", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "confide.cli.main", *map(str, arguments)]).returncode


def must(*arguments: object) -> None:
    if code := run(*arguments):
        raise SystemExit(f"confide {arguments[0]} ended with {code}")


def prepare(work: Path, records: Path) -> Json:
    """Make checkpoint, scored rows and policy where they are missing; returns what is promised."""
    parts, model, scored, policy = (work / n for n in ("records.jsonl", "model", "scored.jsonl", "policy.json"))
    if not records.exists():
        records = work / "annotated.jsonl"
        must("annotate", "--model", "smollm2", "--task", "geography", "--limit", LIMIT, "--out", records)
    if not parts.exists():
        sizes = ",".join(f"{name}={size}" for name, size in SIZES.items())
        must("split", records, "--out", parts, "--sizes", sizes)
    if not (model / "confide.json").exists():
        must("train", "stack", "--model", "smollm2", parts, "--out", model)
    if not scored.exists():
        kept = [row for row in read_records(parts) if row.split in ("calibration", "test")]
        write_records(work / "to-score.jsonl", kept)
        must("score", "--model", model, work / "to-score.jsonl", "--out", scored, "--source", "stack")
    for risk in RISKS:
        if policy.exists() or not run("calibrate", scored, "--source", "stack", "--max-risk", risk, "--out", policy):
            return {"promise": read_json(policy)["guarantee"]}
    raise SystemExit(f"no risk of {RISKS} can be promised")


def questions_of(scored: Path, count: int) -> list[Record]:
    """Test rows, one for each entity, drawn."""
    rows = [row for row in read_records(scored) if row.split == "test"]
    random.Random(0).shuffle(rows)
    chosen = list({row.cluster: row for row in rows}.values())[:count]
    if len(chosen) < count:
        raise SystemExit(f"{len(chosen)} test entities, {count} wanted")
    return chosen


def router(work: Path, model: Path, policy: Path, expert: str, name: str) -> Server:
    """``confide serve`` with the small model in its process."""
    small = {"model": str(model.resolve()), "name": "small", "max_tokens": 32}
    return serve(work, name, {"policy": str(policy.resolve()), "small": small, "experts": [EXPERTS[expert]]}, set())


@dataclass
class Served:
    """One answer that came back."""

    record: Record
    text: str
    correct: bool
    served: str
    raw: float | None
    ms: float


async def ask_all(port: int, rows: list[Record], grade: Any, at_once: int = 8) -> list[Served]:
    """Every question through the openai client, some at a time."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120)
    places = asyncio.Semaphore(at_once)

    async def ask(row: Record) -> Served:
        messages: Any = [message.model_dump() for message in row.messages]
        async with places:
            began = time.perf_counter()
            reply = await client.chat.completions.create(model="small", messages=messages, max_tokens=32)
            took = 1000 * (time.perf_counter() - began)
        about = (reply.model_extra or {})["confide"]
        text = reply.choices[0].message.content or ""
        return Served(row, text, grade(row, text), about["served"], about["raw"], took)

    return list(await asyncio.gather(*(ask(row) for row in rows)))


def share(found: list[bool]) -> Json:
    """A share with its Clopper–Pearson interval, level 0.95."""
    low, high = binomtest(sum(found), len(found)).proportion_ci(0.95, "exact")
    return {"share": sum(found) / len(found), "of": len(found), "interval": [low, high]}


def summary(served: list[Served], seconds: float) -> Json:
    """What came of it; risk is the share of wrong ones among the small model's kept answers."""
    kept = [s for s in served if s.served == "small"]
    escalated = [s for s in served if s.served != "small"]
    groups = {"kept": kept, "escalated": escalated}
    return {
        "n": len(served),
        "accuracy": share([s.correct for s in served]),
        "escalated": share([s.served != "small" for s in served]),
        "risk": share([not s.correct for s in kept]) if kept else None,
        "accuracy_of_escalated": share([s.correct for s in escalated]) if escalated else None,
        "seconds": seconds,
        "p50_ms": {n: statistics.median(s.ms for s in some) for n, some in groups.items() if some},
    }


def parity(served: list[Served]) -> Json:
    """Served answers and confidences against those of annotation and scoring.

    They are not equal bit for bit: in bfloat16 a token's probability depends a little on what shares its batch.
    """
    kept = [s for s in served if s.served == "small"]
    offline = [(s.raw, s.record.confidence.get("stack")) for s in served]
    apart = [abs(a - b) for a, b in offline if a is not None and b is not None]
    return {
        "same_answer": share([s.text.strip() == s.record.answer.strip() for s in kept]),
        "confidence_apart": {"median": statistics.median(apart), "most": max(apart)},
        "of": len(apart),
    }


def escalate_all(policy: Path, out: Path) -> Path:
    """A copy of a policy that escalates everything."""
    rules = read_json(policy)
    rules["thresholds"] = {"*": [{"below": 1e9, "decision": "escalate"}]}
    out.write_text(json.dumps(rules), encoding="utf-8")
    return out


def main() -> None:
    options = parser(__doc__, "serve_geography")
    options.set_defaults(work=Path("runs/serve"))
    options.add_argument("--records", type=Path, default=QUALITY, help="annotated geography records, if there are any")
    options.add_argument("--questions", type=int, default=300)
    given = options.parse_args()
    work = Work(given.work)
    model, policy, scored = (work.folder / name for name in ("model", "policy.json", "scored.jsonl"))
    prepared = work.stage("prepare", lambda: prepare(work.folder, given.records))
    began = time.monotonic()
    rows = questions_of(scored, given.questions)
    task = load_task("geography")
    by_id = {question.id: question for question in task.questions}

    def grade(row: Record, text: str) -> bool:
        return bool(task.grade(by_id[row.id], text).correct)

    everything = escalate_all(policy, work.folder / "escalate-all.json")
    result: Json = {
        "versions": {n: version(n) for n in ("confide", "torch", "transformers", "openai")},
        "promise": prepared["promise"],
        "small_alone": share([bool(row.correct) for row in rows]),
        "prepare_seconds": prepared["seconds"],
    }
    for expert in EXPERTS:
        for kind, rule in (("routed", policy), ("alone", everything)):
            with router(work.folder, model, rule, expert, f"{expert}-{kind}") as server:
                at = time.monotonic()
                served = asyncio.run(ask_all(server.port, rows, grade))
                made = summary(served, time.monotonic() - at)
            if kind == "routed":
                result[expert] = made | {"parity": parity(served)}
            else:
                result[expert]["alone"] = made["accuracy"]
            print(expert, kind, json.dumps(made), flush=True)
    result["serve_seconds"] = time.monotonic() - began
    write_result(given.out, "serving/serve_geography.py", result)
    if given.out.parent == RESULTS:
        serving_tables.write()


if __name__ == "__main__":
    main()
