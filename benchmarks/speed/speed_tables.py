"""Puts the figures of ``results/speed.json`` into docs/results/speed.md."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.common import Json, goals_table, put, table
from benchmarks.speed.own_work import LIMITS

PAGE = "docs/results/speed.md"
TRAININGS = {"self_ref": "Self-REF", "reader": "reader"}
PEERS = {"annotation": "lm_eval", "scoring": "polygraph", "reading": "uqlm"}
SHOWN = {"lm_eval": "lm-evaluation-harness", "polygraph": "lm-polygraph", "uqlm": "uqlm", "trl": "TRL and PEFT"}
PROFILE_LINES = 4


def write(result: Json) -> None:
    """Put every table of the sections that are there where its marks are; a missing section leaves a dash."""
    parts = {
        "speed_goals": goals_table("goal | found", goals(result)),
        "speed_models": models(result),
        "speed_metrics": metrics(result) if "metrics" in result else "–",
        "speed_profiles": profiles(result),
        "speed_own": own(result) if "own work" in result else "–",
        "speed_machine": machine(result),
    }
    put(PAGE, parts)


def span(figures: Json) -> str:
    """A ratio with the range over its rounds."""
    return f"{figures['ratio']:.2f} ({figures['low']:.2f}–{figures['high']:.2f})"


def compared(result: Json) -> Iterator[tuple[str, str, Json]]:
    """What was done, the peer, and the figures, for all work on models and answers."""
    what = {
        "annotation": "{questions} questions answered, with log-probabilities and grades",
        "scoring": "{questions} questions answered, three sources",
        "reading": "three sources of {answers:,} logged answers",
    }
    for section, text in what.items():
        if section in result:
            yield text.format(**result[section]), PEERS[section], result[section]
    for name, shown in TRAININGS.items():
        if name in result.get("training", {}):
            rows = "{rows} rows, {epochs} epochs".format(**result["training"])
            yield f"{shown} trained: {rows}", "trl", result["training"][name]


def goals(result: Json) -> Iterator[tuple[str, str, bool]]:
    """Each goal, what was found, and whether that reaches it."""
    least = {"lm_eval": 2.0, "polygraph": 3.0, "uqlm": 3.0, "trl": 2.0}
    for what, peer, figures in compared(result):
        yield (
            f"{SHOWN[peer]}: {what.partition(':')[0]}: at least {least[peer]:g} times as fast",
            span(figures),
            (figures["ratio"] >= least[peer]),
        )
    for section, what in (("annotation", "same_texts"), ("scoring", "same_answers")):
        if section in result:
            same, count = result[section][what], result[section]["questions"]
            yield f"{SHOWN[PEERS[section]]}: the same answers", f"{same} of {count}", same == count
    if "annotation" in result:
        one = result["annotation"]
        found = f"{one['same_sums']} of {one['same_answers']}, largest gap {one['largest_gap']:.0e}"
        yield (
            "lm-evaluation-harness: the same log-probabilities of the same tokens, within 0.001", found,
            one["same_sums"] == one["same_answers"],
        )  # fmt: skip
    for section in ("scoring", "reading"):
        for source, both in result.get(section, {}).get("auroc", {}).items():
            gap = abs(both["confide"] - both["peer"])
            found = f"{both['confide']:.3f}, {both['peer']:.3f}"
            found += f" ({both['peer_with_end']:.3f} as it comes)" if "peer_with_end" in both else ""
            yield f"{SHOWN[PEERS[section]]}: AUROC of `{source}` within 0.01", found, gap <= 0.01
    for name, shown in TRAININGS.items():
        if name in result.get("training", {}):
            loss = result["training"][name]["loss"]
            near = abs(loss["confide"] - loss["peer"]) <= 0.05
            found = f"{loss['confide']:.3f}, {loss['peer']:.3f} nats"
            yield f"TRL and PEFT: {shown}: held-out loss of the verdict within 0.05", found, near


def models(result: Json) -> str:
    rows = [
        [what, SHOWN[peer], f"{one['confide_seconds']:.3g} s", f"{one['peer_seconds']:.3g} s", span(one),
         f"{one['cpu_ratio']:.2f}", one["rounds"]]
        for what, peer, one in compared(result)
    ]  # fmt: skip
    return table("work | peer | >confide | >peer | >ratio (range) | >of processor time | >rounds", rows)


def metrics(result: Json) -> str:
    rows = []
    counts = [count for count in result["metrics"] if count.isdigit()]
    for name in result["metrics"][counts[0]]:
        work, _, peer = name.partition(" ")
        each = [result["metrics"][count][name] for count in counts]
        gap = max(abs(one["values"]["confide"] - one["values"]["peer"]) for one in each)
        rows.append([work, peer, *map(span, each), f"{gap:.0e}" if gap else "below 1e-06"])
    heads = " | ".join(f">{int(count):,} rows" for count in counts)
    return table(f"work | peer | {heads} | >largest difference", rows)


def profiles(result: Json) -> str:
    """Where both sides spend their time: the functions with most time of their own."""
    rows = []
    for what, peer, one in compared(result):
        for side, lines in one["profiles"].items():
            told = [f"`{function}` {share}" for share, _, function in (line.partition(" ") for line in lines)]
            rows.append([what.partition(", ")[0], SHOWN.get(side, side), ", ".join(told[:PROFILE_LINES])])
        assert peer in one["profiles"]
    return table("work | side | most time of their own", rows)


def own(result: Json) -> str:
    found = result["own work"]
    rows = [[f"`{name}`", f"{found[name]['ratio']:.2f}", f"{limit:g}"] for name, limit in LIMITS.items()]
    return table("work | >times its reference | >limit of `--check`", rows)


def machine(result: Json) -> str:
    """Where it ran, in words."""
    about = result["machine"]
    told: dict[str, dict[str, str]] = {}
    for section in ("annotation", "scoring", "reading", "training", "metrics"):
        told |= result.get(section, {}).get("versions", {})
    packages = "; ".join(
        f"{SHOWN.get(side, side)}: {', '.join(f'{name} {number}' for name, number in versions.items())}"
        for side, versions in told.items()
    )
    loads = ", ".join(
        f"{name} {one['load_before']:.1f}"
        for name, one in result.items()
        if isinstance(one, dict) and "load_before" in one
    )
    return (
        f"{about['device']}, {result['threads']} threads a side, Python {about['python']}. {packages}. "
        f"Load average before each part: {loads}."
    )
