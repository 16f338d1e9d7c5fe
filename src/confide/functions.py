"""Functions that are named as ``module:function``: tools and passages of the router, and graders of annotation."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confide.errors import ConfideError


def look_in(folder: Path) -> None:
    """Look for modules in ``folder`` first; the console script leaves out any folder of one's own."""
    sys.path.insert(0, str(folder.absolute()))


def load_function(spec: str, where: str) -> Callable[..., Any]:
    """Import ``module:function``; raises `ConfideError` where there is no such callable.

    Args:
        where: where modules are looked for besides PYTHONPATH, as the error says it.
    """
    module, _, name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # the module is somebody else's
        raise ConfideError(
            f"cannot import {spec!r} (module:function is wanted; modules are looked for {where} and in PYTHONPATH): "
            f"{error}"
        ) from None
    if not callable(function):
        raise ConfideError(f"{spec} is not callable")
    loaded: Callable[..., Any] = function
    return loaded
