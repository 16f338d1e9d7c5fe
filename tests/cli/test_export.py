"""``confide export``: the card in the folder, and a push to a hub, over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_hub import TOKEN, FakeHub, fake_hub

SAVED = Path(__file__).parents[1] / "methods" / "saved" / "self_ref"
RESULTS = {
    "schema": 1, "n": 120, "accuracy": 0.4, "split": "test",
    "estimators": {"self_ref": {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9}}, "logprob_sum": {}},
}  # fmt: skip


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as one:
        yield one


def export(tmp_path: Path, *arguments: str, hub: FakeHub | None = None, token: str | None = TOKEN) -> Any:
    """The verb in a process of its own: the hub's client reads its settings when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": hub.address if hub else "http://127.0.0.1:9"}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"HF_TOKEN": token} if token else {})
    command = [sys.executable, "-m", "confide", "export", "--model", str(SAVED), "--out", str(tmp_path / "out")]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_push_makes_the_repository_and_commits_the_folder(tmp_path: Path, hub: FakeHub) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    done = export(tmp_path, "--push", "team/sure", "--private", "--results", str(tmp_path / "results.json"), hub=hub)
    assert done.returncode == 0, done.stderr
    assert f"at {hub.address}/team/sure" in done.stdout
    assert hub.repositories["team/sure"]["visibility"] == "private"
    here = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert hub.files["team/sure"] == here
    assert {"README.md", "confide.json", "model.safetensors"} <= here.keys()
    assert b"| `self_ref` | 0.800 [0.700, 0.900] |" in here["README.md"]
    assert b'from_pretrained("team/sure")' in here["README.md"]


def test_a_repository_that_is_there_gets_another_commit(tmp_path: Path, hub: FakeHub) -> None:
    hub.repositories["team/sure"] = {}
    done = export(tmp_path, "--push", "team/sure", "--json", hub=hub)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"] == f"{hub.address}/team/sure"
    assert "README.md" in hub.files["team/sure"]


def test_without_a_token_nothing_is_exported_and_one_sentence_says_how_to_log_in(tmp_path: Path) -> None:
    done = export(tmp_path, "--push", "team/sure", token=None)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hf auth login" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("token", "refusing", "said"),
    [
        ("hf_unknown", None, "does not know this token: log in with `hf auth login`"),
        (TOKEN, 403, "does not let this token write to team/sure"),
        (TOKEN, 400, "refused team/sure"),
    ],
)
def test_a_refusal_is_told_and_the_folder_stays(
    tmp_path: Path, hub: FakeHub, token: str, refusing: int | None, said: str
) -> None:
    hub.refusing = refusing
    done = export(tmp_path, "--push", "team/sure", hub=hub, token=token)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert f"`hf upload team/sure {tmp_path / 'out'}` sends it later" in done.stderr
    assert (tmp_path / "out" / "README.md").exists()


def test_a_hub_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = export(tmp_path, "--push", "team/sure")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "the hub was not reached" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--push", "a/b/c"], "'a/b/c' is no name of a repository"),
        (["--private"], "--private says how --push makes a repository"),
        (["--results", "table.json"], "table.json is no results.json"),
        (["--base", "x"], "--base names the model"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "table.json").write_text("[]")
    given = [str(tmp_path / one) if one.endswith(".json") else one for one in arguments]
    done = export(tmp_path, *given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
