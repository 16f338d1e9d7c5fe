"""``confide serve`` on the bundled model, end to end: questions it never saw, two experts, the openai client.

    python benchmarks/serve_geography.py               # 300 questions with either expert, under ten minutes
    python benchmarks/serve_geography.py --questions 40

Steps, each kept in the work folder so that a killed run continues: annotate (or reuse the records of the quality
benchmark), split by entity, train the stack, score, calibrate to a risk of 0.2, then serve. The questions that are
asked belong to entities of their own; none took part in training or calibration. The expert ``gazetteer`` looks the
answer up (a tool); ``reread`` is the same small model with the gazetteer's passage in its prompt, which is no sure
thing. Each expert is also asked everything, by a policy that escalates all, to see what it is worth alone.
Writes ``results/serve_geography.json`` and the table of ``docs/serving-benchmark.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import beta

from confide.files import write_text
from confide.records import Record, read_records, write_records
from confide.tasks import load_task
from routers import Server, free_port

HERE = Path(__file__).parent
QUALITY = Path("runs/quality/records.jsonl")
SIZES = {"train": 2500, "validation": 400, "calibration": 2000, "test": 900}
LIMIT = 6500
RISKS = (0.2, 0.25, 0.3)
EXPERTS: dict[str, dict[str, Any]] = {
    "gazetteer": {"name": "gazetteer", "tool": "confide.tasks.geography.gazetteer:look_up"},
    "reread": {"name": "reread", "self": {"passage": "confide.tasks.geography.gazetteer:passage"}},
}
Result = dict[str, Any]


def confide(*arguments: str | Path) -> int:
    """Run one verb; its exit code."""
    command = [sys.executable, "-m", "confide.cli.main", *map(str, arguments)]
    print("$ confide", *arguments, flush=True)
    return subprocess.run(command).returncode


def must(*arguments: str | Path) -> None:
    if code := confide(*arguments):
        raise SystemExit(f"confide {arguments[0]} ended with {code}")


def prepare(work: Path, records: Path) -> tuple[Path, Path, Path]:
    """Checkpoint, policy and scored rows, made where they are missing."""
    parts, model, scored, policy = (work / n for n in ("records.jsonl", "model", "scored.jsonl", "policy.json"))
    if not records.exists():
        records = work / "annotated.jsonl"
        must("annotate", "--model", "smollm2", "--task", "geography", "--limit", str(LIMIT), "--out", records)
    if not parts.exists():
        sizes = ",".join(f"{name}={size}" for name, size in SIZES.items())
        must("split", records, "--out", parts, "--sizes", sizes)
    if not (model / "confide.json").exists():
        must("train", "reader", "--model", "smollm2", "--records", parts, "--out", model, "--ask-tokens", "")
    if not scored.exists():
        kept = [row for row in read_records(parts) if row.split in ("calibration", "test")]
        write_records(work / "to-score.jsonl", kept)
        must("score", "--model", model, "--records", work / "to-score.jsonl", "--out", scored, "--sources", "stack")
    if not policy.exists():
        for risk in RISKS:
            if confide("calibrate", scored, "--source", "stack", "--max-risk", str(risk), "--out", policy) == 0:
                break
        else:
            raise SystemExit(f"no risk of {RISKS} can be promised")
    return model, policy, scored


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
    port = free_port()
    for old in work.glob(f"{name}.db*"):
        old.unlink()
    config = {
        "port": port,
        "policy": str(policy.resolve()),
        "small": {"model": str(model.resolve()), "name": "small", "max_tokens": 32},
        "experts": [EXPERTS[expert]],
        "store": f"sqlite:///{work.resolve() / name}.db",
        "audit_share": 0.0,
    }
    path = work / f"{name}.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    command = [sys.executable, "-m", "confide.cli.main", "serve", "--config", str(path.resolve())]
    return Server(name, command, port, "/readyz", work / f"{name}.log", set())


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


def interval(wrong: int, n: int, level: float = 0.95) -> list[float]:
    """Clopper–Pearson interval of a share."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, wrong, n - wrong + 1)) if wrong else 0.0
    high = float(beta.ppf(1 - tail, wrong + 1, n - wrong)) if wrong < n else 1.0
    return [round(low, 4), round(high, 4)]


