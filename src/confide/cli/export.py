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


def export(
    model: Annotated[Path, Option(help="Trained folder.")],
    out: Annotated[Path, Option(help="Folder for the checkpoint."), Folder()],
    *,
    engine: For = None,
    base: Base = None,
    json: Json = False,
) -> None:
    """Write the model as an ordinary checkpoint: with its new tokens, or beside it the adapter that reads.

    With `--for vllm`: the base model, whose weights are linked, with the reading that vLLM gives beside its answers.

    Example: `confide export --model runs/reader --out runs/exported`
    """
    if engine == "vllm":
        from confide.methods.frozen.served_export import export_served

        print_result(out, export_served(model, out, base), json)
        tell_next("vllm serve", out, comment="where confide-vllm is installed")
        return
    if base is not None:
        raise ConfideError("--base names the model that `--for vllm` links; an ordinary checkpoint needs none")
    from confide.methods.checkpoint_export import export_checkpoint

    ids = export_checkpoint(model, out)
    new = f"; new tokens {', '.join(f'{k}={v}' for k, v in ids.items())}" if ids else ""
    print_result(out, f"{out}: ordinary checkpoint{new}", json, new_tokens=ids)
