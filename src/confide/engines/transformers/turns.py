"""Turns: threads that share a model run it one after another.

A pass hooks layers, shares prefixes and replaces methods for a while, so two at once would read each other's states.
The lock belongs to the model, not to who runs it: two engines on one model take turns as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock, RLock
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

_S = TypeVar("_S")
_P = ParamSpec("_P")
_R = TypeVar("_R")

_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_guard = Lock()


def lock_of(model: Any) -> Any:
    """The lock of a model; who holds it may take it again."""
    with _guard:
        return _locks.setdefault(model, RLock())


def in_turn(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """A method that holds its object's ``lock`` while it runs."""

    @wraps(method)
    def alone(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self.lock:  # type: ignore[attr-defined]
            return method(self, *args, **kwargs)

    return alone
