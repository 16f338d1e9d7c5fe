"""What every step end of a trajectory may be told by: states, token log-probabilities, and where it is.

Each source is one number a step end. Those that are learned predict whether the answer ends right, from what is there
when the step ends: fitted on training trajectories, their settings chosen on validation trajectories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.inside.trajectories import LAYERS, Trajectories
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.logistic import Logistic
from confide.methods.portable.mixture import Mixture
from confide.numeric import Floats, Ints, logistic_loss
from confide.records import Record
from confide.tasks.chains import parse_chain

VIEWS = ((12, 24), (12, 18, 24, 30))
PENALTIES = (1e-4, 1e-3, 1e-2)
CHEAP = ("step_sum", "step_mean", "step_min", "sum", "mean", "min", "place")
"""Sources that nothing is learned for: log-probabilities of the step's tokens and of all so far, and the place."""
MEANS, READING = "reading of means", "reading"
SOURCES = (*CHEAP, "portable", "free_learned", MEANS, READING)


@dataclass(frozen=True)
class Fitted:
    """Sources of all step ends, by name, and which view of the states was chosen."""

    values: dict[str, Floats]
    chosen: dict[str, str]


def read_sources(found: Trajectories, parts: dict[str, Ints]) -> Fitted:
    """Every source at every position of ``found``, fitted on the positions of ``parts``."""
    free = free_signals(found)
    values = {name: free[:, number] for number, name in enumerate(CHEAP)}
    target = found.right.astype(np.float64)
    values["free_learned"] = best(
        {str(C): Logistic.fit(free[parts["train"]], target[parts["train"]], C=C).z(free) for C in (0.01, 1.0)},
        target,
        parts["validation"],
    )[1]
    values["portable"] = portable(found, parts["train"])
    chosen = {}
    for name, means in ((MEANS, True), (READING, False)):
        chosen[name], values[name] = best(readings(found, target, parts["train"], means), target, parts["validation"])
    return Fitted(values, chosen)


def readings(found: Trajectories, target: Floats, train: Ints, means: bool) -> dict[str, Floats]:
    """Logits of linear readings of the states, or of their means so far, by layers and penalty."""
    tried = {}
    for layers in VIEWS:
        picked = found.states[:, [LAYERS.index(layer) for layer in layers]]
        states: NDArray[np.float32] = picked.reshape(len(target), -1).astype(np.float32)
        states = running_mean(found, states) if means else states
        for C in PENALTIES:
            model = Logistic.fit(states[train], target[train], C=C, max_iter=200, tol=1e-3)
            tried[f"layers {', '.join(map(str, layers))}, C {C:g}"] = model.z(states)
    return tried


def running_mean(found: Trajectories, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of an answer's states [positions, features] over its step ends so far; the prompt's end keeps its own."""
    made = states.copy()
    for at in np.flatnonzero(found.place > 1):
        made[at] = made[at - 1] + (states[at] - made[at - 1]) / found.place[at]
    return made


def best(tried: dict[str, Floats], target: Floats, validation: Ints) -> tuple[str, Floats]:
    """The logits with the least log loss on validation positions, and their name."""
    return min(tried.items(), key=lambda one: logistic_loss(one[1][validation], target[validation]))


def free_signals(found: Trajectories) -> Floats:
    """[positions, signals]: those of `CHEAP`, then the steps left, tokens, and the step's greatest entropy.

    The end of the prompt has no tokens in front of it; there every log-probability counts as 0.
    """
    rows, left = [], steps_left(found)
    for number, start, stop in spans(found):
        record = found.records[found.answer[number]]
        step, so_far = record.logprobs[start:stop] or [0.0], record.logprobs[:stop] or [0.0]
        rows.append([
            sum(step), sum(step) / len(step), min(step), sum(so_far), sum(so_far) / len(so_far), min(so_far),
            found.place[number], left[number], stop,
            max(record.entropies[start:stop], default=0.0),
        ])  # fmt: skip
    return np.array(rows, dtype=np.float64)


def steps_left(found: Trajectories) -> Ints:
    """Operations that are still to be done at each position, [positions]."""
    chains = [parse_chain(record.question) for record in found.records]
    asked = np.array([len(chain.operations) if chain else 0 for chain in chains])
    return asked[found.answer] - found.place


def spans(found: Trajectories) -> list[tuple[int, int, int]]:
    """(position, first token of the step that ends there, one behind its last); empty at the prompt's end."""
    tokens = found.tokens.tolist()
    return [(i, tokens[i - 1] if place else 0, tokens[i]) for i, place in enumerate(found.place.tolist())]


def portable(found: Trajectories, train: Ints) -> Floats:
    """The confidence ``portable`` learned from steps as records of their own; NaN at the prompt's end."""
    records = step_records(found)
    steps = np.flatnonzero(found.place > 0)
    rows = [records[i] for i in train if found.place[i]]
    mixture = Mixture.fit(fit_signals(rows, 0), rows)
    read = [records[i] for i in steps]
    values = np.full(len(records), np.nan)
    values[steps] = mixture.read(read, ground=mixture.signals.read(read, None))[0]
    return values


def step_records(found: Trajectories) -> list[Record]:
    """Each step as an answer that follows what was written before it; right where the whole answer ends right."""
    made = []
    for number, start, stop in spans(found):
        record = found.records[found.answer[number]]
        begin = record.token_starts[start] if start < len(record.token_starts) else 0
        end = record.token_starts[stop] if stop < len(record.token_starts) else len(record.answer)
        update = {
            "id": f"{record.id}#step {found.place[number]}",
            "entity": record.cluster,
            "domain": f"step_{found.place[number]}",
            "answer": record.answer[begin:end].strip(),
            "answered": None,
            "reasoning_ids": record.answer_ids[:start],
            "answer_ids": record.answer_ids[start:stop],
            "logprobs": record.logprobs[start:stop],
            "entropies": record.entropies[start:stop],
            "end_logprob": record.logprobs[stop] if stop < len(record.logprobs) else record.end_logprob,
        }
        made.append(record.model_copy(update=update))
    return made


def aggregates(found: Trajectories, values: Floats) -> dict[str, Floats]:
    """Running aggregates of a source over the step ends so far, at every position; the prompt's end is one of them.

    ``values`` are logits or log-probabilities; the product is that of the probabilities σ(z).
    """
    names = ("last", "minimum", "product", "mean")
    made = {name: np.empty(len(values)) for name in names}
    starts = np.flatnonzero(found.place == 0)
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        z = values[start:stop]
        made["last"][start:stop] = z
        made["minimum"][start:stop] = np.minimum.accumulate(z)
        made["product"][start:stop] = np.cumsum(-np.logaddexp(0, -z))
        made["mean"][start:stop] = np.cumsum(z) / np.arange(1, len(z) + 1)
    return made


def learned_aggregate(made: dict[str, Floats], target: Floats, parts: dict[str, Ints], left: Ints) -> Floats:
    """A logistic model over all aggregates and the number of steps left."""
    columns = np.column_stack([*made.values(), left.astype(np.float64)])
    tried = {str(C): Logistic.fit(columns[parts["train"]], target[parts["train"]], C=C).z(columns) for C in (0.01, 1.0)}
    return best(tried, target, parts["validation"])[1]
