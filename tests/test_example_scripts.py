"""The scripts and the notebook of ``examples/`` run as a user runs them, on one small demo folder and one router."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confide.records import read_records
from routers import serve

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {
    "route_with_openai_client.py": r"answer +\w.*\n +confidence +[01]\.\d\d\n +decision +(answer|escalate)",
    "langchain_router.py": r"Antsirabe\n +answer +\w.*\n +confidence +[01]\.\d\d\n +answered by (small|gazetteer)",
    "agent_asks_for_help.py": r"gazetteer said: \w",
    "calibrate_foreign_scores.py": r"of 995 kept, 2\d\.\d% of these wrong",
    "weak_fields.py": r"(?s)0\.\d\d  /\w+ .*wrong, should be",
    "red_flag_stop.py": r"Stopped by red_flag",
    "custom_task_and_grader.py": r"[12]\d of 30 right; AUROC",
    "custom_source.py": r"hesitation above logprob_\w+: [-+]0\.\d+ \[",
}
"""What each script prints, as a regular expression."""
NOTEBOOK = "first_look.ipynb"
QUESTIONS = 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``confide-demo`` is: what the demo leaves, made of a tenth of its questions."""
    import torch

    from confide.annotation import annotate, split_questions
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.frozen.frozen_options import FrozenOptions
    from confide.methods.frozen.frozen_training import train_confidence
    from confide.methods.scoring import score
    from confide.model import load
    from confide.policies import MaxRisk, Policy, calibrate_policy
    from confide.tasks import load_task

    folder = tmp_path_factory.mktemp("examples")
    demo = folder / "confide-demo"
    demo.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    engine = TransformersEngine.load("smollm2")
    engine.name = "smollm2"
    task = load_task("geography", limit=QUESTIONS, seed=0)
    annotate(engine, task, demo / "records.jsonl", splits=split_questions(task.questions, "standard", 0))
    rows = read_records(demo / "records.jsonl")
    train, validation = ([row for row in rows if row.split == split] for split in ("train", "validation"))
    train_confidence(engine, train, validation, FrozenOptions(), demo / "model")
    # So few rows show nothing at the demo's own limit.
    held = [row for row in score(rows, ["stack"], model=load(demo / "model")) if row.split in ("calibration", "test")]
    policy = calibrate_policy(held, "stack", MaxRisk(0.5, level=0.8, per="entity"))
    assert isinstance(policy, Policy), policy
    policy.save(demo / "policy.json")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def router(folder: Path) -> Iterator[str]:
    """The address of the demo's router."""
    demo = folder / "confide-demo"
    config: dict[str, Any] = {
        "policy": str(demo / "policy.json"),
        "small": {"model": str(demo / "model"), "max_tokens": 20},
        "experts": [{"name": "gazetteer", "tool": "confide.tasks.geography.gazetteer:look_up"}],
    }
    with serve(folder, "router", config, set()) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_prints_what_it_says(script: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    where = request.getfixturevalue("folder") if "confide-demo" in text else tmp_path
    address = {"ROUTER": request.getfixturevalue("router")} if "ROUTER" in text else {}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)], cwd=where, env=os.environ | address, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SCRIPTS[script], done.stdout), done.stdout


def test_no_example_is_forgotten() -> None:
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\)", told, re.MULTILINE)
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    configurations = {path.name for path in EXAMPLES.glob("*.yaml")}
    assert there == {*SCRIPTS, NOTEBOOK}
    assert {name for name, _ in listed} == there | configurations
    assert all(name == link for name, link in listed)
    for script in SCRIPTS:
        lines = (EXAMPLES / script).read_text(encoding="utf-8").splitlines()
        assert 25 <= len(lines) <= 80, script
        assert f"python examples/{script}" in "\n".join(lines[:15]), script


def test_what_needs_no_model_loads_no_torch(tmp_path: Path) -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES / "calibrate_foreign_scores.py")],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_notebook_prints_what_it_holds() -> None:
    import nbformat
    from nbclient import NotebookClient

    held = (EXAMPLES / NOTEBOOK).read_text(encoding="utf-8")
    assert len(held) < 150_000
    notebook = nbformat.reads(held, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    before, after = json.loads(held)["cells"], notebook.cells
    assert [printed(cell) for cell in after] == [printed(cell) for cell in before]
    plots = [output for cell in after for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(plots) == 3


def printed(cell: Any) -> str:
    """What a cell wrote."""
    texts = [output.get("text", "") for output in cell.get("outputs", []) if output["output_type"] == "stream"]
    return "".join("".join(text) for text in texts)


def test_the_data_are_made_by_their_script(tmp_path: Path) -> None:
    with (EXAMPLES / "data" / "scores.csv").open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    rows = [
        {"id": "a", "split": "train", "correct": True},
        {"id": "b", "split": "test", "answer": "Peru", "correct": False, "entity": "city:Lima"},
        {"id": "c", "split": "calibration", "answer": "Chile", "correct": True, "entity": "city:Lima"},
    ]
    for row in rows:
        row["confidence"] = {"portable": 0.25, "logprob_sum": -1.5}
    scored, out = tmp_path / "scored.jsonl", tmp_path / "scores.csv"
    scored.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    subprocess.run([sys.executable, str(EXAMPLES / "data" / "make_scores.py"), str(scored), str(out)], check=True)
    with out.open(encoding="utf-8", newline="") as file:
        made = list(csv.reader(file))
    assert made == [header, ["c", "", "Chile", "0.2500", "-1.5000", "1"]]
