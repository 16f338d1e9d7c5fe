"""Puts the figures of ``results/front_page.json`` into README.md and docs/results/index.md, between their markers."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.common import RESULTS, Json, interval, put, read_json, table


class Line(NamedTuple):
    """A confidence: what it is called in the table, and what it needs of whoever answers."""

    words: str
    needs: str


LINES = {
    "logprob_sum": Line("`logprob_sum`: the answer's own probability", "log-probabilities"),
    "portable": Line("**`portable`**: learned from it and the text", "log-probabilities, graded rows"),
    "stack": Line(
        "**`stack`**: learned from the model's states too", "the model in process or vLLM's plug-in, graded rows"
    ),
    "reader": Line("`reader`: an adapter reads the answer again", "an engine that serves adapters, graded rows"),
    "p_true": Line("`p_true`: asking the model whether it is right", "log-probabilities"),
    "self_consistency": Line("`self_consistency`: ten more answers", "nothing"),
}
"""Source to its line, in the order of the table."""

COSTS = {"stack": "reading", "p_true": "p_true", "self_consistency": "ten samples"}
"""Source to what `benchmarks.engines.reading_cost` calls asking for it; a stack's is that of the stack in vLLM."""

LOAD = "32 streams, 4 tokens"
TASK = "geography"


def write(result: Json) -> None:
    """Put the table and what it says of itself where their marks are."""
    others = {name: read_json(RESULTS / f"{name}.json") for name in ("estimators", "engines", "llama_cpp")}
    text = f"{summary_table(result, **others)}\n\n{facts(result, others['estimators'])}"
    for page in ("README.md", "docs/results/index.md"):
        put(page, {"summary": text})


def summary_table(result: Json, estimators: Json, engines: Json, llama_cpp: Json) -> str:
    """A line a confidence: AUROC, what is kept at the promised risk, and what it costs.

    A source that was not asked for on these rows has the AUROC of `benchmarks.quality.estimators`, marked, beside that
    of the log-probability on the same other rows.
    """
    other = elsewhere(estimators)
    times = engines["reading_cost"]["loads"][LOAD]["times"]
    spent = {name: times[arm]["value"] for name, arm in COSTS.items()}
    spent["reader"] = 1 + llama_cpp["second_ms"] / llama_cpp["answer_ms"]
    rows = []
    for name, line in LINES.items():
        if entry := result["cell"]["sources"].get(name):
            figures = interval(entry["auroc"]), kept(result, name)
        else:
            figures = f"{other[name]['auroc']:.3f} ¹", "not measured"
        rows.append([line.words, line.needs, *figures, f"{spent[name]:.1f}" if name in spent else "1"])
    risk = f"kept at a promised risk of {result['promise']['max_risk']:.0%}"
    return table(f"confidence | what it needs | >AUROC | >{risk} | >time", rows)


def elsewhere(estimators: Json) -> Json:
    """Sources on the rows of `benchmarks.quality.estimators`."""
    found: Json = next(cell for cell in estimators["cells"] if cell["task"] == TASK and not cell["seed"])["sources"]
    return found


def kept(result: Json, name: str) -> str:
    """The share of answers that is kept, and how much of it is wrong; "none" where nothing could be promised."""
    found = result["cell"]["kept"][name]
    return f"{found['share']:.1%}, {found['wrong']:.1%} wrong" if found and found["share"] else "none"


def facts(result: Json, estimators: Json) -> str:
    """Which rows these are."""
    found, promise = result["cell"], result["promise"]
    told = (
        f"SmolLM2-135M-Instruct on geography questions, {found['accuracy']:.1%} answered right; {found['n']:,} test "
        f"rows, one draw; learned from {found['train']:,} rows. AUROC: the chance that a right answer has more "
        f"confidence than a wrong one, with a 95 % interval. Kept: by a policy from {found['calibration']:,} other "
        f"rows that promises, with probability {promise['level']:.0%}, at most {promise['max_risk']:.0%} wrong among "
        "what it keeps; what several questions ask about counts once. Time: a short answer and its confidence on vLLM "
        "(the reader: on llama.cpp), the answer alone is 1."
    )
    if all(name in found["sources"] for name in LINES):
        return told
    other = elsewhere(estimators)["logprob_sum"]
    return f"{told}\n\n¹ On {other['n']:,} other rows, where `logprob_sum` has {other['auroc']:.3f}: compare with that."


if __name__ == "__main__":
    write(read_json(RESULTS / "front_page.json"))
