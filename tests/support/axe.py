"""axe-core in a page of the headless browser: what it finds wrong for people who use a keyboard or a screen reader."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from browser import Page

GRAVE = ("serious", "critical")

PATIENCE = 240.0
"""Seconds that a run may take: every element is looked at by every rule, on a machine that may be busy."""


def grave(page: Page) -> list[str]:
    """What axe-core calls serious or critical on the page, with the elements; everything folded is opened first.

    Skips the test where the package that holds axe-core's script is not installed.
    """
    spec = find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-core-python is not installed: pages are not checked for accessibility")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.evaluate(Path(spec.origin).with_name("axe.min.js").read_text("utf-8") + ";0")
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then(found => found.violations)", timeout=PATIENCE)
    return [
        f"{rule['id']}: {rule['help']}: {', '.join(' '.join(node['target']) for node in rule['nodes'][:5])}"
        for rule in found
        if rule["impact"] in GRAVE
    ]
