"""The monitor's words: what the numbers mean, most important first, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from confide.evaluation.wording import some
from confide.policies.profiles import ERROR
from confide.serving.monitor.promises import MARGIN

UNLIKE_BY_CHANCE = 1e-3  # of as many marked requests, were all like the calibration rows; below it there is an alarm
SHIFTED_SHARE = 0.2  # of the traffic that is new to training, at least, above which there is an alarm
SHIFTED_ANSWERS = 50  # that must have been counted before
FAILURE_SHARE = 0.05  # of failures or missing confidences, above which there is an alarm; fewer are a warning

ALARMS = {
    "promise": "the promise is shown to be broken, in all or in a domain",
    "repeats": "counted as often as asked, more is wrong than promised, though distinct questions do not show it",
    "coverage": f"the share answered left calibration's by more than {MARGIN} and its sampling error",
    "escalation": "none, or every one, of the latest 50 to 1,000 requests was escalated",
    "confidence": f"more than {FAILURE_SHARE:.0%}, and at least 5, requests had no confidence; fewer are a warning",
    "expert": f"more than {FAILURE_SHARE:.0%}, and at least 3, of the escalated got no expert's answer (fewer are a "
    "warning), or half of the clients that waited for one, and at least 5, hung up",
    "failures": f"more than {FAILURE_SHARE:.0%}, and at least 5, requests met a failure though all were answered; "
    "fewer are a warning",
    "fallback": f"a warning: a later source than the first decided {100 * FAILURE_SHARE:.0f} points more often than "
    "calibration expects",
    "model": "an answer is of another model than the policy's",
    "unlike": "more requests than chance would mark are unlike the calibration rows; fewer are a warning",
    "unseen": f"at least {SHIFTED_SHARE:.0%} of the latest 1,000 answers of this process ({SHIFTED_ANSWERS} at least), "
    "or of their phrasings, is new to training",
    "labels": "a warning: more than 20%, and at least 5, audits have had no label for 10 minutes",
    "clients": "a warning: more than 20%, and at least 5, clients hung up before they had an answer",
    "clock": "a warning: rows carry a time more than a minute ahead of the clock of the process that looks",
}
"""When each alarm comes, of the latest 500 requests where nothing else is said; the reference is made of it."""


@dataclass(frozen=True)
class Words:
    """A goal in words: ``unit`` were counted, some of which ``did``; the promise is about a share ``of_all``."""

    unit: str
    did: str
    of_all: str

    def count(self, counts: dict[str, Any]) -> str:
        """``hits`` of ``n`` in words."""
        hits, n = counts["hits"], counts["n"]
        did = self.did.replace("were", "was", 1) if hits == 1 else self.did
        return f"{hits:,} of {some(n, self.unit.removesuffix('s'))} {did}"


WORDS = {
    "max_risk": Words("audited answers", "were wrong", "of the kept answers are wrong"),
    "budget": Words("requests", "were escalated", "of the requests are escalated"),
    "match_expert": Words(
        "audited requests",
        "were kept though the expert says otherwise",
        "of the requests are kept though the expert says otherwise",
    ),
    "false_alarms": Words("audited right answers", "were not kept", "of the right answers are not kept"),
}
"""The goals that are bounds, in words."""


def percent(share: float) -> str:
    """A share in percent, with a digit after the point where it is close to none or all."""
    value = 100 * share
    digits = 1 if 0 < value < 10 or 90 < value < 100 else 0
    text = f"{value:.{digits}f}"
    return (text.removesuffix(".0") if digits else text) + "%"


def alarms_in(state: dict[str, Any], constant: tuple[int, bool] | None) -> list[dict[str, str]]:
    """What needs a person: ``name``, ``severity`` (alarm or warning) and ``text``; alarms first.

    ``state`` is a `confide.serving.monitor.snapshot.snapshot` without alarms; ``constant`` is the number of latest
    requests that were all escalated (True) or all not (False), if that is strange.
    """
    alarms = [*_policy_alarms(state, constant), *_unseen_alarms(state), *_failure_alarms(state)]
    return sorted(alarms, key=lambda alarm: alarm["severity"])


def _alarm(name: str, text: str, alarming: bool = True) -> dict[str, str]:
    return {"name": name, "severity": "alarm" if alarming else "warning", "text": text}


def _policy_alarms(state: dict[str, Any], constant: tuple[int, bool] | None) -> Iterator[dict[str, str]]:
    """The promise is broken, in all or in a domain, or the requests are not those that the policy was made for."""
    risk, promise, coverage = state["risk"], state["promise"], state["coverage"]
    if risk and risk["status"] == "broken":
        words = WORDS[promise["goal"]]
        text = f"but {risk['late_hits']:,} of the latest {risk['late_n']:,}"
        if risk["lower"] > risk["bound"]:
            text = f"so at least {percent(risk['lower'])} {words.of_all}"
        elif not risk["changed_lately"]:
            text = f"and {risk['shown_after']['hits']:,} of the first {risk['shown_after']['n']:,}"
        yield _alarm("promise", f"{_seen(words, risk)}, {text}; at most {percent(risk['bound'])} was promised.")
    if repeats_break(risk):
        words, often = WORDS[promise["goal"]], risk["repeats"]
        yield _alarm(
            "repeats",
            f"Counted as often as they were asked, {words.count(often)}, so at least {percent(often['lower'])} "
            f"{words.of_all}; each question once a day, {words.count(risk)}. Few questions are asked again and again.",
        )
    for entry in state["broken_domains"]:
        text = f"In {entry['domain']}, {WORDS['max_risk'].count(entry)}"
        if entry["lower"] > promise["limit"]:
            text += f", so at least {percent(entry['lower'])} of those kept there are"
        text += f"; it was shown that the promised {percent(promise['limit'])} does not hold there."
        yield _alarm("promise", text)
    if coverage and coverage["drift"]:
        yield _alarm(
            "coverage",
            f"The share answered {coverage['drift']}: {percent(coverage['late_share'])} of the latest "
            f"{coverage['late_n']:,} requests, "
            f"{percent(coverage['share'])} in all, where calibration had {percent(coverage['expected'])} "
            f"({percent(coverage['low'])} to {percent(coverage['high'])} passes). Questions may not be those that "
            "the policy was made for.",
        )
    if constant:
        text = f"{'Every one' if constant[1] else 'None'} of the last {constant[0]:,} requests was escalated. "
        yield _alarm("escalation", text + "Look whether confidences arrive and whether the policy fits the model.")


def _unseen_alarms(state: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Clearly more of the latest answers, or of how was asked, is new to training than of its own rows."""
    for name, what in (("answers", "are ones that training never saw"), ("phrasings", "are to questions asked anew")):
        found = state["unseen"].get(name)
        if found and found["n"] >= SHIFTED_ANSWERS and found["shifted"] > SHIFTED_SHARE:
            text = f"{percent(found['share'])} of the last {found['n']:,} answers {what}"
            text += f" (training {percent(found['usual'])}): "
            yield _alarm("unseen", text + "confidences fall back on the answer's probability.")


