"""LiteLLM's proxy, what the router is measured beside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from routers import KEY, ROUTER_CORES, Server, free_port

# One of the releases before 1.107.0, which was withdrawn from PyPI as compromised; the newest that installs where
# this was last run. Its code runs with an environment of its own that holds no variable of the caller.
LITELLM = "1.106.2"


def litellm(work: Path, small: int) -> Server:
    """LiteLLM's proxy in front of the stub on port ``small``: one worker, no database, logging off."""
    home = work / "litellm"
    program = home / "bin" / "litellm"
    made = home / f".installed-{LITELLM}"
    if not made.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run(
            [str(home / "bin" / "pip"), "install", "-q", f"litellm[proxy]=={LITELLM}", "httptools"], check=True
        )
        made.touch()
    port = free_port()
    upstream = {"model": "openai/small", "api_base": f"http://127.0.0.1:{small}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "small", "litellm_params": upstream}],
        "general_settings": {"master_key": KEY},
    }
    (work / "litellm.yaml").write_text(json.dumps(config, indent=1), encoding="utf-8")
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LITELLM_LOG": "ERROR",  # no access log either
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing fetched from elsewhere
    }
    command = [str(program.resolve()), "--config", str((work / "litellm.yaml").resolve()), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return Server("litellm", command, port, "/health/liveliness", work / "litellm.log", ROUTER_CORES, env)
