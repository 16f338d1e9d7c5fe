"""``confide engine check``: its table, its JSON, and what it says about servers that cannot be checked."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from checked_endpoints import Endpoint, llama_cpp, ollama, openai, silent, vllm
from confide.cli import engine_verbs
from confide.cli.exit_codes import ExitCode
from confide.cli.main import app, ended
from confide.engines.openai import bare_requests
from confide.engines.openai.abilities import Abilities

BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from confide.cli.main import main; main()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_requests, "_FIRST_WAIT_S", 0.01)


def run(server: Endpoint, *arguments: str, columns: int = 100, model: str = "tiny") -> str:
    """What the verb prints about a server."""
    with server.running():
        command = ["engine", "check", "--base-url", server.url, "--model", model, *arguments]
        result = CliRunner().invoke(app, command, env={"COLUMNS": str(columns)}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def confide(*arguments: object, without: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """The verb as a process, without some packages."""
    command = [sys.executable, "-c", BLOCK.format(packages=without.split()), "engine", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | more)


def rows(text: str) -> dict[str, str]:
    """Label → what the table says, on one line each."""
    return {line[:26].strip(): line[26:].strip() for line in text.split("\n\n")[0].splitlines() if line.strip()}


def offered(text: str) -> list[str]:
    return [line.rstrip() for line in text[text.index("cheapest first") :].splitlines()[2:] if line.strip()]


def test_the_table_of_a_server_that_gives_everything() -> None:
    text = run(vllm(plugin=True), "--safe-to-ask", "logprob_token_ids,prompt_logprobs", columns=120)
    assert rows(text) == {
        "model": "tiny; loaded from /models/tiny",
        "version": "0.32.0",
        "context": "2,048 tokens",
        "tokens counted": "yes",
        "streaming": "yes",
        "reasoning": "none seen",
        "log-probabilities": "yes",
        "likeliest tokens": "20",
        "chosen token ids": "yes",
        "prompt log-probabilities": "yes",
        "token ids in replies": "return_token_ids, return_tokens_as_token_ids",
        "several answers at once": "yes",
        "samples": "yes",
        "samples with a seed": "yes",
        "learned reading": "yes",
    }
    sources = offered(text)
    assert sources[0].startswith("stack_served ")
    assert sources[1].startswith("portable ")
    assert sources[2].startswith("logprob_sum, logprob_mean, logprob_min ")
    assert sources[-1].startswith("self_consistency, semantic_entropy ")
    assert sources[-1].endswith("K samples, in one request")


def test_the_table_of_a_server_that_gives_little() -> None:
    text = run(ollama(), columns=160)
    told = rows(text)
    assert (told["log-probabilities"], told["likeliest tokens"], told["token ids in replies"]) == ("no", "no", "no")
    assert told["learned reading"] == "cannot be told without chosen token ids"
    assert told["chosen token ids"] == (
        "not asked: kills a server that decodes speculatively; say --safe-to-ask logprob_token_ids if yours does not"
    )
    assert "logprob" not in "".join(offered(text))
    assert "each in a request of its own" in text


def test_another_model_is_told() -> None:
    assert rows(run(vllm(reports="big"), columns=160))["model"].startswith("big: another model than tiny")
    told = rows(run(llama_cpp(), columns=160))["model"]
    assert told == "tiny: whether it is the one that answers cannot be told; it lists only /models/other-7b.gguf"


@pytest.mark.parametrize("server", [vllm, openai, ollama, llama_cpp, silent])
@pytest.mark.parametrize("columns", [40, 60])
def test_narrow_terminals_lose_nothing(server: Callable[[], Endpoint], columns: int) -> None:
    text = run(server(), columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    said = " ".join(text.split())
    for label in ("model", "prompt log-probabilities", "several answers at once", "learned reading", "answer_only"):
        assert label in said
    assert "…" not in text
    if columns == 60:
        assert said.count("--safe-to-ask") == 2


def test_json_is_one_object_with_the_same_keys_for_every_server() -> None:
    keys = {field.name for field in dataclasses.fields(Abilities)} | {"capabilities", "sources"}
    for server in (vllm(), openai(), ollama(), llama_cpp(), silent()):
        data = json.loads(run(server, "--json"))
        assert data.keys() == keys
        assert {"source", "cost"} == data["sources"][0].keys()
    assert data["sources"][0]["source"] == "answer_only"
    data = json.loads(run(vllm(), "--json"))
    assert (data["model"], data["logprobs"], data["top_logprobs"], data["chosen_ids"]) == ("tiny", True, 20, None)
    assert data["token_ids"] == ["return_token_ids", "return_tokens_as_token_ids"]


def test_flags_may_stand_in_a_file(tmp_path: Path) -> None:
    server = vllm()
    with server.running():
        config = tmp_path / "c.yaml"
        config.write_text(
            f"base-url: {server.url}/chat/completions\nmodel: tiny\nsafe-to-ask: prompt_logprobs\njson: true\n"
        )
        result = CliRunner().invoke(app, ["engine", "check", "--config", str(config)], catch_exceptions=False)
    data = json.loads(result.stdout)
    assert (data["base_url"], data["prompt_logprobs"], data["chosen_ids"]) == (server.url, "chat", None)


def test_it_runs_without_torch_and_without_the_key_in_its_output() -> None:
    packages = "torch transformers peft trl datasets accelerate safetensors"
    with vllm(key="sk-of-mine").running() as server:
        arguments = ("--base-url", server.url, "--model", "tiny", "--api-key-env", "MY_KEY")
        for more in ((), ("--json",)):
            done = confide(*arguments, *more, without=packages, MY_KEY="sk-of-mine")
            assert done.returncode == 0, done.stderr
            assert "sk-of-mine" not in done.stdout + done.stderr
        done = confide(*arguments, without="aiohttp", MY_KEY="sk-of-mine")
        assert (done.returncode, "pip install 'confide[serve]'" in done.stderr) == (ExitCode.BAD_INPUT, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "tiny"], "there is no server at http://127.0.0.1:9/v1"),
        (["--base-url", "127.0.0.1:9/v1", "--model", "tiny"], "--base-url: an http or https address with a host"),
        (["--base-url", "http://u:sk-1@127.0.0.1/v1", "--model", "tiny"], "--base-url: no user, password"),
        (["--base-url", "http://[::1/v1", "--model", "tiny"], "--base-url: not a URL"),
        (["--base-url", "", "--model", "tiny"], "--base-url: "),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", " "], "--model: a name is wanted"),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--api-key-env", "NOT_SET"], "NOT_SET"),
        (
            ["--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--safe-to-ask", "all"],
            "logprob_token_ids and prompt",
        ),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--safe-to-ask", ","], "names separated by commas"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setattr(sys, "argv", ["confide", "engine", "check", *arguments])
    assert ended(app) == ExitCode.BAD_INPUT
    told = capsys.readouterr()
    assert sentence in " ".join(told.err.split())
    assert "Traceback" not in told.err
    assert "sk-1" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("server", "path", "sentence"),
    [
        (vllm(key="sk-1"), "/v1", "wants a key"),
        (vllm(), "", "/v1: give that address"),
        (vllm(models=[{"id": "small"}, {"id": "big"}]), "/v1", "does not serve the model tiny: it serves small, big"),
        (vllm(hangs="messages"), "/v1", "gave no answer in 1 s"),
        (openai(statuses={"messages": 405}), "/v1", "answers no chat"),
    ],
)
def test_a_server_that_cannot_be_checked_is_one_sentence_and_exit_code_2(
    server: Endpoint, path: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_verbs, "TIMEOUT_S", 1.0)
    with server.running():
        url = server.url.removesuffix("/v1") + path
        monkeypatch.setattr(sys, "argv", ["confide", "engine", "check", "--base-url", url, "--model", "tiny"])
        assert ended(app) == ExitCode.BAD_INPUT
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


def test_help_has_an_example() -> None:
    done = confide("--help", without="torch aiohttp")
    assert done.returncode == 0, done.stderr
    assert "Example: " in done.stdout


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ([{"id": "tiny"}], None),
        ([{"id": "tiny"}, {"id": "other"}], "--model is missing; the server lists tiny, other"),
        ([], "/models lists none (status 200): name it"),
        (None, "/models lists none (status 404): name it"),
    ],
)
def test_without_a_model_the_only_one_is_taken_or_the_names_are_told(models, says) -> None:
    server = openai()
    server.models = models
    with server.running():
        result = CliRunner().invoke(app, ["engine", "check", "--base-url", server.url], env={"COLUMNS": "100"})
    if says is None:
        assert result.exit_code == 0, result.output
        assert "--model tiny --task questions.jsonl --out records.jsonl" in result.stderr
    else:
        assert says in str(result.exception)