def _failure_alarms(state: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Confidences, experts' answers or labels are missing: an alarm for many, a warning for a few."""
    recent, audits = state["recent"], state["audits"]
    if recent["other_model"]:
        text = f"{recent['other_model']} of the last {recent['rows']} answers are of another model than the policy's. "
        yield _alarm("model", text + "Nothing is promised about them: calibrate on its answers.")
    if unlike := recent["unlike"] - recent["other_model"]:
        text = (
            f"{unlike} of the last {recent['rows']} requests are unlike the calibration rows, so nothing is promised "
        )
        many = bool(binom.sf(unlike - 1, recent["rows"], ERROR) < UNLIKE_BY_CHANCE)
        yield _alarm("unlike", text + "about them; /metrics says in what (confide_unlike).", many)
    errors = 0 if recent["unserved"] else recent["errors"]
    if fell_back := sum(recent["fallbacks"].values()):
        promise = state["promise"]
        if fell_back > (promise["fallback_share"] + FAILURE_SHARE) * recent["rows"]:
            counts = " and ".join(f"{count} by {source}" for source, count in recent["fallbacks"].items() if count)
            text = f"Of the last {recent['rows']} requests {counts} were decided, since {promise['source']} gave "
            text += f"nothing; it gave none on {percent(promise['fallback_share'])} of the calibration rows."
            yield _alarm("fallback", text, False)
    for name, count, least, n, text in (
        ("confidence", recent["without_confidence"], 5, recent["n"], "requests had no confidence"),
        ("expert", recent["unserved"], 3, recent["escalated"], "escalated requests got no expert's answer"),
        ("failures", errors, 5, recent["n"], "requests met a failure on their way"),
    ):
        if count:
            yield _alarm(name, f"{count} of the last {n} {text}.", count >= least and count > FAILURE_SHARE * n)
    if recent["gave_up"] >= 5 and recent["gave_up"] >= recent["waited"] / 2:
        text = (
            f"{recent['gave_up']} of the last {recent['waited']} clients that waited for an expert hung up before it "
        )
        yield _alarm("expert", text + "answered.")
    for name, count, least, text in (
        ("clients", recent["gone"], 0.2 * recent["rows"], "latest clients hung up before the answer"),
        ("clock", recent["ahead"], 0, "latest rows carry a time to come: look at the clocks of the routers"),
    ):
        if count > least and (name == "clock" or count >= 5):
            yield _alarm(name, f"{count} of the {text}.", False)
    if audits["overdue"] >= 5 and audits["overdue"] > 0.2 * audits["drawn"]:
        text = (
            f"{audits['overdue']} of {audits['drawn']} audits have no label; the bounds take them for the worse case."
        )
        yield _alarm("labels", text, False)


def repeats_break(risk: dict[str, Any] | None) -> bool:
    """Whether a promise that distinct questions do not break is broken when each counts as often as it was asked."""
    if risk is None or "repeats" not in risk or risk["status"] in ("broken", "unknown"):
        return False
    return bool(risk["repeats"]["lower"] > risk["bound"])


def verdict_of(state: dict[str, Any]) -> dict[str, Any]:
    """Status (broken, alarm, holds, undecided, unknown) and sentences, the most important first."""
    if not state["traffic"]["n"] and not state["latest"]:
        return {"status": "unknown", "sentences": ["No request has been routed yet."]}
    if state["risk"] is not None:
        status, sentence = _promise_verdict(state["risk"], state["promise"], state["broken_domains"])
        recent = state["recent"]
        if status != "broken" and recent["unlike"] > recent["rows"] / 2:
            text = f"{recent['unlike']} of the last {recent['rows']} requests are unlike the calibration rows"
            status, sentence = "undecided", f"The promise says nothing about today's traffic: {text}."
    elif state["promise"] is not None and state["promise"]["sides"] is not None:
        what = " and ".join(state["promise"]["sides"])
        sentence = f"Whether the promise holds cannot be seen here: it is about {what} answers, and audits say which "
        status, sentence = "unknown", f"{sentence}are right."
    else:
        reason = "There is no policy" if state["promise"] is None else "The policy goes for the least expected cost"
        status, sentence = "unknown", f"{reason}, so nothing is promised."
    if status != "broken" and any(alarm["severity"] == "alarm" for alarm in state["alarms"]):
        status = "alarm"
    return {"status": status, "sentences": [sentence]}


def _seen(words: Words, risk: dict[str, Any]) -> str:
    """What was counted: with several audit shares also weighed by them, and how many audits have no label."""
    text = words.count(risk)
    if risk["weighed"] and risk["estimate"] is not None:
        text += f" ({percent(risk['estimate'])} weighed by the audit shares)"
    return text + (f", and {risk['unlabelled']:,} without a label may be either" if risk["unlabelled"] else "")


def _promise_verdict(
    risk: dict[str, Any], promise: dict[str, Any], broken_domains: list[dict[str, Any]]
) -> tuple[str, str]:
    words, bound = WORDS[promise["goal"]], percent(risk["bound"])
    seen = _seen(words, risk)
    if risk["status"] == "unknown":
        return "unknown", (
            "Whether the promise holds cannot be seen here: it counts entities, and the router does not know which "
            f"entity a request is about. {seen[0].upper()}{seen[1:]}."
        )
    if risk["status"] == "broken":
        if risk["lower"] <= risk["bound"] and not risk["changed_lately"]:
            n = risk["shown_after"]["n"]
            when = f"after {n:,} {words.unit} it was shown that more than {bound} {words.of_all}"
            return "broken", f"The promise was broken: {when}. Later ones do not undo that; calibrate again."
        return "broken", f"The promise is broken: more than {bound} {words.of_all}{' now' * risk['changed_lately']}."
    if broken_domains:
        where = ", ".join(entry["domain"] for entry in broken_domains)
        return "broken", f"The promise is broken in {where}: more than {bound} {words.of_all} there."
    if repeats_break(risk):
        often = risk["repeats"]
        return "undecided", (
            f"Counted as often as they were asked, at least {percent(often['lower'])} {words.of_all} "
            f"({words.count(often)}), though distinct questions do not break the promise of at most {bound} ({seen})."
        )
    if risk["status"] == "holds":
        return "holds", (
            f"The promise holds: {seen}. With {percent(promise['level'])} confidence at most {percent(risk['upper'])} "
            f"{words.of_all}; {bound} was promised."
        )
    if risk["n"] or risk["unlabelled"]:
        sentence = (
            f"Whether the promise holds cannot be said yet: {seen}, so between {percent(risk['lower'])} and "
            f"{percent(risk['upper'])} {words.of_all}; at most {bound} was promised."
        )
    else:
        sentence = (
            f"Whether the promise holds, that at most {bound} {words.of_all}, cannot be said yet: there are no "
            f"{words.unit}."
        )
    if risk["rows_needed"]:
        sentence += f" About {risk['rows_needed']:,} would show it if the share is what it was in calibration."
    return "undecided", sentence
