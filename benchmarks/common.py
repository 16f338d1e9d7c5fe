"""What all benchmarks share: a work folder with stages, facts about the machine, results, and tables in the docs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from confide.files import write_text

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.records import Record
    from confide.tasks import Task

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODEL = "smollm2"
"""The bundled model."""

Json = dict[str, Any]


# The work folder


def load_engine(model: str) -> TransformersEngine:
    from confide.engines.transformers.transformers_engine import TransformersEngine

    return TransformersEngine.load(model)


class Work:
    """A work folder of stages, each a JSON file that is made once, and the bundled model."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def engine(self) -> TransformersEngine:
        """The bundled model, loaded when it is first needed."""
        return load_engine(MODEL)

    def stage(self, name: str, make: Callable[[], Json]) -> Json:
        """The result of a stage; ``make`` runs only where its file is missing."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            began = time.monotonic()
            print(f"{name} …", flush=True)
            made = make() | {"seconds": round(time.monotonic() - began, 1)}
            write_text(path, json.dumps(made, indent=1) + "\n")
            print(f"{name}: {made['seconds']:.0f} s", flush=True)
        return read_json(path)

    def machine(self) -> Json:
        """What the machine is where this is first asked: judging may happen elsewhere."""
        return self.stage("machine", machine)


def read_json(path: Path) -> Json:
    """A JSON object."""
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


def show_progress(title: str) -> Callable[[int, int, str], None]:
    """A progress function that prints a line every 20 seconds."""
    last = 0.0

    def progress(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last > 20 or done == total:
            last = time.monotonic()
            print(f"  {title} {done}/{total} {note}", flush=True)

    return progress


def annotated(
    engine: Callable[[], TransformersEngine],
    task: Task,
    path: Path,
    *,
    title: str,
    count: int | None = None,
    **options: Any,
) -> list[Record]:
    """A task's records in ``path``, answered by the engine unless ``count`` are there (default: all questions)."""
    from confide.annotation import annotate
    from confide.records import read_records

    if not path.exists() or len(read_records(path)) < (len(task.questions) if count is None else count):
        size = engine().batch_size // (2 if options.get("samples") else 1)
        annotate(engine(), task, path, batch_size=size, progress=show_progress(title), **options)
    return read_records(path)


def stop_when_told() -> None:
    """From now on SIGTERM ends this process as an exception does, so that the servers it started are stopped."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Options that most scripts have: the work folder ``runs/NAME`` and the result ``results/NAME.json``."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--work", type=Path, default=Path("runs") / name, help="work folder (default: %(default)s)")
    found.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="results (default: %(default)s)")
    return found


# The machine


def machine(*more: str) -> Json:
    """What models run on here: the device in words, and versions (of the packages in ``more`` too)."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    names = ("confide", "torch", "transformers", "peft", "scikit-learn", "numpy", *more)
    return {"device": device, "python": platform.python_version(), "versions": {n: version(n) for n in names}}


# Results


def write_result(path: Path, script: str, result: Mapping[str, Any]) -> Json:
    """Write a result as readable JSON, floats shortened; returns what a reader of the file gets."""
    head = {"schema": 1, "made_by": f"benchmarks/{script}"}
    text = json.dumps(head | rounded(dict(result)) | head, indent=1)
    write_text(path, _one_line.sub(_joined, text) + "\n")
    print(f"{path} written", flush=True)
    return read_json(path)


# A list or object without another one inside: on one line where it is short.
_one_line = re.compile(r"[\[{][^\[\]{}]*[\]}]")


def _joined(found: re.Match[str]) -> str:
    if "\n" not in found[0]:
        return found[0]  # inside a text
    line = found[0][0] + re.sub(r"\n\s*", " ", found[0][1:-1]).strip() + found[0][-1]
    return line if len(line) <= 120 else found[0]


def rounded(value: Any) -> Any:
    """The same value with every float inside it rounded to six significant digits, where tables then show the same."""
    if isinstance(value, dict):
        return {key: rounded(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inside) for inside in value]
    if not isinstance(value, float):
        return value
    short = float(f"{value:.6g}")  # a tie such as 0.0375 may be shown as 3.7 % or 3.8 %
    same = all(format(short, spec) == format(value, spec) for spec in (".0f", ".1f", ".2f", ".3f", ".0%", ".1%", ".2%"))
    return short if same else value


# Tables


def interval(entry: Mapping[str, float | None] | None, spec: str = ".3f") -> str:
    """``value [low, high]``; without the interval where there is none, a dash without a value."""
    if not entry or entry["value"] is None:
        return "–"
    text = format(entry["value"], spec)
    return text if entry["low"] is None else f"{text} [{entry['low']:{spec}}, {entry['high']:{spec}}]"


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table. ``head`` holds the columns' names between bars; > before a name aligns it to the right."""
    names = [name.strip() for name in head.split("|")]
    lines = ["|" + "".join(f" {name} |" if name else " |" for name in (n.removeprefix(">") for n in names))]
    lines += ["|" + "".join("---:|" if name.startswith(">") else "---|" for name in names)]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def goals_table(head: str, goals: Iterable[tuple[str, str, bool]]) -> str:
    """A line per goal: what it is, what was found, and whether that reaches it."""
    return table(f"{head} | reached", ([goal, found, "yes" if reached else "**no**"] for goal, found, reached in goals))


def put(page: str, parts: Mapping[str, str]) -> None:
    """Put texts into a page of the repository, each between ``<!-- name -->`` and ``<!-- /name -->``."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for name, body in parts.items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(first)
        _, ended, after = rest.partition(last)
        if not found or not ended:
            raise SystemExit(f"{path} has no place for {name}")
        text = f"{before}{first}\n{body}\n{last}{after}"
    path.write_text(text, encoding="utf-8")
