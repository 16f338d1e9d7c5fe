"""serve.yaml: what is read, what is refused and how that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.serving.config import (
    SelfExpert,
    ServeConfig,
    ServerExpert,
    SmallLocal,
    SmallServer,
    ToolExpert,
)
from confide.serving.http.application import create_app
from upstreams import FakeModel, policy_file

FULL = """
host: 127.0.0.1
port: 8000
mode: act
stream_mode: hold
policy: policy.json
small: {model: smollm2, name: small}
experts:
  - {name: big, base_url: "http://10.0.0.1/v1/", model: gpt-x, price: {input: 2, output: 8}, timeout_s: 30}
  - {name: gazetteer, tool: "confide.tasks.geography.gazetteer:look_up"}
  - {name: reread, self: {passage: "confide.tasks.geography.gazetteer:passage"}}
  - {name: more, self: {samples: 8}}
store: sqlite:///confide.db
store_text: false
audit_share: 0.02
audit_label: expert
api_keys: []
deadline_s: 60
limits: {body_bytes: 1000000, max_tokens: 4096, concurrency: 512, queue: 1024}
"""


def load(tmp_path: Path, text: str, **changes: object) -> ServeConfig:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    return ServeConfig.load(path, **changes)


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert isinstance(config.small, SmallLocal)
    assert [type(expert) for expert in config.experts] == [ServerExpert, ToolExpert, SelfExpert, SelfExpert]
    assert isinstance(config.experts[0], ServerExpert)
    assert config.experts[0].base_url == "http://10.0.0.1/v1"
    small = load(tmp_path, "policy: p.json\nsmall: {base_url: 'http://x/v1', model: m}").small
    assert isinstance(small, SmallServer)
    assert small.name == "small"


def test_the_server_of_embeddings_has_a_name_of_its_own(tmp_path: Path) -> None:
    plain = "mode: observe\nsmall: {model: x}\n"
    assert load(tmp_path, plain).embeddings is None
    server = "base_url: 'http://x/v1/', model: bge"
    config = load(tmp_path, f"{plain}embeddings: {{{server}}}")
    assert config.embeddings is not None
    assert (config.embeddings.name, config.embeddings.base_url) == ("embeddings", "http://x/v1")
    with pytest.raises(ConfideError, match="names must differ: small, small"):
        load(tmp_path, f"{plain}embeddings: {{{server}, name: small}}")
    with pytest.raises(ConfideError, match=r"embeddings\.url"):
        load(tmp_path, f"{plain}embeddings: {{{server}, url: x}}")


def test_the_fields_that_some_server_takes_are_known(tmp_path: Path) -> None:
    more = "fields: [top_k], rename: {max_tokens: max_completion_tokens, best: best_of}, drop: [seed]}]"
    config = load(tmp_path, SMALL + BIG + more)
    assert config.fields == {"top_k", "max_tokens", "best"}
    assert load(tmp_path, FULL).fields == set()


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, FULL, port=9, mode="observe", host=None)
    assert (config.port, config.mode, config.host) == (9, "observe", "127.0.0.1")


SMALL = "policy: p.json\nsmall: {model: m}\n"
BIG = "experts: [{name: x, model: m, base_url: 'http://x/v1', "


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1", "must map names to values"),
        ("a: [", "not valid YAML"),
        (SMALL + "prot: 1", "prot: unknown setting; did you mean port?"),
        ("policy: p.json\nsmall: {model: m, colour: red}", "small.colour: unknown setting; there are: "),
        ("small: {model: m}", "mode act needs a policy"),
        (SMALL + "host: 0.0.0.0", "can be reached from other machines: set api_keys"),
        (SMALL + "host: '::'", "set api_keys"),
        (SMALL + "api_keys: [secret]", "api_keys.0.hash: String should match"),
        (SMALL + "api_keys: [{name: '', hash: 'sha256:" + "0" * 64 + "'}]", "api_keys.0.name: String should match"),
        (SMALL + "api_keys: [{hash: 'sha256:" + "0" * 64 + "'}]", "api_keys.0.name: Field required"),
        (SMALL + f"api_keys: [{{name: a, hash: 'sha256:{'0' * 64}', scopes: []}}]", "api_keys.0.scopes: Tuple should"),
        (SMALL + f"api_keys: [{{name: a, hash: 'sha256:{'0' * 64}', scopes: [all]}}]", "scopes.0: Input should be"),
        (
            SMALL + f"api_keys: [{{name: a, hash: 'sha256:{'0' * 64}', key: b}}]",
            "api_keys.0.key: unknown setting; there are: domains, hash, name, scopes",
        ),
        (
            SMALL + f"api_keys: [{{name: a, hash: 'sha256:{'0' * 64}'}}, {{name: a, hash: 'sha256:{'1' * 64}'}}]",
            "two keys have the name a",
        ),
        (SMALL + f"api_keys: ['sha256:{'0' * 64}', {{name: b, hash: 'sha256:{'0' * 64}'}}]", "have the hash sha256:"),
        (SMALL + "mode: watch", "mode: Input should be 'act' or 'observe'"),
        (SMALL + "experts: [{name: x}]", "an expert has base_url"),
        (SMALL + "experts: [{name: small, tool: a:b}]", "names must differ"),
        (SMALL + "experts: [{name: x, self: {}}]", "give either passage or samples"),
        (SMALL + "experts: [{name: 'a b', tool: a:b}]", "experts.0.name: String should match"),
        (SMALL + "experts: [{name: x, model: m, base_url: 'ftp://x'}]", "an http or https address"),
        (SMALL + "experts: [{name: x, model: m, base_url: 'http://u:p@x/v1'}]", "keys go into api_key_env"),
        (SMALL + "experts: [{name: x, model: m, base_url: 'http://x:99999/v1'}]", "not a URL"),
        (SMALL + BIG + "fields: ['']}]", "experts.0.fields.0: String should match"),
        (SMALL + BIG + "fields: ['a b']}]", "experts.0.fields.0: String should match"),
        (SMALL + BIG + "fields: top_k}]", "experts.0.fields: Input should be a valid tuple"),
        (SMALL + BIG + "rename: {stop: 5}}]", "experts.0.rename.stop: Input should be a valid string"),
        (SMALL + BIG + "rename: {messages: turns}}]", "every server is sent messages"),
        (SMALL + BIG + "rename: {top_k: model}}]", "every server is sent model"),
        (SMALL + BIG + "drop: [stream]}]", "every server is sent stream"),
        (SMALL + BIG + "fields: [top_k], drop: [top_k]}]", "top_k is to be dropped and to be sent"),
        (SMALL + BIG + "rename: {stop: stops}, drop: [stop]}]", "stop is to be dropped and to be sent"),
        (
            SMALL + "experts: [{name: x, tool: 'a:b', fields: [top_k]}]",
            "experts.0.fields: unknown here; it is a setting of another kind",
        ),
        ("policy: p.json\nsmall: {model: m, base_url: 'http://x/v1', drop: [logprobs]}", "no confidence"),
    ],
)
def test_mistakes_are_named_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfideError) as error:
        load(tmp_path, text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value).strip() or "YAML" in str(error.value)
    assert "u:p@" not in str(error.value)


def test_other_addresses_need_keys(tmp_path: Path) -> None:
    hashed = "sha256:" + "0" * 64
    assert load(tmp_path, SMALL + f"host: 0.0.0.0\napi_keys: ['{hashed}']").host == "0.0.0.0"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"experts": [{"name": "x", "tool": "no.such:thing"}]}, "cannot import 'no.such:thing'"),
        ({"experts": [{"name": "x", "tool": "callables:no_such"}]}, "cannot import"),
        ({"experts": [{"name": "x", "tool": "callables"}]}, "module:function is wanted"),
        ({"experts": [{"name": "x", "tool": "os:sep"}]}, "is not callable"),
        (
            {"experts": [{"name": "x", "base_url": "http://x", "model": "m", "api_key_env": "NO_SUCH_KEY"}]},
            "environment variable NO_SUCH_KEY",
        ),
        ({"policy": "absent.json"}, "absent.json does not exist"),
        ({"store": "mysql://x"}, "SQLite or PostgreSQL"),
    ],
)
def test_what_cannot_be_found_is_said_before_serving(
    tmp_path: Path, settings: dict[str, object], sentence: str
) -> None:
    base = {"small": {"model": "x"}, "policy": policy_file(tmp_path), "store": f"sqlite:///{tmp_path}/c.db"}
    with pytest.raises(ConfideError, match=sentence):
        create_app(ServeConfig.model_validate({**base, **settings}), model=FakeModel())


def test_a_policy_of_another_model_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = policy_file(tmp_path)
    data = json.loads(policy.read_text())
    for name, told in (("m", ""), ("small", ""), ("another", "made for answers of another, not of m or small")):
        policy.write_text(json.dumps(data | {"model": name}))
        store = f"sqlite:///{tmp_path}/c.db"
        config = ServeConfig.model_validate({"small": {"model": "m"}, "policy": policy, "store": store})
        create_app(config, model=FakeModel())
        assert caplog.text.count("made for") == bool(told)
        assert told in caplog.text


def test_a_policy_for_a_source_that_never_comes_is_refused(tmp_path: Path) -> None:
    policy = policy_file(tmp_path, source="stack")
    for small, model in (({"base_url": "http://x/v1", "model": "m"}, None), ({"model": "m"}, FakeModel())):
        config = ServeConfig.model_validate({"small": small, "policy": policy})
        with pytest.raises(ConfideError, match="decides on stack, which the small model small does not give"):
            create_app(config, model=model)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with a configuration, and another that is the working folder."""
    for name in ("configured", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path / "configured"


def test_relative_paths_start_at_the_folder_of_the_file(elsewhere):
    (elsewhere / "model").mkdir()
    path = elsewhere / "serve.yaml"
    path.write_text("policy: a/p.json\nstore: sqlite:///s.db\nsmall: {model: model}\n")
    found = ServeConfig.load(path)
    assert found.policy == elsewhere / "a" / "p.json"
    assert found.store == f"sqlite:///{elsewhere}/s.db"
    assert found.small.model == str(elsewhere / "model")
    path.write_text("mode: observe\nsmall: {model: model}\n")
    assert ServeConfig.load(path).store == f"sqlite:///{elsewhere}/confide.db"


def test_whole_paths_names_and_other_stores_stay(elsewhere):
    (elsewhere / "smollm2").mkdir()
    path = elsewhere / "serve.yaml"
    for store in ("sqlite:////var/s.db", "postgresql://h/d", "sqlite:///:memory:"):
        path.write_text(f"policy: /a/p.json\nstore: '{store}'\nsmall: {{model: smollm2}}\n")
        found = ServeConfig.load(path)
        assert (str(found.policy), found.store, found.small.model) == ("/a/p.json", store, "smollm2")
    for key, more in (
        ("reading", "engine: vllm"), ("reader", "engine: llama.cpp, adapter: 0"), ("portable", "engine: openai")
    ):  # fmt: skip
        server = f"{{base_url: 'http://x/v1', model: m, {more}, {key}: learned}}"
        path.write_text(f"mode: observe\nsmall: {server}\n")
        assert getattr(ServeConfig.load(path).small, key) == elsewhere / "learned"
    path.write_text("mode: observe\nsmall: {model: HuggingFaceTB/SmolLM2}\n")
    assert ServeConfig.load(path).small.model == "HuggingFaceTB/SmolLM2"
    (elsewhere / "served").mkdir()  # what a server calls its model is no folder
    path.write_text("mode: observe\nsmall: {base_url: 'http://a/v1', model: served}\n")
    assert ServeConfig.load(path).small.model == "served"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("policy: p.json\nsmall: {model: m}", "p.json"),
        ("mode: observe\nsmall: {model: m}", "confide.db"),
        ("mode: observe\nstore: sqlite:///old.db\nsmall: {model: m}", "old.db"),
        ("mode: observe\nsmall: {model: trained}", "trained"),
    ],
)
def test_a_path_from_the_working_folder_is_refused_with_both_places(elsewhere, text, name):
    (Path.cwd() / name).write_text("x")
    path = elsewhere / "serve.yaml"
    path.write_text(text)
    with pytest.raises(ConfideError) as told:
        ServeConfig.load(path)
    assert str(elsewhere / name) in str(told.value)
    assert str(Path.cwd() / name) in str(told.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mode: act\nmode: observe", "line 1: mode is there twice"),
        ("small:\n  model: m\n  model: n", "line 2: model is there twice"),
        ("small:\t1\n\tx: 1", "not valid YAML"),
        ("port: [1]\nmode: observe\nsmall: {model: m}", "port"),
        ("deadline_s: .nan\nmode: observe\nsmall: {model: m}", "deadline_s"),
        ("mode: 2024-13-45", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
    ],
)
def test_yaml_that_says_nothing_clear(elsewhere, text, sentence):
    (elsewhere / "serve.yaml").write_text(text)
    with pytest.raises(ConfideError) as told:
        ServeConfig.load(elsewhere / "serve.yaml")
    assert sentence in str(told.value)
