"""Sides as processes: their environments, and rounds in which they work in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT, Json

HERE = Path(__file__).parent
OURS = "confide"
PEERS = {
    "lm_eval": ("lm_eval", "transformers", "accelerate", "peft"),
    "polygraph": ("lm-polygraph",),
    "uqlm": ("uqlm", "pyarrow<22"),  # later ones want NumPy 2, which uqlm does not take
    "trl": ("trl", "peft"),
    "metrics": ("netcal", "scikit-learn", "torchmetrics"),
}
"""Peer → what its environment gets besides torch."""
TORCH = "torch==2.13.0"


def python_of(peer: str, environments: Path) -> Path:
    """The interpreter of a peer's environment; one that is not there is built.

    ``CONFIDE_PEER_NAME`` (``CONFIDE_PEER_TRL``, say) names another interpreter.
    """
    if given := os.environ.get(f"CONFIDE_PEER_{peer.upper()}"):
        return Path(given)
    python = environments / peer / "bin" / "python"
    if not python.exists():
        print(f"building the environment of {peer} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(environments / peer)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, TORCH, *PEERS[peer]], check=True)
    return python


@dataclass
class Side:
    """A process that works when it is told to."""

    name: str
    process: subprocess.Popen[str]
    versions: dict[str, str] = field(default_factory=dict)

    def order(self, work: str, *, profile: bool = False) -> Json:
        """What a work came to: its seconds, and what it found; or its profile."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"work": work, "profile": profile}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Json:
        """The next line that the process tells."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; its errors are in the section's folder, {self.name}.log")
        found: Json = json.loads(line)
        return found


@contextmanager
def sides(config: Json, peer: str, environments: Path, folder: Path) -> Iterator[tuple[Side, Side]]:
    """Our side and a peer's, both loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{peer}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    threads = {f"{name}_NUM_THREADS": str(config["threads"]) for name in ("OMP", "MKL", "OPENBLAS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | threads | quiet
    scripts = (
        (OURS, Path(sys.executable), HERE / "confide_side.py", f"{ROOT / 'src'}{os.pathsep}{ROOT}"),
        (peer, python_of(peer, environments), HERE / "peers" / f"{peer}_side.py", str(ROOT)),
    )
    both: list[Side] = []
    try:
        for name, python, script, modules in scripts:
            with (folder / f"{name}.log").open("w") as errors:
                process = subprocess.Popen(
                    [str(python), str(script), str(path)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env=bare | {"PYTHONPATH": modules},
                )  # fmt: skip
            both.append(Side(name, process))
            both[-1].versions = both[-1].answer()["versions"]  # one loads after the other
        yield both[0], both[1]
    finally:
        for side in both:
            assert side.process.stdin is not None
            with suppress(BrokenPipeError):
                side.process.stdin.close()
            side.process.wait()


def compared(ours: Side, theirs: Side, works: tuple[str, str], rounds: int) -> tuple[Json, Json, Json]:
    """Rounds of both sides in turn: the figures, and what each side found last.

    Each works under a profiler first, which warms it up.

    Args:
        works: what our side and the peer's call the work.
    """
    turns = ((ours, works[0]), (theirs, works[1]))
    profiles = {side.name: side.order(work, profile=True)["profile"] for side, work in turns}
    taken: list[list[Json]] = [[], []]
    for number in range(rounds):
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            side, work = turns[place]
            taken[place].append(side.order(work))
    figures: Json = ratio(*([one["seconds"] for one in part] for part in taken))
    cpu = [statistics.median(one["cpu_seconds"] for one in part) for part in taken]
    figures |= {"cpu_ratio": cpu[1] / cpu[0], "profiles": profiles}
    return figures, taken[0][-1]["found"], taken[1][-1]["found"]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Json:
    """How many times our seconds the peer's are: of the medians, and the range over neighbouring rounds."""
    each = [peer / own for own, peer in zip(ours, theirs, strict=True)]
    return {
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "low": min(each),
        "high": max(each),
        "confide_seconds": statistics.median(ours),
        "peer_seconds": statistics.median(theirs),
        "rounds": len(each),
    }


def versions_of(*some: Side) -> dict[str, dict[str, str]]:
    """Side → its packages and their versions."""
    return {side.name: side.versions for side in some}
