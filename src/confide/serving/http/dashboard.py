"""The dashboard: one self-contained page drawn from a snapshot, without a script and without a request.

Domains and request ids are hostile text, as questions and answers are; see `confide.report.templating`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from typing import Any

from jinja2 import Environment

from confide.report import templating
from confide.report.charts import TimeLine, time_chart
from confide.report.templating import number, page_environment, page_style
from confide.report.terms import DASHBOARD, glossary
from confide.serving.monitor.alarms import WORDS, percent

WINDOWS: dict[str, float | None] = {"hour": 3_600, "day": 86_400, "week": 7 * 86_400, "all": None}
"""The windows that the page links to as ``?window=…``, in seconds."""

REFRESH_S = 60
"""Seconds after which the page loads itself again; ``?refresh=off`` asks for a page that does not."""

_TEMPLATES = "serving/http/templates"


def dashboard_page(snapshot: dict[str, Any], *, refresh_s: int | None = REFRESH_S) -> str:
    """The page for a `confide.serving.monitor.snapshot.snapshot`.

    It loads itself again after ``refresh_s`` seconds (None: never). Serve it with `content_security_policy`.
    """
    window = next((name for name, seconds in WINDOWS.items() if seconds == snapshot["window_s"]), None)
    return (
        _environment()
        .get_template("dashboard.html.j2")
        .render(
            s=snapshot,
            style=page_style(_TEMPLATES, "dashboard.css"),
            refresh_s=refresh_s,
            window=window,
            windows=list(WINDOWS),
            lines=_lines(snapshot),
            words=WORDS,
            terms=glossary(DASHBOARD),
        )
    )


@cache
def content_security_policy() -> str:
    """The header that goes with the page: its own style sheet may be used, nothing may be loaded, sent or framed."""
    return templating.content_security_policy(page_style(_TEMPLATES, "dashboard.css")) + "; frame-ancestors 'none'"


@cache
def _environment() -> Environment:
    environment = page_environment(_TEMPLATES)
    environment.filters |= {"share": percent, "money": money, "ms": milliseconds, "when": when}
    environment.globals |= {"time_chart": time_chart, "share": percent, "amount": "{:,.4g}".format}
    return environment


def money(value: float) -> str:
    """An amount in the unit of the prices, with as many digits as it needs."""
    return number(value, 2 if abs(value) >= 1 or value == 0 else 4)


def milliseconds(value: float) -> str:
    """A duration given in milliseconds, in the unit that reads best."""
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1_000:.1f} s"


def when(seconds: float) -> str:
    """A unix time in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _lines(s: dict[str, Any]) -> dict[str, list[TimeLine]]:
    """The lines of every chart that there are rows for."""
    lines = {}
    for name in ("risk", "coverage"):
        if s[name] and (series := s[name]["series"]):
            times, values, lower, upper = ([p[key] for p in series] for key in ("time", "value", "lower", "upper"))
            times = [min(time, s["generated"]) for time in times]  # a stretch of time may end later
            lines[name] = [TimeLine(times, values, lower=lower, upper=upper)]
    if series := s["traffic"]["series"]:
        times = [point["time"] for point in series]
        lines["escalated"] = [TimeLine(times, [point["escalated"] / point["n"] for point in series])]
        if s["traffic"]["cost"] or s["traffic"]["saved"]:  # without prices there is nothing to draw
            spent, saved = (list(accumulate(point[name] for point in series)) for name in ("cost", "saved"))
            lines["money"] = [TimeLine(times, saved, "other"), TimeLine(times, spent)]
    return lines
