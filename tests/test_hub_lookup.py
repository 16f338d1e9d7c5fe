"""One question to the hub before a load: no retries where it is not reached, and the cache instead."""

from __future__ import annotations

import pytest

import confide
from confide import ConfideError
from confide.hub_lookup import hub_or_cache
from confide.tasks import load_task


@pytest.fixture
def asked(monkeypatch):
    """The addresses that the hub is asked for; every request fails as without a network."""
    hub = pytest.importorskip("huggingface_hub")
    seen: list[str] = []

    def away(url, **options):
        seen.append(url)
        assert options["timeout"] <= 5
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub, "get_hf_file_metadata", away)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    return seen


def test_a_hub_that_is_not_reached_is_asked_once(asked):
    with pytest.raises(ConfideError, match=r"no folder somebody/model, the hub was not reached .*not known"):
        confide.load("somebody/model")
    assert len(asked) == 1
    with pytest.raises(ConfideError, match=r"cannot load arc_easy from the hub \(Name or service not known\)"):
        load_task("arc_easy")
    assert len(asked) == 2


def test_inside_only_the_cache_is_read_and_afterwards_as_before(asked):
    from huggingface_hub import constants, is_offline_mode

    with hub_or_cache("somebody/model", "model") as reason:
        assert reason == "Name or service not known"
        assert is_offline_mode()
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(RuntimeError), hub_or_cache("somebody/model", "model"):
        raise RuntimeError
    assert not is_offline_mode()


def test_offline_mode_is_honoured(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfideError, match="HF_HUB_OFFLINE is set"):
        confide.load("somebody/model")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [("RepositoryNotFoundError", "the hub has no model somebody/model"), ("GatedRepoError", "accepted its terms")],
)
def test_what_the_hub_does_not_have_or_give(monkeypatch, error, sentence):
    hub = pytest.importorskip("huggingface_hub")
    import httpx

    def answer(url, **options):
        response = httpx.Response(404, request=httpx.Request("HEAD", url))
        raise getattr(hub.errors, error)("no", response=response)

    monkeypatch.setattr(hub, "get_hf_file_metadata", answer)
    with pytest.raises(ConfideError, match=sentence):
        confide.load("somebody/model")


@pytest.mark.parametrize("name", ["./m", "/m/n", "a/b/c", "~/m", ".m", "a b", "a\0b", "\ud800"])
def test_what_is_no_name_is_not_asked_for(asked, name):
    with pytest.raises(ConfideError, match="there is no model folder"):
        confide.load(name)
    assert asked == []
