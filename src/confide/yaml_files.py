"""YAML files: strictly read, and what the paths in them start at."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import is_stream, read_text

NAMES = ("smollm2", "geography", "arithmetic", "extraction")
"""What is bundled goes by these names, also where there is a folder or file called so."""

_SQLITE = "sqlite:///"
_MERGE = "tag:yaml.org,2002:merge"


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

    A configuration that comes through a pipe has no folder: there it starts at the working folder.

    Raises:
        ConfideError: there is nothing, but something at the same path from the working folder.
    """
    path = Path(value).expanduser()
    found = _folder(config) / path
    if not found.exists() and path.exists():
        raise ConfideError(
            f"{config}: {value} is looked for beside this file, as {found}, and is not there; to mean "
            f"{path.absolute()} in the working folder, write that whole path"
        )
    return found


def beside_or_name(config: Path, value: str) -> str:
    """What stands in a configuration file for a path or a name: a path, where there is such a file or folder."""
    if value in NAMES or not ((_folder(config) / value).exists() or Path(value).expanduser().exists()):
        return value
    return str(beside(config, value))


def store_beside(config: Path, url: str) -> str:
    """The address of a store that stands in a configuration file; a SQLite file is a path (`beside`)."""
    file = url.removeprefix(_SQLITE)
    return url if file == url or file in ("", ":memory:") else f"{_SQLITE}{beside(config, file)}"


def _folder(config: Path) -> Path:
    return Path() if is_stream(config) else config.parent
