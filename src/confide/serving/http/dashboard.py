"""The dashboard: one self-contained page drawn from a snapshot, without a script and without a request.

Questions and answers are hostile text, and so are domains and request ids. The template escapes everything, and the
policy that the page is served with allows one style sheet, known by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from confide.report.formatting import clean
from confide.serving.http.charts import Level, Line, time_chart
from confide.serving.monitor.alarms import WORDS, percent

WINDOWS: dict[str, float | None] = {"hour": 3_600, "day": 86_400, "week": 7 * 86_400, "all": None}
"""The windows that the page links to as ``?window=…``, in seconds."""

REFRESH_S = 60
"""Seconds after which the page loads itself again; ``?refresh=off`` asks for a page that does not."""


_TITLES = {
    "max_risk": "Wrong among the answered",
    "budget": "Escalated so far",
    "match_expert": "Kept against the expert",
}


def dashboard_page(snapshot: dict[str, Any], *, refresh_s: int | None = REFRESH_S) -> str:
    """The page for a `confide.serving.monitor.snapshot.snapshot`.

    It loads itself again after ``refresh_s`` seconds (None: never). Serve it with `content_security_policy`.
    """
    window = next((name for name, seconds in WINDOWS.items() if seconds == snapshot["window_s"]), None)
    return _template("dashboard.html.j2").render(
        s=snapshot,
        style=_style(),
        refresh_s=refresh_s,
        window=window,
        windows=list(WINDOWS),
        figures=_figures(snapshot),
        words=WORDS,
    )


@cache
def content_security_policy() -> str:
    """The header that goes with the page: its own style sheet may be used, nothing may be loaded, sent or framed."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("confide", "serving/http/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": clean,
        "share": percent,
        "money": money,
        "ms": milliseconds,
        "when": when,
        "count": "{:,}".format,
    }
    return environment.get_template(name)


@cache
def _style() -> Markup:
    return Markup(_template("dashboard.css").render())


def money(value: float) -> str:
    """An amount in the unit of the prices, with as many digits as it needs."""
    digits = 2 if abs(value) >= 1 or value == 0 else 4
    return f"{value:,.{digits}f}".replace("-", "−")


def milliseconds(value: float) -> str:
    """A duration given in milliseconds, in the unit that reads best."""
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1_000:.1f} s"


def when(seconds: float) -> str:
    """A unix time in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _figures(s: dict[str, Any]) -> list[dict[str, Any]]:
    """Title, picture and caption of every chart that there are rows for."""
    figures: list[dict[str, Any]] = []

    def add(title: str, caption: str, svg: Markup) -> None:
        figures.append({"title": title, "caption": caption, "svg": svg})

    risk, coverage, promise = s["risk"], s["coverage"], s["promise"]
    if risk and risk["series"]:
        words = WORDS[promise["goal"]]
        caption = (
            f"{risk['hits']:,} of {risk['n']:,} {words.unit} {words.did} ({percent(risk['estimate'])}). "
            f"Band: where the share of all is, now {percent(risk['lower'])} to {percent(risk['upper'])} "
            f"({percent(promise['level'])} on each side, however often one looks)."
        )
        chart = time_chart(
            [_sequence(risk["series"])],
            label=f"The promised share over time. {caption} Promised: at most {percent(risk['bound'])}.",
            form=percent,
            levels=[Level(risk["bound"], f"promised {percent(risk['bound'])}")],
            most=1.0,
        )
        add(_TITLES[promise["goal"]], caption, chart)
    if coverage and coverage["series"]:
        caption = (
            f"{percent(coverage['share'])} of {coverage['n']:,} requests so far. Calibration had "
            f"{percent(coverage['expected'])}; outside the shaded {percent(coverage['low'])} to "
            f"{percent(coverage['high'])} is an alarm."
        )
        chart = time_chart(
            [_sequence(coverage["series"])],
            label=f"Running share of requests answered by the small model over time. {caption}",
            form=percent,
            levels=[Level(coverage["expected"], f"calibration {percent(coverage['expected'])}")],
            zone=(coverage["low"], coverage["high"]),
            most=1.0,
            from_zero=False,
        )
        add("Answered so far", caption, chart)
    series, traffic = s["traffic"]["series"], s["traffic"]
    if series:
        times = [point["time"] for point in series]
        shares = [point["escalated"] / point["n"] for point in series]
        caption = f"{traffic['escalated']:,} of {traffic['n']:,} requests in this window."
        chart = time_chart([Line(times, shares)], label=f"Share escalated over time. {caption}", form=percent, most=1.0)
        add("Escalated", caption, chart)
        if traffic["cost"] or traffic["saved"]:  # without prices there is nothing to draw
            spent, saved = _running(series, "cost"), _running(series, "saved")
            caption = (
                f"Spent {money(traffic['cost'])}, saved {money(traffic['saved'])} against asking the first expert "
                "alone, in the unit of your prices."
            )
            chart = time_chart(
                [Line(times, saved, "other"), Line(times, spent)],
                label=f"Money spent and saved, summed over time. {caption}",
                form="{:,.4g}".format,
            )
            add("Money, summed", caption, chart)
    return figures


def _sequence(series: list[dict[str, Any]]) -> Line:
    values = {name: [point[name] for point in series] for name in ("time", "value", "lower", "upper")}
    return Line(values["time"], values["value"], lower=values["lower"], upper=values["upper"])


def _running(series: list[dict[str, Any]], name: str) -> list[float]:
    total, sums = 0.0, []
    for point in series:
        total += point[name]
        sums.append(total)
    return sums
