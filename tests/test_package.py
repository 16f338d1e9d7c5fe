"""What is installed: the wheel holds the package and nothing else, its types are for others, its version is one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import confide

ROOT = Path(__file__).parents[1]
CONSUMER = """
import confide
from confide import Answer, ConfidenceModel
from confide.policies.policy import Policy

def sure(model: ConfidenceModel, question: str) -> float | None:
    answer: Answer = model.answer(question)
    return answer.confidence

def kept(policy: Policy, confidence: float) -> bool:
    return policy.decide(confidence) == "answer"

version: str = confide.__version__
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline as `pip wheel` does it."""
    pytest.importorskip("hatchling", reason="needs the build backend (in the extra dev)")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(release: ModuleType, wheel: Path) -> None:
    assert release.wheel_problems(wheel, confide.__version__) == []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("py.typed", "hedging/languages/en.yaml", "report/templates/page.html.j2", "tasks/hub_tasks.yaml"):
        assert f"confide/{needed}" in names
    assert not [name for name in names if "test" in name.split("/") or name.endswith(".pyc")]


def test_a_wheel_that_lacks_a_file_or_has_another_is_no_release(
    release: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    changed = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            if name != "confide/py.typed":
                new.writestr(name, old.read(name))
        new.writestr("tests/secret.txt", "x")
    problems = release.wheel_problems(changed, confide.__version__)
    assert [line.partition(" ")[2] for line in problems] == ["lacks confide/py.typed", "holds tests/secret.txt"]


def test_the_changelog_is_of_this_version(release: ModuleType) -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.+?)\]", text, re.MULTILINE)[1] == confide.__version__  # type: ignore[index]
    assert release.changelog_problem("## [0.2.0] - 2026-12-01\n", "0.2.0") is None
    assert "has no date" in release.changelog_problem("## [0.2.0] - unreleased\n", "0.2.0")
    assert "not of 0.3.0" in release.changelog_problem("## [0.2.0] - 2026-12-01\n", "0.3.0")


def test_pins_and_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {"model", "serve", "parquet", "docs", "dev"} <= set(extras)
    assert not [name for name in project["dependencies"] if name.startswith(("pyarrow", "torch"))]
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in (ROOT / "constraints.txt").open()}
    wanted = [name for extra in ("parquet", "docs", "dev") for name in extras[extra]]
    names = {re.match(r"[A-Za-z0-9_-]+", name)[0].lower() for name in [*project["dependencies"], *wanted]}  # type: ignore[index]
    assert names - pinned == {"types-pyyaml"} - pinned


def test_a_consumer_sees_the_types(wheel: Path, tmp_path: Path) -> None:
    """As installed in an environment of its own, where mypy takes the types of packages with `py.typed` alone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def checked(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "consumer.py").write_text(text)
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "consumer.py"]
        environment = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    fine = checked(CONSUMER)
    assert fine.returncode == 0, fine.stdout
    assert 'variable has type "int"' in checked(CONSUMER + "wrong: int = confide.__version__\n").stdout
    (Path(site) / "confide" / "py.typed").unlink()
    assert "import-untyped" in checked(CONSUMER).stdout


def test_import_is_lazy() -> None:
    code = (
        "import sys, confide; print([m for m in ('numpy', 'scipy', 'pydantic', 'torch', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_dash_m_is_the_command_line() -> None:
    command = [sys.executable, "-m", "confide", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"confide {confide.__version__}\n"
    )
