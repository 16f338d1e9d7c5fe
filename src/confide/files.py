"""Files: written whole or not at all, read with errors that name them; and a lock for one run per folder."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from confide.errors import ConfideError

NAMES = ("smollm2", "geography", "arithmetic")
"""What is bundled goes by these names, also where there is a folder or file called so."""

_MERGE = "tag:yaml.org,2002:merge"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the whole new one, never half."""
    if path.is_dir():
        raise ConfideError(f"{path} is a folder, a file is wanted")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; a missing or undecodable file raises `ConfideError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfideError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise ConfideError(f"{path} is a folder, a file is wanted") from None
    except UnicodeDecodeError as error:
        raise ConfideError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file; a missing file or one of another format raises `ConfideError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise ConfideError(f"{path} does not exist")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid:
        raise ConfideError(f"{path} is not a Parquet file") from None
    return rows


def read_yaml_resource(package: str, name: str) -> Any:
    """Read a YAML file that is part of a package, such as ``("confide.tasks", "hub_tasks.yaml")``."""
    import yaml

    # The parser in C is ten times as fast; not every build of PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(resources.files(package).joinpath(name).read_text(encoding="utf-8"), loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file ({} for an empty one); another value or a key that is there twice is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key.value, str) and key.tag != _MERGE]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise ConfideError(f"{path}, line {node.start_mark.line + 1}: {twice} is there twice")
            return dict(super().construct_mapping(node, deep))

    try:
        data = yaml.load(read_text(path), Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or (str(error).splitlines() or ["nested too deeply"])[0]
        raise ConfideError(f"{path}{where}: not valid YAML ({problem})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfideError(f"{path} must map names to values, as in `seed: 1`")
    return data


def beside(config: Path, value: str) -> Path:
    """A path that stands in a configuration file: a relative one starts at the folder of that file.

    Raises:
        ConfideError: there is nothing, but something at the same path from the working folder.
    """
    path = Path(value).expanduser()
    found = config.parent / path
    if not found.exists() and path.exists():
        raise ConfideError(
            f"{config}: {value} is looked for beside this file, as {found}, and is not there; to mean "
            f"{path.absolute()} in the working folder, write that whole path"
        )
    return found


def beside_or_name(config: Path, value: str) -> str:
    """What stands in a configuration file for a path or a name: a path, where there is such a file or folder."""
    if value in NAMES or not ((config.parent / value).exists() or Path(value).expanduser().exists()):
        return value
    return str(beside(config, value))


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for this run alone; raises `ConfideError` while another run holds it.

    The lock is the operating system's, so a killed run leaves nothing behind that blocks the next one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfideError(f"{folder} is in use by another run") from None
        yield folder
