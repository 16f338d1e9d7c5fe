"""A folder sent to the Hugging Face hub, by the hub's own client."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfideError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def check_upload(repo_id: str) -> None:
    """Raise `ConfideError` for what the hub would surely refuse: a bad name, or nobody who is logged in."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfideError(f"{repo_id!r} is no name of a repository: {error}") from None
    if get_token() is None:
        raise ConfideError(f"the hub takes nothing from those it does not know: {LOGIN}")


def upload_folder(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Make the repository of a model, unless it is there, and commit a folder to it.

    Args:
        folder: what to send; hidden files stay.
        repo_id: ``name`` or ``owner/name``.
        private: whether a repository that is made now is seen by its owner alone.

    Returns:
        Its address.

    Raises:
        ConfideError: the hub was not reached, or refused.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        made = api.create_repo(repo_id, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            ignore_patterns=[".*", "**/.*"],
            commit_message="Upload a model exported by confide",
        )
    except HfHubHTTPError as error:
        raise ConfideError(
            f"{_refused(error.response.status_code, repo_id, error)}; {_again(folder, repo_id)}"
        ) from None
    except Exception as error:  # what a network raises differs from version to version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfideError(f"the hub was not reached ({reason}); {_again(folder, repo_id)}") from None
    return str(made)


def _refused(status: int, repo_id: str, error: Exception) -> str:
    if status == 401:
        return f"the hub does not know this token: {LOGIN}"
    if status == 403:
        return f"the hub does not let this token write to {repo_id}"
    return f"the hub refused {repo_id}: {(str(error).strip().splitlines() or [str(status)])[-1]}"


def _again(folder: Path, repo_id: str) -> str:
    return f"the folder is whole, and `hf upload {repo_id} {folder}` sends it later"
