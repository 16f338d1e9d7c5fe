"""``confide serve`` as a process: it listens, answers, keeps its rows through a kill, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from confide.cli.serve import serve, without_experts
from confide.errors import ConfideError
from confide.serving.api_keys import hash_key
from confide.serving.config import ServeConfig

SERVING = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SERVING))
from upstreams import Upstream, policy_file  # noqa: E402

RUN = "import typer; from confide.cli.serve import serve; a = typer.Typer(); a.command()(serve); a()"
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "peft", "trl", "datasets", "matplotlib"):
            raise ImportError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""

app = typer.Typer()
app.command()(serve)


def config(folder: Path, upstream: Upstream, **more: Any) -> Path:
    path = folder / "serve.yaml"
    small = {"base_url": upstream.url, "model": "tiny"}
    store = f"sqlite:///{folder / 'confide.db'}"
    path.write_text(json.dumps({"small": small, "policy": str(policy_file(folder)), "store": store, **more}))
    return path


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


def start(path: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", BLOCK + RUN, "--config", str(path), "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


def ask(url: str) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Where is Kyoto?"}]}
    found: dict[str, Any] = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30, trust_env=False).json()
    return found


def test_it_serves_without_torch_and_rows_outlive_a_kill(tmp_path: Path, upstream: Upstream) -> None:
    process, url = start(config(tmp_path, upstream), "--mode", "observe")
    told = ask(url)["confide"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (told["mode"], told["served"]) == ("observe", "small")
    process, url = start(config(tmp_path, upstream))
    again = ask(url)["confide"]
    process.terminate()
    out = process.communicate(timeout=30)[0]
    assert process.returncode in (0, -signal.SIGTERM)
    assert "dashboard: http://127.0.0.1:" in out
    assert "Traceback" not in out
    rows = (
        sqlite3.connect(tmp_path / "confide.db").execute("SELECT id, mode FROM decisions ORDER BY created").fetchall()
    )
    assert rows == [(told["decision_id"], "observe"), (again["decision_id"], "act")]


def test_a_key_becomes_its_entry(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--hash-key"], input="0123456789abcdefghij\n")
    assert done.exit_code == 0
    # What is printed stands in the configuration as it is.
    text = f"mode: observe\nsmall: {{model: m}}\nhost: 0.0.0.0\napi_keys:\n{done.stdout}"
    (tmp_path / "keyed.yaml").write_text(text)
    (key,) = ServeConfig.load(tmp_path / "keyed.yaml").api_keys
    assert key.hash == hash_key("0123456789abcdefghij")
    assert key.scopes == ("ask", "feedback")
    assert isinstance(CliRunner().invoke(app, ["--hash-key"], input="short\n").exception, ConfideError)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--config is missing"),
        (["--config", "absent.yaml"], "absent.yaml does not exist"),
        (["--config", "serve.yaml", "--host", "0.0.0.0"], "set api_keys"),
        (["--config", "serve.yaml", "--mode", "watch"], "mode: Input should be"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    config(tmp_path, upstream)
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, ConfideError)
    assert sentence in str(error)


def test_a_policy_of_another_model_is_refused_with_the_word_that_overrides(tmp_path: Path, upstream: Upstream) -> None:
    upstream.card = {"root": "/models/two"}
    policy = policy_file(tmp_path, identity="model=tiny, root=/models/one")
    path = config(tmp_path, upstream)
    policy_file(tmp_path, identity="model=tiny, root=/models/one")
    error = CliRunner().invoke(app, ["--config", str(path)]).exception
    assert isinstance(error, ConfideError)
    assert "made for another model (model=tiny, root=/models/one) than the small model small (root=/models/two)" in str(
        error
    )
    assert 'accept_model: "root=/models/two"' in str(error)
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"policy": str(policy), "accept_model": "root=/models/two"})
    )
    process, url = start(path)
    assert ask(url)["confide"]["calibrated"] is True
    process.terminate()
    process.communicate(timeout=30)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accept_model": "two"}))
    error = CliRunner().invoke(app, ["--config", str(path)]).exception
    assert isinstance(error, ConfideError)
    assert "accept_model: an identity reads part=value" in str(error)


def test_a_trained_folder_serves_only_its_own_policy(tmp_path: Path) -> None:
    import confide

    saved = Path(__file__).parents[1] / "methods" / "saved" / "reader"
    model = confide.load(saved)
    path = tmp_path / "serve.yaml"
    ours = model.identity
    weights, confidence, portable = ours.split(", ")
    for identity, refused in (
        (ours, False),
        (weights, False),
        (f"{weights}, {portable}", False),
        (f"{weights}, confidence=0123456789abcdef", True),
        (f"weights=0123456789abcdef, {confidence}", True),
    ):
        settings = {
            "small": {"model": str(saved)},
            "policy": str(policy_file(tmp_path, source="stack", identity=identity)),
            "store": f"sqlite:///{tmp_path / 'confide.db'}",
            "host": "192.0.2.1",  # nobody can listen there, so a router that would start says so
            "api_keys": ["sha256:" + "0" * 64],
        }
        path.write_text(json.dumps(settings))
        error = CliRunner().invoke(app, ["--config", str(path)]).exception
        assert isinstance(error, ConfideError)
        assert ("made for another model" in str(error)) is refused
        assert ("cannot listen" in str(error)) is not refused


def test_a_tool_lies_beside_the_configuration(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "configured"
    folder.mkdir()
    (tmp_path / "here_only.py").write_text("def look_up(messages):\n    return 'Japan'\n")
    (folder / "beside_it.py").write_text("def look_up(messages):\n    return 'Japan'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part not in ("", str(tmp_path))])
    for module, sentence in (("here_only", "No module named 'here_only'"), ("beside_it", "cannot listen")):
        tool = {"name": "tool", "tool": f"{module}:look_up"}
        more = {"host": "192.0.2.1", "api_keys": ["sha256:" + "0" * 64]}  # nobody can listen there
        path = config(folder, upstream, experts=[tool], **more)
        error = CliRunner().invoke(app, ["--config", str(path)]).exception
        assert isinstance(error, ConfideError)
        assert sentence in str(error)


def test_a_port_in_use_is_said(tmp_path: Path, upstream: Upstream) -> None:
    path = config(tmp_path, upstream)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = CliRunner().invoke(app, ["--config", str(path), "--port", str(taken.getsockname()[1])]).exception
    assert isinstance(error, ConfideError)
    assert "cannot listen on 127.0.0.1" in str(error)


def test_help_is_instant_and_shows_an_example() -> None:
    code = BLOCK.replace('"matplotlib"', '"matplotlib", "fastapi", "aiohttp", "sqlalchemy", "uvicorn"') + RUN
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "confide serve --config serve.yaml" in done.stdout


def test_no_expert_for_what_escalates_is_told_at_the_start(tmp_path: Path, upstream: Upstream) -> None:
    for more, got in (
        ({}, "status 503 (no expert could answer)"),
        ({"last_resort": {"failed": "abstain"}}, "gets a refusal"),
        ({"last_resort": {"failed": "unverified"}}, "marked unverified"),
    ):
        said = without_experts(ServeConfig.load(config(tmp_path, upstream, **more)))
        assert said is not None
        assert got in said
        assert "`experts`" in said
        assert "`last_resort: " in said
    expert = {"name": "big", "base_url": upstream.url, "model": "big"}
    for more in ({"experts": [expert]}, {"mode": "observe"}):
        assert without_experts(ServeConfig.load(config(tmp_path, upstream, **more))) is None
