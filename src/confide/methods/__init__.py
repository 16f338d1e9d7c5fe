"""Methods: ways to get a confidence, each with its training and its reading side by side.

What scripts need of them is here by name; each name loads its module when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confide.methods.along.along_training import train_signal
    from confide.methods.catalogue import add_method
    from confide.methods.method import Column, Method, Scope, labels
    from confide.methods.scoring import score

__all__ = ["Column", "Method", "Scope", "add_method", "labels", "score", "train_signal"]

_MODULES = {
    "Column": "method",
    "Method": "method",
    "Scope": "method",
    "add_method": "catalogue",
    "labels": "method",
    "score": "scoring",
    "train_signal": "along.along_training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"confide.methods.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'confide.methods' has no attribute {name!r}")
