"""Write the words of the report into docs/reference/glossary.md, from `confide.report.terms`.

Run it as `python docs/draw_glossary.py`.
"""

from __future__ import annotations

from pathlib import Path

from confide.report.terms import TERMS

PAGE = Path(__file__).parent / "reference" / "glossary.md"
START, END = "<!-- terms -->\n", "<!-- /terms -->"


def drawn(page: str) -> str:
    """The page with the table of the terms as they are."""
    before, rest = page.split(START)
    _, after = rest.split(END)
    rows = "".join(f"| {term} | {meaning} |\n" for term, meaning in TERMS.items())
    return f"{before}{START}| term | meaning |\n|---|---|\n{rows}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
