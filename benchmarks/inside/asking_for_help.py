"""Ask for help: an agent that calls the gazetteer only where it is not sure of its own answer to a geography question.

    python -m benchmarks.inside.asking_for_help          # needs runs/quality, which benchmarks.quality.study makes

The agent (`confide.agent`) answers by itself where a policy lets it; otherwise it calls its tool, reads what that says
and answers again. Policies promise, from calibration rows, to lose at most two points against always calling. Beside
them: never calling, always calling, and an oracle that calls exactly where the own answer is wrong; and the same where
what the gazetteer knows is taken as the answer, in place of being read. One set of test and
calibration questions; three draws of the rows that teach the confidence. Intervals are 95 %, from a bootstrap by
entity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, Json, Work, parser, show_progress, write_result
from benchmarks.inside import asking_tables
from benchmarks.quality.cells import Parts, fit_stack, picked
from benchmarks.quality.study import geography_records, geography_states
from confide.agent import Tool, call_tool, with_results
from confide.evaluation.record_columns import Rows
from confide.methods.method import labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.stack.states import States
from confide.metrics import auroc
from confide.metrics.bootstrap import estimate
from confide.numeric import Bools, Floats
from confide.policies.goals import MatchExpert
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.thresholds.fallback_testing import Unmet
from confide.records import Record, answer_log_probability
from confide.tasks.geography.gazetteer import look_up, passage
from confide.tasks.geography.place_graders import grade
from confide.tasks.questions import question_of
from confide.tasks.splits import assign_splits

SEEDS = (0, 1, 2)
SIZES = {"train": 6000, "validation": 600, "calibration": 1000, "test": 2500}
TRAINED_ON = 2000
LOSS = 0.02
RESAMPLES = 2000
SOURCES = ("logprob_sum", "portable", "stack")
"""What the policy decides on; the first is free."""
GAZETTEER = Tool("gazetteer", passage, "Says in which country and continent a city is, and a country's capital.")


def main() -> None:
    options = parser(__doc__, "agent")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    arguments = options.parse_args()
    work, quality = Work(arguments.work), Work(arguments.quality)
    records = geography_records(quality)
    states = geography_states(quality, records)
    where = {record.id: number for number, record in enumerate(records)}
    dealt = assign_splits(records, "standard", SIZES, seed=0)
    parts = {part: np.array(sorted(where[i] for i, to in dealt.items() if to == part)) for part in SIZES}
    helped = with_help(work, picked(records, [*parts["calibration"], *parts["test"]]))
    cells = [work.stage(f"cell-{seed}", partial(cell, records, states, parts, helped, seed)) for seed in SEEDS]
    made = {"machine": work.machine(), "resamples": RESAMPLES, "loss": LOSS, "sizes": SIZES | {"train": TRAINED_ON}}
    result = write_result(arguments.out, "inside/asking_for_help.py", made | {"cells": cells})
    if arguments.out.parent == RESULTS:
        asking_tables.write(result)


def with_help(work: Work, records: Sequence[Record]) -> dict[str, Record]:
    """Each question's record when its tool was called: the second answer, or the first where the tool said nothing."""
    path = work.folder / "helped.jsonl"
    known: dict[str, Json] = {}
    if path.exists():
        known = {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    left = [record for record in records if record.id not in known]
    told = [call_tool(GAZETTEER, [m.model_dump() for m in record.messages]).result for record in left]
    prompts = [
        work.engine.encode(with_results(record.messages, [result] if result else []))
        for record, result in zip(left, told, strict=True)
    ]
    with path.open("a", encoding="utf-8") as file:
        for rows in work.engine.batches(prompts, progress=show_progress("helped")):
            for row, answer in zip(rows, work.engine.answer([prompts[row] for row in rows], 20), strict=True):
                known[left[row].id] = {"id": left[row].id, "answer": answer.text, "finish": answer.finish}
                file.write(json.dumps(known[left[row].id]) + "\n")
    return {record.id: _second(record, known[record.id]) for record in records}


def _second(record: Record, row: Json) -> Record:
    question = question_of(record)
    assert question is not None
    given = grade(question, row["answer"])
    update = {"answer": row["answer"], "finish": row["finish"], "correct": given.correct, "answered": given.answered}
    return record.model_copy(update=update)


def cell(records: list[Record], states: States, parts: Parts, helped: dict[str, Record], seed: int) -> Json:
    """The agent by each source of one training draw."""
    drawn = np.random.default_rng(seed).permutation(parts["train"])[:TRAINED_ON]
    values = confidences(records, states, parts | {"train": np.sort(drawn)}, seed)
    scored = {part: with_confidences(picked(records, parts[part]), part, values[part]) for part in values}
    kinds = {"read": helped, "taken": taken([record for some in scored.values() for record in some])}
    found = {kind: agents(scored, experts, seed) for kind, experts in kinds.items()}
    areas = {name: float(auroc(values["test"][name], labels(scored["test"]))) for name in SOURCES}
    return {"seed": seed, "n": len(parts["test"]), "auroc": areas, "agents": found}


def taken(records: Sequence[Record]) -> dict[str, Record]:
    """Each question's record when the gazetteer's word is taken as the answer; the first where it knows nothing."""
    found = {}
    for record in records:
        told = look_up([message.model_dump() for message in record.messages])
        row = {"answer": record.answer, "finish": record.finish} if told is None else {"answer": told, "finish": "stop"}
        found[record.id] = _second(record, row)
    return found


def agents(scored: dict[str, list[Record]], experts: dict[str, Record], seed: int) -> Json:
    """What agents do on test rows when ``experts`` are the answers with help; policies from calibration rows."""
    expert = {part: [experts[record.id] for record in some] for part, some in scored.items()}
    own, other = labels(scored["test"]), labels(expert["test"])
    bootstrap = Rows(scored["test"], {}, "test").bootstrap(RESAMPLES, seed)
    rows = np.arange(len(own))

    def outcome(called: Bools) -> Json:
        """Calls, accuracy, and what is lost against always calling, with the share of the oracle's savings."""
        kept, right = (~called).astype(np.float64), np.where(called, other, own).astype(np.float64)
        calls, accuracy = bootstrap.mean(1 - kept, rows), bootstrap.mean(right, rows)
        saved = bootstrap.mean(kept, rows) / bootstrap.mean(own.astype(np.float64), rows)
        loss = bootstrap.mean(other.astype(np.float64), rows) - accuracy
        told = {"calls": calls, "accuracy": accuracy, "loss": loss, "of_oracle": saved}
        return {name: estimate(one) for name, one in told.items()}

    plain = {"never": np.zeros(len(own), bool), "always": np.ones(len(own), bool), "oracle": ~own}
    found: Json = {name: outcome(called) for name, called in plain.items()}
    for source in SOURCES:
        goal = MatchExpert(LOSS, per="entity")
        policy = calibrate_policy(scored["calibration"], source, goal, expert=expert["calibration"], hints=False)
        if isinstance(policy, Unmet):
            found[source] = {"unmet": str(policy)}
            continue
        found[source] = outcome(policy.decided(scored["test"]).decision != "answer")
    return found


def confidences(records: list[Record], states: States, parts: Parts, seed: int) -> dict[str, dict[str, Floats]]:
    """Each source's values of the calibration and the test rows, learned from training rows."""
    train, validation = (picked(records, parts[part]) for part in ("train", "validation"))
    fitting, held = (states.take(parts[part]) for part in ("train", "validation"))
    signals = fit_signals(train, seed)
    stack = fit_stack(fitting, train, held, validation, signals, seed)
    portable = Mixture.fit(signals, train)
    values: dict[str, dict[str, Floats]] = {}
    for part in ("calibration", "test"):
        rows = picked(records, parts[part])
        ground = signals.signals.read(rows)
        values[part] = {
            "logprob_sum": np.array([answer_log_probability(record.logprobs) for record in rows]),
            "portable": portable.read(rows, ground=ground)[0],
            "stack": stack.read(states.take(parts[part]), rows, ground)["stack"],
        }
    return values


def with_confidences(records: Sequence[Record], part: str, values: dict[str, Floats]) -> list[Record]:
    """The records of a part with the confidences that decide."""
    rows = zip(records, np.column_stack([values[name] for name in SOURCES]).tolist(), strict=True)
    confidences = [(record, dict(zip(SOURCES, row, strict=True))) for record, row in rows]
    return [record.model_copy(update={"split": part, "confidence": found}) for record, found in confidences]


if __name__ == "__main__":
    main()
