"""Puts the figures of ``results/front_page.json`` into README.md and docs/results/index.md, between their markers."""

from __future__ import annotations

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

LINES = {
    "logprob_sum": "`logprob_sum`: the answer's own probability",
    "portable": "**`portable`**: learned from it and the text",
    "stack": "**`stack`**: learned from the model's states too",
    "reader": "`reader`: an adapter reads the answer again",
}
"""Source to what it is called, in the order of the table."""

LOAD = "32 streams, 4 tokens"


def write(result: Json) -> None:
    """Put the table and what it says of itself where their marks are."""
    engines, llama_cpp = (read_json(RESULTS / f"{name}.json") for name in ("engines", "llama_cpp"))
    text = f"{summary_table(result, engines, llama_cpp)}\n\n{facts(result)}"
    for page in ("README.md", "docs/results/index.md"):
        put(page, {"summary": text})


def summary_table(result: Json, engines: Json, llama_cpp: Json) -> str:
    """A line a confidence: AUROC, what is kept at the promised risk, and what it costs.

    The stack's time is that of the stack inside vLLM, the reader's that of a second request to llama.cpp's server.
    """
    spent = dict.fromkeys(LINES, 1.0)
    spent["stack"] = engines["reading_cost"]["loads"][LOAD]["times"]["reading"]["value"]
    spent["reader"] += llama_cpp["second_ms"] / llama_cpp["answer_ms"]
    sources = result["cell"]["sources"]
    rows = (
        [words, interval(sources[name]["auroc"]), kept(result, name), f"{spent[name]:.1f}"]
        for name, words in LINES.items()
    )
    risk = f"kept at a promised risk of {result['promise']['max_risk']:.0%}"
    return table(f"confidence | >AUROC | >{risk} | >time", rows)


def kept(result: Json, name: str) -> str:
    """The share of answers that is kept, and how much of it is wrong; "none" where nothing could be promised."""
    found = result["cell"]["kept"][name]
    return f"{found['share']:.1%}, {found['wrong']:.1%} wrong" if found and found["share"] else "none"


def facts(result: Json) -> str:
    """Which rows these are, and what the columns mean."""
    found, promise = result["cell"], result["promise"]
    return (
        f"Bundled model, geography, {found['accuracy']:.0%} of answers right; learned from {found['train']:,} answers, "
        f"tested on {found['n']:,}, one draw. AUROC: the chance that a right answer has more confidence than a wrong "
        f"one [95 % interval]. Kept: by a policy that promises, with probability {promise['level']:.0%}, at most "
        f"{promise['max_risk']:.0%} wrong. Time: answer and confidence on a server, as a multiple of the answer alone."
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "front_page.json"))
