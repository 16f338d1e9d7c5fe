"""Rules of the source tree that no linter knows."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "confide").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", [*SOURCES, *PLUGINS], ids=place)
def test_functions_and_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [((function.end_lineno or 0) - function.lineno + 1, function.name) for function in functions]
    assert [(length, name) for length, name in lengths if length > MOST_LINES_OF_A_FUNCTION] == []


def test_no_file_name_occurs_twice() -> None:
    counts = Counter(path.name for path in (*SOURCES, *BENCHMARKS) if path.name != "__init__.py")
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_code_above_an_engine_reaches_into_its_model() -> None:
    above = [path for path in SOURCES if not place(path).startswith("src/confide/engines/")]
    found = [
        f"{place(path)}:{node.lineno}"
        for path in above
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr == "model" and _name(node.value).endswith("engine")
    ]
    assert found == []


def test_files_are_written_in_one_place() -> None:
    """By `confide.files`, whole or not at all; libraries that write by themselves are given its temporary files."""
    given = ("save_file", "save_pretrained", "write_table")
    found: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Call):
                name = _name(node.func)
                method = isinstance(node.func, ast.Attribute)
                modes = [word.value for word in (*node.args, *(k.value for k in node.keywords)) if _is_mode(word)]
                opened = name == "open" and any(set(mode) & set("wax+") for mode in modes)
                if opened or name in given or (name in ("write_text", "write_bytes", "dump", "to_parquet") and method):
                    found.setdefault(place(path).removeprefix("src/confide/"), []).append(name)
    assert {name: sorted(calls) for name, calls in found.items()} == {
        "files.py": ["open", "open", "open", "write_bytes"],
        "records/record_files.py": ["open", "write_table"],  # appends
        "methods/rlmf/training_guard.py": ["open", "save_file"],  # appends to the log
        "methods/along/along_reading.py": ["save_file"],  # into a staged folder
        "methods/parts/part_reading.py": ["save_file"],  # the same
        "methods/frozen/frozen_model.py": ["save_file"],
        "methods/frozen/served_export.py": ["save_file"],
        "engines/transformers/adapter.py": ["save_file", "save_pretrained"],
        "engines/transformers/transformers_engine.py": ["save_pretrained", "save_pretrained"],
        "engines/transformers/loading.py": ["save_pretrained", "save_pretrained"],
    }


def test_plugin_and_library_are_of_one_version() -> None:
    import confide
    import confide_vllm

    assert confide.__version__ == confide_vllm.__version__


def test_a_plugin_needs_what_its_engine_has() -> None:
    found = {
        name.partition(".")[0]
        for path in PLUGINS
        for node in nodes(path)
        for name in _imported(node)
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert found == {"confide_vllm", "safetensors", "torch", "vllm"}


def test_progress_is_defined_once() -> None:
    defining = [
        place(path)
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.Assign) and any(_name(target) == "Progress" for target in node.targets)
    ]
    assert defining == ["src/confide/progress.py"]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _is_mode(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and set(node.value) <= set("rwaxbt+")


def _name(node: ast.AST) -> str:
    """The last name of ``engine`` or ``self.engine``."""
    return getattr(node, "attr", None) or getattr(node, "id", "")
