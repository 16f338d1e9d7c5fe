"""Draw the rooms of `src/confide` from its real imports, into docs/explanation/architecture.md.

Run it as `python docs/draw_architecture.py`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
PACKAGE = ROOT / "src" / "confide"
START, END = "<!-- picture -->\n```text\n", "```\n<!-- /picture -->"
WIDTH = 14


def rooms() -> dict[str, list[Path]]:
    """Name of each room (a package or a module right below `confide`) → its files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts not in (("__init__",), ("__main__",)):
            found.setdefault(parts[0], []).append(path)
    return found


def imports(path: Path) -> set[str]:
    """The rooms that a file imports from, imports inside functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] if node.module != "confide" else [f"confide.{a.name}" for a in node.names]
            names |= {module.split(".")[1] for module in modules if module.startswith("confide.")}
    return names


def arrows() -> dict[str, set[str]]:
    """Room → the other rooms that it imports from."""
    files = rooms()
    return {room: {n for f in paths for n in imports(f) if n in files} - {room} for room, paths in files.items()}


def floors(uses: dict[str, set[str]]) -> dict[str, int]:
    """Room → its floor: one above the highest room that it uses. Raises `ValueError` for a circle."""
    found: dict[str, int] = {}
    while len(found) < len(uses):
        ready = [room for room, below in uses.items() if room not in found and below <= set(found)]
        if not ready:
            raise ValueError(f"a circle among {', '.join(sorted(set(uses) - set(found)))}")
        found |= {room: 1 + max((found[b] for b in uses[room]), default=0) for room in ready}
    return found


def direct(uses: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no other path of arrows implies."""

    def below(room: str) -> set[str]:
        return uses[room] | {deep for near in uses[room] for deep in below(near)}

    return {room: {r for r in near if not any(r in below(other) for other in near)} for room, near in uses.items()}


def picture() -> str:
    """The rooms by floor, from the top down, with their arrows."""
    uses = arrows()
    at, shown = floors(uses), direct(uses)
    lines = []
    for floor in range(max(at.values()), 0, -1):
        for room in sorted(room for room in at if at[room] == floor):
            to = ", ".join(sorted(shown[room], key=lambda r: (-at[r], r)))
            lines.append(f"{floor:>2}  {room:<{WIDTH}}{'──▶ ' + to if to else ''}".rstrip())
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def drawn(page: str) -> str:
    """The page with the picture as the imports are now."""
    before, rest = page.split(START)
    return before + START + picture() + END + rest.split(END)[1]


def main() -> None:
    """Write the page."""
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
