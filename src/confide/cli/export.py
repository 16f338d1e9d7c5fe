"""``confide export``: an ordinary checkpoint that loads without confide, or a folder for vLLM with the plug-in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from confide.cli.flags import Json
from confide.cli.last_lines import tell_next
from confide.cli.outputs import Folder
from confide.cli.printing import print_result
from confide.errors import ConfideError

For = Annotated[
    Literal["vllm"] | None,
    Option("--for", help="`vllm`: a folder that vLLM serves with the plug-in confide-vllm; answers come with z."),
]
Base = Annotated[str | None, Option(help="For `--for vllm`: the base model, if it has moved since the training.")]
Results = Annotated[Path | None, Option(help="results.json of `confide evaluate`, for the model card's table.")]
Push = Annotated[str | None, Option(metavar="REPO_ID", help="Send the folder to this repository of the hub, too.")]
Private = Annotated[bool, Option("--private", help="A repository that `--push` makes is seen by its owner alone.")]


def export(
    model: Annotated[Path, Option(help="Trained folder.")],
    out: Annotated[Path, Option(help="Folder for the checkpoint."), Folder()],
    *,
    engine: For = None,
    base: Base = None,
    results: Results = None,
    push: Push = None,
    private: Private = False,
    json: Json = False,
) -> None:
    """Write the model as an ordinary checkpoint: with its new tokens, or beside it the adapter that reads.

    With `--for vllm`: the base model, whose weights are linked, with the reading that vLLM gives beside its answers.
    The folder's README.md is a model card for the hub, where `--push` sends it.

    Example: `confide export --model runs/reader --results report/results.json --out runs/exported`
    """
    from confide.methods.checkpoint import read_info
    from confide.methods.model_card import read_results, write_card

    if base is not None and engine is None:
        raise ConfideError("--base names the model that `--for vllm` links; an ordinary checkpoint needs none")
    if private and push is None:
        raise ConfideError("--private says how --push makes a repository: give both or neither")
    found = read_results(results) if results else None
    if push is not None:
        from confide.hub_upload import check_upload

        check_upload(push)
    if engine == "vllm":
        from confide.methods.frozen.served_export import export_served

        ids, told = {}, export_served(model, out, base)
    else:
        from confide.methods.checkpoint_export import export_checkpoint

        ids = export_checkpoint(model, out)
        new = f"; new tokens {', '.join(f'{k}={v}' for k, v in ids.items())}" if ids else ""
        told = f"{out}: ordinary checkpoint{new}"
    write_card(out, read_info(model), found, push or out.name)
    more: dict[str, object] = {} if engine else {"new_tokens": ids}
    if push is not None:
        from confide.hub_upload import upload_folder

        more["url"] = upload_folder(out, push, private=private)
        told += f"; at {more['url']}"
    print_result(out, told, json, **more)
    if engine == "vllm":
        tell_next("vllm serve", out, comment="where confide-vllm is installed")
