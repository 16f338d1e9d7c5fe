"""One question to the Hugging Face hub before a load, so that a mistyped name does not wait for a minute of retries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from confide.errors import ConfideError

TIMEOUT_S = 5.0
"""How long the hub may take to answer."""


@contextmanager
def hub_or_cache(name: str, kind: Literal["model", "dataset"]) -> Iterator[str | None]:
    """Ask the hub once for ``name``; inside, only the hub's cache is read where it was not reached.

    Yields:
        Why the hub was not reached; None where it was.

    Raises:
        ConfideError: the hub has nothing of that name, or does not give it to this user.
    """
    from huggingface_hub import constants

    if (reason := _not_reached(name, kind)) is None:
        yield None
        return
    settings = [constants, *(config for config in [sys.modules.get("datasets.config")] if config is not None)]
    before = [(module, module.HF_HUB_OFFLINE) for module in settings]
    for module in settings:
        setattr(module, "HF_HUB_OFFLINE", True)  # noqa: B010
    try:
        yield reason
    finally:
        for module, value in before:
            setattr(module, "HF_HUB_OFFLINE", value)  # noqa: B010


def _not_reached(name: str, kind: Literal["model", "dataset"]) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(name, "README.md", repo_type=kind), timeout=TIMEOUT_S)
    except EntryNotFoundError:
        return None
    except GatedRepoError:
        raise ConfideError(f"the hub gives the {kind} {name} only to those who have accepted its terms") from None
    except RepositoryNotFoundError:
        raise ConfideError(f"the hub has no {kind} {name}, and there is no folder of this name") from None
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except Exception as error:  # what a network raises differs from version to version
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None
