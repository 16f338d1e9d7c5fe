"""Templates of self-contained pages: their filters write numbers as people read them, and make foreign text harmless.

Questions and answers are hostile text. A template escapes everything, and the page's content security policy names
its style sheet and its script by their hashes, and forbids all others and every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from confide.evaluation.wording import some

MAX_TEXT = 400
"""Characters of a question or an answer that are shown."""

UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that a page cannot hold, that break lines of a script, or that turn the direction of text."""


def page_environment(folder: str) -> Environment:
    """The templates in a folder of the package, with the functions of this module as filters."""
    environment = Environment(
        loader=PackageLoader("confide", folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"text": clean, "count": "{:,}".format}
    environment.filters |= {f.__name__: f for f in (some, number, percent, interval, short, exact, amount, seconds)}
    return environment


def page_style(folder: str, name: str) -> Markup:
    """The style sheet of the charts, and then a page's own."""
    paths = ("report/templates/charts.css", f"{folder}/{name}")
    return Markup("".join(resources.files("confide").joinpath(path).read_text("utf-8") for path in paths))


def page_script(*names: str) -> Markup:
    """The scripts of a page, as one."""
    folder = resources.files("confide").joinpath("report/templates")
    return Markup("".join(folder.joinpath(name).read_text("utf-8") for name in names))


def content_security_policy(style: str, script: str = "") -> str:
    """Allows this very style sheet and this very script (none where it is empty), and no request at all."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    scripts = f"script-src 'sha256-{script_hash}'; " if script else ""
    return f"default-src 'none'; {scripts}style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'"


def embedded(data: Any) -> Markup:
    """Data as JSON for a script element: nothing in it can end the element, whoever wrote the text.

    Everything outside ASCII is escaped as well, U+2028 and U+2029 among it.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def clean(value: Any, limit: int = MAX_TEXT) -> str:
    """Foreign text, shortened, without characters that a page cannot hold or that turn its direction.

    This does not escape: templates do, and so does `confide.report.charts`.
    """
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = UNFIT.sub("�", text.encode("utf-8", "replace").decode("utf-8"))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def percent(value: float | None, digits: int = 0) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if value is None else f"{number(100 * value, digits)}%"


def interval(entry: dict[str, Any] | None, digits: int = 3) -> str:
    """The interval of a metric in brackets; nothing where there is none."""
    if entry is None or entry["low"] is None:
        return ""
    return f"[{number(entry['low'], digits)}, {number(entry['high'], digits)}]"


def short(value: float) -> str:
    """A count or a threshold in few characters: "0.25", "940", "12k"."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k".replace("-", "−")
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "−")


def exact(value: float) -> str:
    """A threshold as a script would write it: all of its digits."""
    text = repr(int(value) if value == int(value) and abs(value) < 1e15 else value)
    return text.replace("-", "−")


def amount(value: float, noun: str, plural: str | None = None) -> str:
    """A number in few characters with its noun: "1 token", "2.5 tokens", "12k rows"."""
    text = short(value)
    return f"{text} {noun if text == '1' else plural or noun + 's'}"


def seconds(value: float) -> str:
    """A duration with its unit: "0", "4 ms", "1.3 s"."""
    if value <= 0:
        return "0"
    if value < 0.0005:
        return "under 1 ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"
