"""``confide score``: every source's confidence for answered records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from confide.cli.engines import EngineName, PortableFolder, load_judge, load_model
from confide.cli.flags import Flags, Identity, Json, Ray, Workers
from confide.cli.last_lines import beside, tell_next
from confide.cli.on_ray import cluster_of, loaded_here, read_there, score_there
from confide.cli.outputs import Folder
from confide.cli.printing import names_in, print_result, warn, warn_of_shortages
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.records import Record

Out = Annotated[
    Path, Option(help="Records file to write, with confidences (JSON lines or Parquet)."), Folder(when="ray")
]
Model = Annotated[
    str | None, Option(help="Trained folder, or the model that answered; none for sources that need no model.")
]
Source = Annotated[
    str,
    Option(
        help="Comma-separated sources, `all` that there are, or `standard`: all but those that write for every row."
    ),
]
Judge = Annotated[
    str | None, Option(help="A model that says which sampled answers mean the same (`semantic_entropy`).")
]
OtherModel = Annotated[bool, Option("--other-model", help="The answers are another model's; sources become `other_…`.")]
Samples = Annotated[bool, Option("--samples", help="Also read the sampled answers of the rows reported on.")]
Controls = Annotated[bool, Option("--controls", help="Add `…_swapped`: the same answer read with another question.")]
Calibrated = Annotated[bool, Option("--calibrated", help="Add `…_calibrated`, fitted on the validation rows.")]


def score(
    records: Annotated[Path, Argument(help="Annotated records.")],
    out: Out,
    endpoint: Annotated[EndpointConfig, Flags()],
    model: Model = None,
    engine: EngineName = "transformers",
    source: Source = "standard",
    identity: Identity = None,
    verifier: Annotated[str | None, Option(help="Another model that judges the answers (`verifier`).")] = None,
    judge: Judge = None,
    portable: PortableFolder = None,
    other_model: OtherModel = False,
    samples: Samples = False,
    controls: Controls = False,
    calibrated: Calibrated = False,
    seed: Annotated[int, Option(help="Seed of the floor `shuffled` and of exchanged questions.")] = 0,
    ray: Ray = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Add confidences to records; confidences that are already there are kept.

    Example: `confide score runs/records.jsonl --model runs/reader --out runs/scored.jsonl`
    """
    from confide.methods import scoring
    from confide.methods.catalogue import available
    from confide.methods.method import Scope
    from confide.methods.portable.portable_file import PortableFile
    from confide.methods.sampled import ModelJudge
    from confide.policies.identities import answered_by
    from confide.records import check_records_file, read_records, write_records

    alone = {"--verifier": verifier, "--judge": judge, "--other-model": other_model, "--controls": controls}
    on = cluster_of(ray, workers, {"--engine": engine != "transformers", **alone})
    if on is None:
        check_records_file(out)
    rows = answered_by(identity, read_records(records))
    loaded = loaded_here(model, endpoint) if on else load_model(engine, endpoint, model) if model else None
    other = load_judge(engine, endpoint, verifier, "--verifier") if verifier else None
    learned = PortableFile.load(portable) if portable else None
    everything = source in ("all", "standard")
    scope = Scope(rows, loaded, other, portable=learned)
    wanted = available(scope, slow=source == "all") if everything else names_in(source)
    if on:
        wanted = read_there(wanted, everything=everything)
    how: dict[str, Any] = {"samples": samples, "calibrated": calibrated, "seed": seed, "portable": learned}
    with progress_bar("scoring") as how["progress"]:
        if on and model and loaded:
            scored = score_there(on, model, loaded, rows, wanted, out, **how)
        else:
            means_same = ModelJudge(load_judge(engine, endpoint, judge, "--judge")) if judge else None
            how |= {"verifier": other, "judge": means_same, "other_model": other_model, "controls": controls}
            scored = scoring.score(rows, wanted, model=loaded, **how)
            write_records(out, scored)
    words = f"{out}: {len(scored)} records, {len(wanted)} sources: {', '.join(wanted)}"
    print_result(out, words, json, records=len(scored), sources=wanted)
    _tell_missing(scored, wanted)
    warn_of_shortages(scored, training=False)
    tell_next("confide evaluate", out, "--out", beside(out, "report"))


def _tell_missing(scored: Sequence[Record], wanted: Sequence[str]) -> None:
    """Say of how many rows that nothing was trained on a source could not say anything."""
    new = [record for record in scored if record.split != "train"]
    names = {name for record in new for name in record.confidence}
    missing = {
        name: count
        for name in wanted
        if name in names and (count := sum(record.confidence.get(name) is None for record in new))
    }
    if missing:
        told = ", ".join(f"{name} {count}" for name, count in missing.items())
        warn(f"of {len(new)} rows outside the train split some have no confidence: {told}")
