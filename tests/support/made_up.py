"""Records and results for the report's tests: hostile text, and every part that results.json can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.records import Cost, Message, Record

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }} $\\frac{$ \u202e\u2028\x00-->"


def records(n=300, *, hostile="answer", source="stack", extra=0):
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        p = rng.random()
        noise = float(np.clip(p + rng.normal() * 0.3, 0, 1))
        confidence = {source: p, "logprob_sum": noise, "answer_length": -float(i % 4)}
        confidence |= {f"given:{k}": float(rng.random()) for k in range(extra)}
        if i % 3 == 0:
            confidence["p_true"] = float(rng.random())
        out.append(
            Record(
                id=f"{i} {hostile}",
                task=hostile,
                domain=f"{hostile} {i % 2}",
                split="test",
                messages=[Message(role="user", content=f"{hostile} {i}")],
                answer=hostile,
                answered=hostile,
                reference=[hostile],
                correct=bool(rng.random() < p),
                model=hostile,
                confidence=confidence,
                cost={source: Cost(tokens=4, seconds=0.02), "logprob_sum": Cost()},
            )
        )
    return out


def metric(value: float | None, **more: Any) -> dict[str, Any]:
    bounds = (None, None) if value is None else (value - 0.02, value + 0.02)
    return {"value": value, "low": bounds[0], "high": bounds[1], **more}


def with_every_part(results: dict[str, Any], name: str = "odd <i>") -> dict[str, Any]:
    """The results with each part that `evaluate` leaves out where records do not carry what it needs."""
    results = {**results, "controls": dict(results["controls"])}
    two = ("stack", "logprob_sum")
    results["within_question"] = {
        "questions": 300,
        "mixed": 120,
        "sources": {
            s: {"averaged": metric(0.71), "pooled": metric(0.72), "greedy": metric(None), "mixed": 120, "pairs": 400}
            for s in two
        },
    }
    bounds = {"floor": metric(0.74), "constant": 0.5, "ceiling": metric(0.93)}
    results["agreement"] = {
        **{"n": 300, "samples": {"low": 18, "high": 20}, "distinct": 21, "bins": 10, "unparsed": 3},
        **{"mean": metric(0.5), "spread": metric(0.3), "entropy": metric(0.8)},
        **dict.fromkeys(("mfg", "cmfg", "cmfg_star"), bounds),
    }
    star = {**metric(0.85, bins=10), **bounds, "skill": metric(0.6)}
    star |= {"counting_missing": metric(0.8), "skill_counting_missing": metric(0.4)}
    results["estimators"] = {
        s: entry | {"cmfg_star": star if s in two else None, "spearman": metric(0.7)}
        for s, entry in results["estimators"].items()
    }
    results["auroc_by_position"] = {
        s: [{"position": p, **metric(0.7), "n": 50} for p in ("prompt end", "1", name)] for s in two
    }
    confidence = {s: metric(0.8) for s in two}
    results["error_kinds"] = {
        "right": {"n": 80, "confidence": confidence},
        "kinds": {name: {"n": 60, "confidence": confidence, "auroc": {"stack": metric(0.9), "logprob_sum": None}}},
    }
    cells = [
        {
            "trained_on": a,
            "tested_on": b,
            "in_domain": a == b,
            "n": 400,
            "accuracy": metric(0.3),
            "guessing": 0.25,
            "measurable": b != "law",
            "reason": f"{name} is not above guessing" if b == "law" else "",
            "free": "logprob_sum",
            "free_validation": None,
            "sources": {
                "stack": {
                    "auroc": metric(0.8),
                    "drop": None if a == b else metric(-0.1, paired=True, against=f"trained on {b}"),
                    "against_free": metric(0.05 if a == b else -0.05),
                    "against_free_validation": None,
                }
            },
        }
        for a in (name, "law")
        for b in (name, "law")
    ]
    sentences = [f"{name} travels."]
    results["matrix"] = {"rows": [name, "law"], "columns": [name, "law"], "source": "stack", "cells": cells}
    results["matrix"]["sentences"] = sentences
    rejected = {
        "auroc": metric(0.6),
        "share": [],
        "caught": [],
        "refused": [],
        "share_to_catch_80": metric(0.7),
        "n": 9,
    }
    results["rejection"] = {"n": 9, "without_answer": 5, "sentence": f"{name} rejects.", "sources": {"stack": rejected}}
    coupled = {"current": metric(0.7), "original": metric(0.5), "difference": metric(0.2)}
    results["coupling"] = {"n": 9, "differ": 5, "sentence": f"{name} follows."}
    results["coupling"]["sources"] = {"stack": {"auroc": coupled, "brier": None, "n": 5}}
    read = {"other": "other_probe", **metric(0.05), "n": 9, "sentence": f"{name} is privileged."}
    fall = {"fall": metric(0.3), "share_falling": metric(0.8), "n": 9}
    results["controls"] |= {
        "privileged_access": {"verdict": "ok", "detail": "one", "sources": {"stack": read}},
        "improves_log_loss": {
            "verdict": "ok",
            "detail": "one",
            "over": ["answer_only", "logprob_sum"],
            "folds": 5,
            "sources": {"stack": {**metric(0.03), "n": 9}},
        },
        "swapped": {"verdict": "failed", "detail": "one", "sources": {"stack": fall}},
    }
    return results
