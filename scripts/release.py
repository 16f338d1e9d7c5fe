"""Build a release into dist/ and check it: version, changelog, tag, and what the archives hold.

Run it as `python scripts/release.py` (`--untagged` before there is a tag). It uploads nothing.
"""

from __future__ import annotations

import argparse
import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def version() -> str:
    """The version that the package says it has."""
    text = (ROOT / "src" / "confide" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit("src/confide/__init__.py has no __version__")
    return found[1]


def changelog_problem(text: str, wanted: str) -> str | None:
    """What is wrong with a changelog's newest section, which is to be of the version ``wanted`` and have a date."""
    found = re.search(r"^## \[(.+?)\] - (.+)$", text, re.MULTILINE)
    if found is None or found[1] != wanted:
        return f"CHANGELOG.md: the newest section is of {found[1] if found else 'nothing'}, not of {wanted}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        return f"CHANGELOG.md: {wanted} has no date, but {found[2]!r}"
    return None


def tag_problem(wanted: str) -> str | None:
    """What is wrong with the tag of this commit."""
    command = ["git", "tag", "--points-at", "HEAD"]
    tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return None if f"v{wanted}" in tags else f"this commit has no tag v{wanted}, but {', '.join(tags) or 'none'}"


def wheel_problems(wheel: Path, wanted: str) -> list[str]:
    """What is wrong with a wheel: files besides the package, files that are missing, its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = email.message_from_bytes(archive.read(f"confide-{wanted}.dist-info/METADATA"))
    package = ROOT / "src" / "confide"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    own = {path.relative_to(ROOT / "src").as_posix() for path in files}
    inside = {name for name in names if not name.startswith(f"confide-{wanted}.dist-info/")}
    problems = [f"{wheel.name} lacks {name}" for name in sorted(own - inside)]
    problems += [f"{wheel.name} holds {name}" for name in sorted(inside - own)]
    problems += [f"{wheel.name} has no {field}" for field in ("Summary", "License-Expression") if not about[field]]
    if about["Version"] != wanted:
        problems.append(f"{wheel.name} says that it is {about['Version']}")
    if not about.get_payload():
        problems.append(f"{wheel.name} has no description")
    return problems


def sdist_problems(sdist: Path, wanted: str) -> list[str]:
    """What is missing in a source archive."""
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    needed = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "src/confide/__init__.py")
    return [f"{sdist.name} lacks {name}" for name in needed if f"confide-{wanted}/{name}" not in names]


def main() -> None:
    """Build and check; ends with a list of what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--untagged", action="store_true", help="neither a tag nor a date in the changelog is needed")
    untagged = parser.parse_args().untagged
    wanted = version()
    shutil.rmtree(DIST, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT)], check=True)
    problems = wheel_problems(DIST / f"confide-{wanted}-py3-none-any.whl", wanted)
    problems += sdist_problems(DIST / f"confide-{wanted}.tar.gz", wanted)
    if not untagged:
        changelog = changelog_problem((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), wanted)
        problems += filter(None, [changelog, tag_problem(wanted)])
    if problems:
        sys.exit("\n".join(problems))
    print(f"dist/ holds confide {wanted}")


if __name__ == "__main__":
    main()
