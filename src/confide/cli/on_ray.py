"""Verbs on a Ray cluster: which flags go with ``--ray``, and how models are loaded there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.cli.engines import check_unused
from confide.cli.printing import warn
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.engines.openai.endpoint_config import EndpointConfig
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.confidence_model import ConfidenceModel
    from confide.records import Record
    from confide.tasks.task import Task


@dataclass(frozen=True)
class OnRay:
    """Where a verb is to run: the address of a cluster, and how many models at once."""

    address: str
    workers: int | None


def cluster_of(address: str | None, workers: int | None, alone: Mapping[str, object]) -> OnRay | None:
    """Where a verb is to run; None: here.

    Args:
        address: what ``--ray`` was given.
        workers: what ``--workers`` was given.
        alone: flags that go with one machine only, and whether they are set.

    Raises:
        ConfideError: flags that do not go together.
    """
    if address is None:
        if workers is not None:
            raise ConfideError("--workers is for --ray: without it one model runs, in this process")
        return None
    if set_ := [flag for flag, value in alone.items() if value]:
        raise ConfideError(f"{set_[0]} does not go with --ray: use it on one machine")
    return OnRay(address, workers)


def annotate_there(
    on: OnRay, endpoint: EndpointConfig, model: str, template: Mapping[str, Any], task: Task, out: Path, **how: Any
) -> int:
    """Annotate on the cluster, into a folder; how many records are new."""
    from confide.cluster import annotate_on_ray, ray_cluster

    check_unused(endpoint)
    with ray_cluster(on.address, on.workers) as cluster:
        return annotate_on_ray(cluster, partial(_engine, model, _place(model), dict(template)), task, out, **how)


def loaded_here(model: str | None, endpoint: EndpointConfig) -> ConfidenceModel:
    """The model as the driver needs it, beside its accelerator: to tell what can be had, not to read with."""
    if model is None:
        raise ConfideError("--ray reads answers with a model: name it with --model, or score on one machine")
    check_unused(endpoint)
    return _model(model, model, "cpu")


def read_there(sources: Sequence[str], *, everything: bool) -> list[str]:
    """Those of ``sources`` that a cluster gives; raises `ConfideError` for another one that was named."""
    from confide.cluster import check_read_on_ray

    asking = check_read_on_ray(sources)
    if asking and not everything:
        raise ConfideError(
            f"workers of --ray only read closed answers, and {', '.join(asking)} takes more: score on one machine"
        )
    if asking:
        warn(f"left out with --ray, as workers only read closed answers: {', '.join(asking)}")
    return [source for source in sources if source not in asking]


def score_there(
    on: OnRay, model: str, loaded: ConfidenceModel, rows: Sequence[Record], wanted: Sequence[str], out: Path, **how: Any
) -> list[Record]:
    """Score on the cluster, into the folder ``out``."""
    from confide.cluster import ray_cluster, score_on_ray

    with ray_cluster(on.address, on.workers) as cluster:
        return score_on_ray(cluster, partial(_model, model, _place(model)), loaded, rows, wanted, out, **how)


def _place(model: str) -> str:
    """Where workers find the model: they run in other folders."""
    return os.path.abspath(os.path.expanduser(model)) if os.path.isdir(os.path.expanduser(model)) else model


def _engine(model: str, place: str, template: Mapping[str, Any], device: str | None) -> TransformersEngine:
    from confide.engines.transformers.transformers_engine import TransformersEngine

    engine = TransformersEngine.load(place, device=device, chat_template_kwargs=template)
    engine.name = model
    return engine


def _model(model: str, place: str, device: str | None) -> ConfidenceModel:
    import confide

    loaded = confide.load(place, device=device)
    loaded.engine.name = loaded.engine.name if loaded.info.trained else model
    return loaded
