"""Teach an open-weight language model to say how sure it is, and act on it.

>>> import confide
>>> model = confide.load("runs/reader")  # doctest: +SKIP
>>> answer = model.answer("In which country is Lyon?")  # doctest: +SKIP
>>> answer.text, answer.confidence, answer.source  # doctest: +SKIP
('France', 0.94, 'stack')
"""

from typing import TYPE_CHECKING, Any

from confide.errors import ConfideError, missing_package

if TYPE_CHECKING:
    from confide.model import Answer, ConfidenceModel, load

__all__ = ["Answer", "ConfideError", "ConfidenceModel", "__version__", "load"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # The model side needs torch; the core does not.
    if name in ("Answer", "ConfidenceModel", "load"):
        from importlib.util import find_spec

        try:
            missing = [package for package in ("torch", "transformers") if find_spec(package) is None]
        except ImportError as error:
            missing = [str(error.name)]
        if missing:
            raise missing_package(missing[0])
        from confide import model

        return getattr(model, name)
    raise AttributeError(f"module 'confide' has no attribute {name!r}")
