"""What the demo takes and finds: time, silences and figures of whole runs, and the pictures on the first page.

Every run is the command that a reader types, in a folder of its own, with its output in a pipe. Runs are added to those
that the result holds from the same versions and machine; the figures are those of the last full one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import demo_pictures
from benchmarks.common import Json, machine, parser, put, read_json, table, write_result

QUESTIONS = ("In which country is the city of Nagoya?", "In which country is the city of Bergen?")
SOURCES = ("stack", "portable", "logprob_sum")


def confide(*arguments: str) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-m", "confide.cli.main", *arguments]


def timed(out: Path, *flags: str) -> Json:
    """Run the demo into ``out``: its seconds, and the longest time between two lines of its output."""
    began = last = time.monotonic()
    silence, lines = 0.0, 0
    command = confide("demo", "--out", str(out), *flags)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now = time.monotonic()
            silence, last, lines = max(silence, now - last), now, lines + 1
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {"seconds": time.monotonic() - began, "longest_silence": silence, "lines": lines}


def figures(folder: Path) -> Json:
    """What a run found, from the files that it left."""
    results = read_json(folder / "results.json")
    policy = read_json(folder / "policy.json")["guarantee"]
    check = subprocess.run(
        confide("validate", str(folder / "policy.json"), str(folder / "scored.jsonl"), "--json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "questions": sum(1 for _ in (folder / "records.jsonl").open()),
        "tested": results["n"],
        "accuracy": results["accuracy"],
        "auroc": {name: results["estimators"][name]["auroc"] for name in SOURCES},
        "promise": {key: policy[key] for key in ("max_risk", "level", "coverage", "n")},
        "fresh": json.loads(check.stdout),
        "asked": {question: asked(question, folder) for question in QUESTIONS},
    }


def asked(question: str, folder: Path) -> str:
    """What ``confide ask`` prints of a run's model and policy."""
    command = confide("ask", question, "--model", str(folder / "model"), "--policy", str(folder / "policy.json"))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    options = parser(__doc__, "demo")
    options.add_argument("--runs", type=int, default=3, help="further runs of each kind; 0: draw again what is there")
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    here: Json = {"machine": machine(), "full": [], "quick": []}
    found = read_json(args.out) if args.out.exists() else here
    if args.runs and found["machine"] != here["machine"]:
        found = here
    for _ in range(args.runs):
        number = len(found["full"])
        found["full"].append(timed(args.work / f"full-{number}"))
        found["found"] = figures(args.work / f"full-{number}")
        found["quick"].append(timed(args.work / f"quick-{number}", "--quick"))
        write_result(args.out, "demo_runs.py", found)  # after each, so that a killed run loses one alone
    write(read_json(args.out))


def write(result: Json) -> None:
    """Put the times into the README and the results page, and draw the pictures; without runs there are no times."""
    rows, minutes = [], {}
    for kind, name in (("full", "`confide demo`"), ("quick", "`confide demo --quick`")):
        if not result[kind]:
            continue
        seconds = [run["seconds"] for run in result[kind]]
        silence = max(run["longest_silence"] for run in result[kind])
        minutes[kind] = statistics.median(seconds) / 60
        rows.append([name, f"{min(seconds):.0f} s", f"{statistics.median(seconds):.0f} s", f"{silence:.0f} s"])
    takes = ""
    if len(minutes) == 2:
        takes = (
            f"takes {minutes['full']:.0f} minutes on {result['machine']['device']} "
            f"(`.venv/bin/confide demo --quick`: {minutes['quick']:.1f}) and "
        )
    put("README.md", {"demo": f"The demo {takes}leaves a trained model and a policy to ask:"})
    head = "command | >fastest | >median | >longest silence in a pipe"
    put("docs/results/demo.md", {"demo": table(head, rows) if rows else "Not measured yet on a quiet machine."})
    demo_pictures.draw(result["found"])


if __name__ == "__main__":
    main()
