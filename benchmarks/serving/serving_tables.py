"""Puts the figures of the serving benchmarks into docs/results/serving.md, between their markers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.common import RESULTS, Json, goals_table, put, read_json, table


def between(interval: list[float], shape: str = ".2f") -> str:
    return f"[{interval[0]:{shape}}, {interval[1]:{shape}}]"


def overhead_table(found: Json) -> str:
    rows = []
    for part, name in ((found, "p50"), (found, "p99"), (found["at_10"], "p50")):
        row = part[name]
        added = [f"{row[n]['added_ms']:.2f} ms {between(row[n]['interval'])}" for n in ("confide", "litellm")]
        alone = f"{part['latency_ms'][name]['stub']:.2f} ms"
        ratio = f"{row['ratio']:.2f} {between(row['ratio_interval'])}"
        rows.append([f"{name} at {part['rate']:.0f} requests/s", alone, *added, ratio])
    busy = found["core_busy"]
    failed = sum(sum(counts.values()) for tallies in found["failed"].values() for counts in tallies)
    return (
        table(" | >stub alone | >confide adds | >LiteLLM adds | >ratio", rows)
        + f"\n\n{found['rounds']} interleaved rounds of {found['seconds_a_round']} s each, {found['n']['confide']:,} "
        f"requests to each at {found['rate']:.0f} a second; failed: {failed}. At that rate confide kept its core "
        f"{busy['confide']:.0%} busy, LiteLLM {busy['litellm']:.0%}."
    )


def throughput_table(found: Json) -> str:
    rows = []
    for pair in zip(found["steps"]["confide"], found["steps"]["litellm"], strict=True):
        row = [pair[0]["clients"]]
        for step in pair:
            failed = f" ({step['failed']} failed)" if step["failed"] else ""
            row += [f"{step['rps']:.0f}{failed}", f"{step['p50_ms']:.0f} / {step['p99_ms']:.0f} ms"]
            row.append(f"{step['cpu_ms']:.2f} ms")
        rows.append(row)
    best, rss = found["best_rps"], found["rss_mb"]
    each = " | ".join(f">{name}, requests/s | >p50 / p99 | >CPU a request" for name in ("confide", "LiteLLM"))
    return (
        table(f">clients | {each}", rows)
        + f"\n\nHighest: confide {best['confide']:.0f} requests/s with {found['rows']:,} rows committed, LiteLLM "
        f"{best['litellm']:.0f}: a ratio of **{found['ratio']:.1f}**. The generator gets {found['stub_alone_rps']:.0f} "
        f"requests/s out of the stub alone. Memory afterwards: {rss['confide']:.0f} and {rss['litellm']:.0f} MB."
    )


def streaming_table(found: Json) -> str:
    rows = [[n, f"{times['first_ms']:.0f} ms", f"{times['whole_ms']:.0f} ms"] for n, times in found["p50"].items()]
    return table(" | >first token, median | >whole answer, median", rows)


def memory_lines(found: Json) -> str:
    rss = found["rss_mb"]
    return (
        f"{found['minutes']:g} minutes at {found['rate']} requests/s (30 % escalated, 25 % streamed), "
        f"{found['requests']:,} answered, failed: {sum(found['failed'].values())}. Resident memory "
        f"{rss['first']:.1f} MB at the start, {rss['last']:.1f} MB at the end, {rss['most']:.1f} MB at most; fitted "
        f"slope {found['mb_a_minute']:+.3f} MB a minute, 95 % interval {between(found['interval'], '+.3f')}."
    )


def failures_table(failover: Json, crash: Json) -> str:
    counts = {
        "clients at once": [failover["clients"], crash["clients"]],
        "kills": [1, crash["kills"]],
        "requests": [failover["requests"], crash["requests"]],
        "received in full (status 200)": [failover["whole"], crash["whole"]],
        "of them streamed": [failover["streamed"], crash["streamed"]],
        "cut off by the kill (the client sees a broken connection)": ["–", crash["cut_off"]],
        "lost": [failover["wrong"]["lost"], "–"],
    }
    for name, text in (
        ("refused", "another status than 200"),
        ("twice", "answered or stored twice"),
        ("not_own", "another question's answer"),
        ("extra_bytes", "bytes after an answer"),
        ("without_row", "received in full, without their row"),
    ):
        counts[f"**{text}**"] = [failover["wrong"][name], crash["wrong"][name]]
    rows = [[name, *(f"{v:,}" if isinstance(v, int) else v for v in pair)] for name, pair in counts.items()]
    shares = failover["unsure_served_by_expert"]
    served = ", ".join(f"{n} {count:,}" for n, count in sorted(failover["served"].items()))
    return (
        table(" | >expert killed and back | >router killed with -9", rows)
        + f"\n\nExpert away for {failover['expert_away_s']:.1f} s. Unsure questions that the expert answered: "
        f"{shares['before']:.1%} before, {shares['away']:.1%} while it was away, {shares['after']:.1%} after. Served: "
        f"{served}. A killed router answers again after {crash['restart_s']:.1f} s (median)."
    )


def fuzz_lines(found: Json) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in found["requests"].items())
    outcomes = ", ".join(f"{name}: {count:,}" for name, count in found["outcomes"].items())
    return (
        f"{sum(found['requests'].values()):,} requests ({parts}). What came back: {outcomes}. Undocumented 5xx, "
        f"tracebacks or silence: **{found['problems']}**; tracebacks in the log: {found['tracebacks_in_log']}; the "
        f"router {'still answers' if found['alive'] else '**no longer answers**'}."
    )


def goals(result: Json) -> Iterator[tuple[str, str, bool]]:
    """Each goal, what was found, and whether it is reached, as far as the stages were run."""
    if o := result.get("overhead"):
        for name in ("p50", "p99"):
            ratio = o[name]["ratio"]
            goal = f"overhead at 50 requests/s, {name}: at most a third of LiteLLM's"
            yield goal, f"{ratio:.2f}", ratio <= 1 / 3
        added = o["p50"]["confide"]["added_ms"]
        yield "overhead at 50 requests/s, p50: at most 3 ms", f"{added:.2f} ms", added <= 3
    if t := result.get("throughput"):
        yield "highest throughput at least 3 times LiteLLM's", f"{t['ratio']:.1f} times", t["ratio"] >= 3
    if m := result.get("memory"):
        grown, first = m["interval"][1] * m["minutes"], m["rss_mb"]["first"]
        goal = f"memory over {m['minutes']:g} minutes: no growth, or less than 1 % at the upper end of the interval"
        reached = m["interval"][0] <= 0 or grown < 0.01 * first
        yield goal, f"at most {grown:+.2f} MB of {first:.0f}", reached
    for name, text in (("failover", "expert killed and back"), ("crash", "router killed with -9")):
        if f := result.get(name):
            wrong, goal = sum(f["wrong"].values()), f"{text}: nothing lost, refused, doubled or without its row"
            yield goal, f"{wrong} of {f['requests']:,}", wrong == 0
    if f := result.get("fuzz"):
        bad = f["problems"] + f["tracebacks_in_log"]
        yield "fuzzed requests: no undocumented 5xx, traceback or hang", str(bad), bad == 0 and f["alive"]


def facts(result: Json) -> str:
    v, layout = result["versions"], result["layout"]
    others = ", ".join(
        f"{n} {v[n]}" for n in ("python", "fastapi", "uvicorn", "uvloop", "aiohttp", "sqlalchemy", "sqlite")
    )
    stages = {name: found for name, found in result.items() if isinstance(found, dict) and "load_before" in found}
    load = ", ".join(f"{name} {found['load_before']:.1f}" for name, found in stages.items())
    return (
        f"LiteLLM {v['litellm']}, confide {v['confide']}, {others}. {layout['router_cores']} core for the router under "
        f"test, {layout['other_cores']} for stub and generator. Load average before each part: {load}."
    )


def geography_table(result: Json) -> str:
    def shown(found: Json | None) -> str:
        return "–" if found is None else f"{found['share']:.1%} {between([100 * v for v in found['interval']], '.1f')}"

    promise = result["promise"]
    pair = [result["gazetteer"], result["reread"]]
    rows = {
        "accuracy, routed": [shown(e["accuracy"]) for e in pair],
        "accuracy, small model alone": [shown(result["small_alone"])] * 2,
        "accuracy, expert alone": [shown(e["alone"]) for e in pair],
        "escalated": [shown(e["escalated"]) for e in pair],
        "**observed risk among kept answers**": [shown(e["risk"]) for e in pair],
        "promised risk": [f"at most {promise['max_risk']:.0%}, level {promise['level']:.0%}"] * 2,
        "kept answers": [str(e["risk"]["of"]) if e["risk"] else "0" for e in pair],
        "accuracy of escalated questions": [shown(e["accuracy_of_escalated"]) for e in pair],
        "median time, kept / escalated": [" / ".join(f"{ms:.0f} ms" for ms in e["p50_ms"].values()) for e in pair],
        "time for all questions, 8 at once": [f"{e['seconds']:.0f} s" for e in pair],
        "same answer as in annotation, kept answers": [shown(e["parity"]["same_answer"]) for e in pair],
        "confidence apart from the offline one, median / most": [
            " / ".join(f"{value:.3f}" for value in e["parity"]["confidence_apart"].values()) for e in pair
        ],
    }
    return (
        table(
            " | >gazetteer (a tool) | >the same model with a passage", ([name, *cells] for name, cells in rows.items())
        )
        + f"\n\n{pair[0]['n']} questions, one an entity. The policy rests on {promise['n']:,} calibration rows (one an "
        f"entity): {promise['coverage']:.1%} kept, observed risk {promise['observed_risk']:.1%}, upper bound "
        f"{promise['upper_bound']:.1%}. Training, scoring and calibration took {result['prepare_seconds'] / 60:.1f} "
        f"minutes, the four rounds of questions {result['serve_seconds'] / 60:.1f}."
    )


TABLES = {
    "overhead": overhead_table,
    "throughput": throughput_table,
    "streaming": streaming_table,
    "memory": memory_lines,
    "fuzz": fuzz_lines,
}


def write() -> None:
    """Put the tables of all results that are there into the page."""
    made: dict[str, str] = {}
    load, geography = RESULTS / "router_load.json", RESULTS / "serve_geography.json"
    if load.exists():
        result = read_json(load)
        made |= {"goals": goals_table("goal | found", goals(result)), "facts": facts(result)}
        made |= {name: make(result[name]) for name, make in TABLES.items() if name in result}
        if "failover" in result and "crash" in result:
            made["failures"] = failures_table(result["failover"], result["crash"])
    if geography.exists():
        made["geography"] = geography_table(read_json(geography))
    put("docs/results/serving.md", made)


if __name__ == "__main__":
    write()