def share(found: list[bool]) -> Result:
    return {"share": round(sum(found) / len(found), 4), "of": len(found), "interval": interval(sum(found), len(found))}


def summary(served: list[Served], seconds: float) -> Result:
    """What came of it; risk is the share of wrong ones among the small model's kept answers."""
    kept = [s for s in served if s.served == "small"]
    escalated = [s for s in served if s.served != "small"]
    return {
        "n": len(served),
        "accuracy": share([s.correct for s in served]),
        "escalated": share([s.served != "small" for s in served]),
        "risk": share([not s.correct for s in kept]) if kept else None,
        "accuracy_of_escalated": share([s.correct for s in escalated]) if escalated else None,
        "served": dict(Counter(s.served for s in served)),
        "seconds": round(seconds, 1),
        "p50_ms": {
            name: round(statistics.median(s.ms for s in part), 1)
            for name, part in (("kept", kept), ("escalated", escalated))
            if part
        },
    }


def parity(served: list[Served]) -> Result:
    """Served answers and confidences against those of annotation and scoring.

    They are not equal bit for bit: in bfloat16 a token's probability depends a little on what shares its batch.
    """
    kept = [s for s in served if s.served == "small"]
    offline = [(s.raw, s.record.confidence.get("stack")) for s in served]
    apart = [abs(a - b) for a, b in offline if a is not None and b is not None]
    return {
        "same_answer": share([s.text.strip() == s.record.answer.strip() for s in kept]),
        "confidence_apart": {"median": round(statistics.median(apart), 4), "most": round(max(apart), 4)},
        "of": len(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/serve"))
    parser.add_argument("--records", type=Path, default=QUALITY, help="annotated geography records, if there are any")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serve_geography.json")
    given = parser.parse_args()
    began = time.monotonic()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    model, policy, scored = prepare(work, given.records)
    # A run that continues adds to what the steps took before.
    spent = work / "prepare-seconds.txt"
    prepared = time.monotonic() - began + (float(spent.read_text(encoding="utf-8")) if spent.exists() else 0.0)
    spent.write_text(f"{prepared:.1f}", encoding="utf-8")
    began = time.monotonic()
    rows = questions_of(scored, given.questions)
    task = load_task("geography")
    by_id = {question.id: question for question in task.questions}

    def grade(row: Record, text: str) -> bool:
        return bool(task.grade(by_id[row.id], text).correct)

    everything = work / "escalate-all.json"
    shutil.copy(policy, everything)
    rules = json.loads(policy.read_text(encoding="utf-8"))
    rules["thresholds"] = {"*": [{"below": 1e9, "decision": "escalate"}]}
    everything.write_text(json.dumps(rules), encoding="utf-8")
    result: Result = {
        "schema": 1,
        "made_by": "benchmarks/serve_geography.py",
        "versions": {n: version(n) for n in ("confide", "torch", "transformers", "openai")},
        "promise": json.loads(policy.read_text(encoding="utf-8"))["guarantee"],
        "small_alone": share([bool(row.correct) for row in rows]),
        "prepare_seconds": round(prepared, 1),
    }
    for expert in EXPERTS:
        for kind, rule in (("routed", policy), ("alone", everything)):
            with router(work, model, rule, expert, f"{expert}-{kind}") as server:
                at = time.monotonic()
                served = asyncio.run(ask_all(server.port, rows, grade))
                made = summary(served, time.monotonic() - at)
            if kind == "routed":
                result[expert] = made | {"parity": parity(served)}
            else:
                result[expert]["alone"] = made["accuracy"]
            print(expert, kind, json.dumps(made), flush=True)
    result["serve_seconds"] = round(time.monotonic() - began, 1)
    write_text(given.out, json.dumps(result, indent=1) + "\n")
    print(f"{given.out} written", flush=True)
    if given.out == HERE / "results" / "serve_geography.json":
        import router_table

        router_table.main()


if __name__ == "__main__":
    main()
