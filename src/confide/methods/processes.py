"""Processes that train one model together: which one writes, what they agree on, how they share work.

`torchrun` and `accelerate launch` start them and name each by environment variables; without these a process is alone,
and everything here costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from confide.errors import ConfideError
from confide.files import locked

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""How long a process waits for the others, such as for the first one while it fits what only one can fit."""

_BLOCK = 1 << 26
"""Bytes that processes exchange at once."""


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0 on."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def speaks() -> bool:
    """Whether this is the first process on its machine: it tells what is wrong there."""
    return count() == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0


def join() -> None:
    """Meet the other processes, and take the device that is this one's; at once where there is no other."""
    if count() == 1:
        return
    import torch

    if torch.distributed.is_initialized():
        return
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def refuse_many(verb: str) -> None:
    """Raise `ConfideError` where several processes run what only one can."""
    if count() > 1:
        raise ConfideError(
            f"{verb} runs in one process, not in {count()}: start it without torchrun or accelerate launch"
        )


def fully_sharded() -> bool:
    """Whether each process holds a part of the model's weights (FSDP)."""
    return count() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def loading_device() -> str | None:
    """Where a model is loaded to: under FSDP to main memory, from where each process takes its part (None: as ever)."""
    return "cpu" if fully_sharded() else None


def on_main(work: Callable[[], T]) -> T:
    """What ``work`` gives in the main process, in each of them; all raise the `ConfideError` that it raises."""
    if count() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except ConfideError as error:
            outcome[1] = str(error)
    from torch.distributed import broadcast_object_list

    join()
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ConfideError(outcome[1])
    given: T = outcome[0]
    return given


@contextmanager
def locked_by_main(folder: Path) -> Iterator[None]:
    """Hold a folder for this run alone (`locked`), all its processes together."""
    with ExitStack() as stack:

        def hold() -> None:
            stack.enter_context(locked(folder))

        on_main(hold)
        yield


def shared(batches: Sequence[T]) -> list[tuple[T, bool]]:
    """The batches that are this process's, every so many-th, and whether what they give counts.

    Where they do not go round, the last one is run again by those that have none, for nothing: each process gets as
    many, since processes that hold parts of one model wait for each other in every pass.
    """
    places = range(rank(), -(-len(batches) // count()) * count(), count())
    return [(batches[min(place, len(batches) - 1)], place < len(batches)) for place in places]


def merge(array: NDArray[Any]) -> None:
    """Fill an array whose rows were made by several processes, each of which left the others' rows at zero.

    Bytes are added, so that every number arrives as it was.
    """
    if count() == 1:
        return
    import torch

    join()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    flat = array.reshape(-1).view("uint8")
    for start in range(0, len(flat), _BLOCK):
        block = torch.from_numpy(flat[start : start + _BLOCK]).to(device)
        torch.distributed.all_reduce(block)
        flat[start : start + _BLOCK] = block.cpu().numpy()
