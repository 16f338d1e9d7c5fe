"""The cluster: reached or started, its workers, and what they do block by block with Ray Data.

A block that was in work when its worker died is given to another one, a few times.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.errors import ConfideError

LOCAL = "local"
"""The address of a cluster that is started on this machine and ends with the run."""

ANSWERS_S = 15
"""A cluster that has not answered after so many seconds is none."""

TRIES = 4
"""How often a block is tried where its worker dies over it."""

REMEDY = (
    "give each worker fewer questions at once (--batch-size) or the machines fewer workers (--workers); what is "
    "finished is kept, and the same command goes on from there"
)
"""What to do about workers without memory."""

Work = Callable[[Any], None]
"""Does what one block asks for; whoever makes it loads a model."""


DIED = f"a Ray worker died {TRIES} times over the same rows, most likely because it ran out of memory: {REMEDY}"

TRIED = "_tried"
"""The folder of what was begun, beside the files of what is finished."""


@dataclass(frozen=True)
class Block:
    """One piece of work.

    Attributes:
        number: its place among the blocks.
        rows: how many rows it has.
        work: what a worker is given of it.
        file: what the worker writes last: a block whose file is there is done.
    """

    number: int
    rows: int
    work: Any
    file: Path


@dataclass(frozen=True)
class Cluster:
    """What workers there are, and what each of them takes of a machine."""

    workers: int
    cpus: float
    gpus: float

    def run(self, make: Callable[[], Work], blocks: Sequence[Block]) -> Iterator[Block]:
        """Have all ``blocks`` done; gives each once it is.

        Args:
            make: called once in every worker; gives what does the work.

        Raises:
            ConfideError: bad input that a worker found, or workers that died over a block.
        """
        import ray
        import ray.data

        if not blocks:
            return
        by_number = {block.number: block for block in blocks}
        for folder in {block.file.parent for block in blocks}:
            shutil.rmtree(folder / TRIED, ignore_errors=True)
        items = [
            {"block": block.number, "file": str(block.file), "work": ray.cloudpickle.dumps(block.work)}
            for block in blocks
        ]
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            fn_constructor_args=(ray.cloudpickle.dumps(make),),
            batch_size=1,
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=1),
        )
        with _told(), contextlib.redirect_stdout(io.StringIO()):  # Ray tells there of every worker that died
            for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
                for number, failed in zip(batch["block"].tolist(), batch["failed"].tolist(), strict=True):
                    if failed:
                        raise ConfideError(failed)
                    yield by_number[number]


class Worker:
    """What runs in a worker's process; the model is loaded with the first block, so that a failure counts as its."""

    def __init__(self, make: bytes):
        self._make = make
        self._work: Work | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do a block; what is wrong with the input is told, everything else is raised."""
        failed = ""
        try:
            self._do(Path(batch["file"][0]), batch["work"][0])
        except ConfideError as error:
            failed = str(error)
        except Exception as error:
            if not (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
                raise
            failed = f"a Ray worker on {socket.gethostname()} ran out of memory: {REMEDY}"
        return {"block": batch["block"], "failed": [failed]}

    def _do(self, file: Path, work: bytes) -> None:
        """Do a block; Ray would try one that kills its workers for ever, so every try leaves a file."""
        if file.exists():  # of a try whose worker died behind it
            return
        if not file.parent.is_dir():
            raise ConfideError(
                f"the Ray worker on {socket.gethostname()} does not see {file.parent}: choose an --out that all "
                "machines share"
            )
        tries = [file.parent / TRIED / f"{file.stem}.{number}" for number in range(TRIES)]
        place = next((path for path in tries if not path.exists()), None)
        if place is None:
            raise ConfideError(DIED)
        place.parent.mkdir(exist_ok=True)
        place.touch()
        if self._work is None:
            self._work = pickle.loads(self._make)()
        self._work(pickle.loads(work))
        for path in tries:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def ray_cluster(address: str, workers: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster at ``address`` (HOST:PORT), or start one on this machine (`LOCAL`).

    Args:
        workers: how many models run at once; by default one per GPU, or without GPUs one per machine.

    Raises:
        ConfideError: no cluster answers there, or it has no room for so many workers.
    """
    _check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    import ray.data  # isort: skip

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        cpus = max(os.cpu_count() or 1, workers or 1)
        ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        _check_answers(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfideError(f"the Ray cluster at {address} cannot be joined: {reason}") from None
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield _cluster(ray.nodes(), workers)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    if address != LOCAL and not re.fullmatch(r"[\w.-]+:\d+", address):
        raise ConfideError(
            f"--ray takes HOST:PORT of a cluster's head, or `{LOCAL}`, which starts one here, not {address}"
        )


def _check_answers(address: str) -> None:
    """Raise `ConfideError` where no cluster answers; connecting itself would wait for many minutes."""
    host, _, port = address.rpartition(":")
    silent = ConfideError(
        f"no Ray cluster answers at {address} (waited at most {ANSWERS_S} s): start one with `ray start --head`, or "
        f"use --ray {LOCAL}"
    )
    try:
        with socket.create_connection((host, int(port)), ANSWERS_S):
            pass
    except (OSError, OverflowError):
        raise silent from None
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        told = subprocess.run(command, capture_output=True, timeout=ANSWERS_S, text=True).stderr
    except subprocess.TimeoutExpired:
        raise silent from None
    if "AuthenticationError" in told:
        raise ConfideError(
            f"the Ray cluster at {address} wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH"
        )


def _cluster(nodes: Sequence[dict[str, Any]], workers: int | None) -> Cluster:
    """The workers of a cluster with these machines: where there are GPUs each has one, and as many CPUs as all find."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive]
    gpus = sum(count for _, count in machines)
    if gpus:
        machines = [machine for machine in machines if machine[1]]

    def room(share: int) -> int:
        """How many workers find a place that each take ``share`` CPUs."""
        return sum(min(cpus // share, of_them) if gpus else cpus // share for cpus, of_them in machines)

    wanted = workers or gpus or sum(cpus > 0 for cpus, _ in machines)
    if wanted > room(1) or not room(1):
        what = "GPUs" if gpus else "CPUs"
        raise ConfideError(f"the Ray cluster has {room(1)} {what}, too few for {max(1, wanted)} workers (--workers)")
    share = next(n for n in range(max(cpus for cpus, _ in machines), 0, -1) if room(n) >= wanted)
    return Cluster(wanted, share, 1 if gpus else 0)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell of workers that died in one sentence."""
    import ray.exceptions as raised

    try:
        yield
    except raised.OutOfMemoryError:
        raise ConfideError(f"a Ray worker ran out of memory: {REMEDY}") from None
    except (raised.RayActorError, raised.WorkerCrashedError, raised.NodeDiedError):
        raise ConfideError(DIED) from None
    except (raised.RaySystemError, ConnectionError) as error:
        raise ConfideError(
            f"the Ray cluster is gone ({str(error).splitlines()[0]}): what is finished is kept"
        ) from None
