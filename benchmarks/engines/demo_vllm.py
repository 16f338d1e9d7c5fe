"""A learned confidence from vLLM, from nothing to an answer: `make demo-vllm` runs it.

    CONFIDE_VLLM_PYTHON=.venv-vllm/bin/python python -m benchmarks.engines.demo_vllm --out confide-demo-vllm

The bundled model answers a few hundred geography questions, a stack is trained on them and exported, vLLM serves the
export with the plug-in, and the router in front of it answers two questions: it shows the learned confidence, the
decision, and who answered. Whatever it started is stopped at its end, also when it fails or is interrupted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common import Json, stop_when_told
from benchmarks.engines.prepared import messages, wait_for_reading
from confide.methods.stack.served_stack import SERVED
from confide.records import Record, read_records
from routers import serve
from vllm_server import PYTHON, vllm_server

QUESTIONS = 800
RISKS = (0.2, 0.3, 0.4, 0.5)


def say(text: str) -> None:
    """A line of what happens now."""
    print(f"\n── {text}", flush=True)


def confide(*arguments: object) -> int:
    """Run one verb of confide; its exit code."""
    print("$ confide", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "confide.cli.main", *map(str, arguments)]).returncode


def must(*arguments: object) -> None:
    """Run one verb of confide that has to do what it says."""
    if code := confide(*arguments):
        raise SystemExit(f"confide {arguments[0]} ended with {code}")


def prepare(out: Path) -> None:
    """Answers, a checkpoint, its export, and a policy; what is there is kept."""
    records, trained, scored, policy = (
        out / name for name in ("records.jsonl", "trained", "scored.jsonl", "policy.json")
    )
    say(f"The bundled model answers {QUESTIONS} questions")
    must("annotate", "--model", "smollm2", "--task", "geography", "--limit", QUESTIONS, "--out", records)
    if not (trained / "confide.json").exists():
        say("A stack is trained on its middle layers")
        must("train", "stack", "--model", "smollm2", records, "--out", trained)
    if not (out / "served" / "config.json").exists():
        say("It is exported for vLLM: the weights are linked, the reading lies beside them")
        must("export", "--for", "vllm", "--model", trained, "--out", out / "served")
    if not scored.exists():
        say("The rows that were kept back for calibration get their confidence")
        must("score", "--model", trained, records, "--source", SERVED, "--out", scored)
    say("A policy: how sure must an answer be, so that few of those that are kept are wrong?")
    for risk in RISKS:
        if policy.exists() or not confide("calibrate", scored, "--source", SERVED, "--max-risk", risk, "--out", policy):
            return
    raise SystemExit(f"no risk of {RISKS} can be promised with so few rows")


def questions(scored: Path) -> list[Record]:
    """Of the test rows, which took no part in training or calibration, the surest answer and the least sure one."""
    rows = [row for row in read_records(scored) if row.split == "test" and row.confidence.get(SERVED) is not None]
    rows.sort(key=lambda row: row.confidence[SERVED] or 0.0)
    return [rows[-1], rows[0]]


def ask(port: int, row: Record) -> None:
    """Ask the router, as any OpenAI client does, and show what it says."""
    asked = {"model": "small", "messages": messages(row), "max_tokens": 24, "temperature": 0}
    body = json.dumps(asked)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        told: Json = json.loads(response.read())
    about = told["confide"]
    print(f"\n  {row.question}\n  {told['choices'][0]['message']['content']}")
    print(f"  {about['source']}: {shown(about['raw'])}, so right with probability {shown(about['confidence'])}")
    print(f"  decision: {about['decision']}; answered by {about['served']}", flush=True)


def shown(value: float | None) -> str:
    """A number, or what stands for none."""
    return "none" if value is None else f"{value:.3f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("confide-demo-vllm"), help="folder (default: %(default)s)")
    out: Path = options.parse_args().out.resolve()
    if not PYTHON:
        raise SystemExit("CONFIDE_VLLM_PYTHON names no Python of an environment with vLLM: `make demo-vllm` builds one")
    out.mkdir(parents=True, exist_ok=True)
    stop_when_told()
    prepare(out)
    with ExitStack() as up:
        say(f"vLLM starts with the plug-in; its log is {out / 'vllm.log'}")
        server = up.enter_context(vllm_server(out / "served", out / "vllm.log"))
        say("The router starts in front of it, with a gazetteer as its expert")
        config = {
            "policy": str(out / "policy.json"),
            "small": {"engine": "vllm", "base_url": f"{server.url}/v1", "model": "m", "reading": str(out / "served")},
            "experts": [{"name": "gazetteer", "tool": "confide.tasks.geography.gazetteer:look_up"}],
        }
        router = up.enter_context(serve(out, "router", config, set()))
        wait_for_reading(router.port)
        say("Two questions that nobody trained on, each one ordinary call")
        for row in questions(out / "scored.jsonl"):
            ask(router.port, row)
        say("Both servers are stopped")
    print(
        f"What was made is in {out}; docs/results/engines.md says what it costs, "
        "and what else can be had from which engine."
    )


if __name__ == "__main__":
    main()
