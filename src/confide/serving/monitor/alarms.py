"""The monitor's words: what the numbers mean, most important first, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FAILURE_SHARE = 0.05
"""Share of failures, or of missing confidences, above which there is an alarm; fewer are a warning."""


@dataclass(frozen=True)
class Words:
    """How a goal is told: ``unit`` were counted, some of which ``did``; the promise is about a share ``of_all``."""

    unit: str
    did: str
    of_all: str


WORDS = {
    "max_risk": Words("audited answers", "were wrong", "of the kept answers are wrong"),
    "budget": Words("requests", "were escalated", "of the requests are escalated"),
    "match_expert": Words(
        "audited requests",
        "were kept though the expert says otherwise",
        "of the requests are kept though the expert says otherwise",
    ),
}
"""The goals that are bounds, in words."""


def percent(share: float) -> str:
    """A share in percent, with a digit after the point where it is close to none or all."""
    value = 100 * share
    digits = 1 if 0 < value < 10 or 90 < value < 100 else 0
    text = f"{value:.{digits}f}"
    return (text.removesuffix(".0") if digits else text) + "%"


def alarms_in(state: dict[str, Any], constant: tuple[int, bool] | None) -> list[dict[str, str]]:
    """What needs a person: ``name``, ``severity`` (alarm or warning) and ``text``."""
    found: list[dict[str, str]] = []

    def tell(name: str, alarming: bool, text: str) -> None:
        found.append({"name": name, "severity": "alarm" if alarming else "warning", "text": text})

    risk, coverage, recent, audits = state["risk"], state["coverage"], state["recent"], state["audits"]
    promise = state["promise"]
    if risk and risk["status"] == "broken":
        words = WORDS[promise["goal"]]
        seen = f"{risk['hits']:,} of {risk['n']:,} {words.unit} {words.did}"
        if risk["lower"] > risk["bound"]:
            text = f"{seen}, so at least {percent(risk['lower'])} {words.of_all}"
        else:
            text = f"{seen}, but {risk['late_hits']:,} of the latest {risk['late_n']:,}"
        tell("promise", True, f"{text}; at most {percent(risk['bound'])} was promised.")
    for entry in state["broken_domains"]:
        tell(
            "promise",
            True,
            f"In {entry['domain']}, {entry['hits']:,} of {entry['n']:,} audited answers were wrong, so at least "
            f"{percent(entry['lower'])} of those kept there are; at most {percent(promise['limit'])} was promised.",
        )
    if coverage and coverage["drift"]:
        allowed = f"{percent(coverage['low'])} to {percent(coverage['high'])}"
        tell(
            "coverage",
            True,
            f"The share answered {coverage['drift']}: {percent(coverage['late_share'])} on the last day, "
            f"{percent(coverage['share'])} in all, where calibration had {percent(coverage['expected'])} ({allowed} "
            "passes). Questions may not be those that the policy was made for.",
        )
    if constant:
        tell(
            "escalation",
            True,
            f"{'Every one' if constant[1] else 'None'} of the last {constant[0]:,} requests was escalated. "
            "Look whether confidences arrive and whether the policy fits the model.",
        )
    if missing := recent["without_confidence"]:
        alarming = missing >= 5 and missing > FAILURE_SHARE * recent["n"]
        tell("confidence", alarming, f"{missing} of the last {recent['n']} requests had no confidence.")
    if unserved := recent["unserved"]:
        alarming = unserved >= 3 and unserved > FAILURE_SHARE * recent["escalated"]
        tell(
            "expert",
            alarming,
            f"{unserved} of the last {recent['escalated']} escalated requests got no expert's answer.",
        )
    elif errors := recent["errors"]:
        alarming = errors >= 5 and errors > FAILURE_SHARE * recent["n"]
        tell("failures", alarming, f"{errors} of the last {recent['n']} requests met a failure on their way.")
    if audits["overdue"] >= 5 and audits["overdue"] > 0.2 * audits["drawn"]:
        tell(
            "labels",
            False,
            f"{audits['overdue']} of {audits['drawn']} audits have no label; the others may be no fair sample.",
        )
    return sorted(found, key=lambda alarm: alarm["severity"])


def verdict_of(state: dict[str, Any]) -> dict[str, Any]:
    """Status (broken, alarm, holds, undecided, unknown) and sentences, the most important first."""
    risk, promise, alarms = state["risk"], state["promise"], state["alarms"]
    if not state["traffic"]["n"] and not state["latest"]:
        return {"status": "unknown", "sentences": ["No request has been routed yet."]}
    if risk is None:
        reason = "There is no policy" if promise is None else "The policy goes for the least expected cost"
        status, sentence = "unknown", f"{reason}, so nothing is promised."
    else:
        words, bound = WORDS[promise["goal"]], percent(risk["bound"])
        seen = f"{risk['hits']:,} of {risk['n']:,} {words.unit} {words.did}"
        status = "broken" if state["broken_domains"] else risk["status"]
        if risk["status"] == "broken":
            sentence = f"The promise is broken: more than {bound} {words.of_all}{' now' * risk['changed_lately']}."
        elif status == "broken":
            where = ", ".join(entry["domain"] for entry in state["broken_domains"])
            sentence = f"The promise is broken in {where}: more than {bound} {words.of_all} there."
        elif status == "holds":
            sentence = (
                f"The promise holds: {seen}. With {percent(promise['level'])} confidence at most "
                f"{percent(risk['upper'])} {words.of_all}; {bound} was promised."
            )
        elif risk["n"]:
            sentence = (
                f"Whether the promise holds cannot be said yet: {seen}, so between {percent(risk['lower'])} and "
                f"{percent(risk['upper'])} {words.of_all}; at most {bound} was promised."
            )
        else:
            sentence = (
                f"Whether the promise holds, that at most {bound} {words.of_all}, cannot be said yet: there are no "
                f"{words.unit}."
            )
        if status == "undecided" and risk["rows_needed"]:
            sentence += f" About {risk['rows_needed']:,} would show it if the share is what it was in calibration."
    if status != "broken" and any(alarm["severity"] == "alarm" for alarm in alarms):
        status = "alarm"
    return {"status": status, "sentences": [sentence]}
