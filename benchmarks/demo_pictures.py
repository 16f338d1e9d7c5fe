"""The pictures of the first page, light and dark: the path of a question, and ``confide ask`` in a terminal."""

from __future__ import annotations

from html import escape
from io import StringIO
from itertools import pairwise

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from benchmarks.common import ROOT, Json
from confide.files import write_text

PICTURES = ROOT / "docs" / "pictures"
INK = {
    "light": {"ink": "#1f2328", "soft": "#59636e", "line": "#818b98", "box": "#f6f8fa", "edge": "#d1d9e0"},
    "dark": {"ink": "#f0f6fc", "soft": "#9198a1", "line": "#656c76", "box": "#151b23", "edge": "#3d444d"},
}
TINT = {
    "light": {"answer": "#1a7f37", "escalate": "#9a6700", "abstain": "#59636e"},
    "dark": {"answer": "#3fb950", "escalate": "#d29922", "abstain": "#9198a1"},
}
WIDTH, HEIGHT = 880, 264
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
TERMINAL = {
    "light": TerminalTheme((246, 248, 250), (31, 35, 40), [(31, 35, 40)] * 8, [(89, 99, 110)] * 8),
    "dark": TerminalTheme((21, 27, 35), (240, 246, 252), [(240, 246, 252)] * 8, [(145, 152, 161)] * 8),
}
TERMINAL_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
aria-label="confide ask in a terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<rect width="{width}" height="{height}" rx="8" fill="FILL"/>
<g transform="translate(24, 20)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""What Rich fills in, without its window and without a font from elsewhere."""


def draw(found: Json) -> None:
    """Draw both pictures from what a run of the demo found."""
    PICTURES.mkdir(exist_ok=True)
    for theme in INK:
        write_text(PICTURES / f"path-{theme}.svg", path_picture(found, theme))
        write_text(PICTURES / f"ask-{theme}.svg", ask_picture(found["asked"], theme))


def path_picture(found: Json, theme: str) -> str:
    """The path of a question with the figures of a run, as SVG.

    Args:
        theme: ``light`` or ``dark``.
    """
    promise, (check,) = found["promise"], found["fresh"]["checks"].values()
    kept = check["kept"] / check["n"]
    auroc = found["auroc"]["stack"]["value"]
    boxes = [
        (16, 140, "Question", [f"{check['n']} new ones,", "geography"]),
        (196, 168, "Small model", ["135M parameters,", f"{found['accuracy']:.0%} of answers right"]),
        (404, 204, "Confidence", ["a right answer above a", f"wrong one {auroc:.0%} of the time"]),
    ]
    ends = [
        ("answer", f"Answer · {kept:.0%}", f"{check['observed']:.0%} wrong; promised: ≤ {promise['max_risk']:.0%}"),
        ("escalate", f"Escalate · {1 - kept:.0%}", "to something stronger"),
        ("abstain", "Abstain", "where your policy says so"),
    ]
    said = " ".join(f"{title}: {' '.join(lines)}." for _, _, title, lines in boxes)
    said += " " + " ".join(f"{title}, {line}." for _, title, line in ends)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="{FONT}">',
        f"<title>{escape(said)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{INK[theme]["line"]}"/></marker></defs>',
    ]
    middle = HEIGHT // 2
    for x, width, title, lines in boxes:
        parts += _box(x, middle - 42, width, 84, title, lines, INK[theme]["ink"], theme)
    for (x, width, *_), (following, *_) in pairwise(boxes):
        parts.append(_arrow(x + width + 4, middle, following - 4, middle, theme))
    left = 660
    for number, (kind, title, line) in enumerate(ends):
        y = 14 + 84 * number
        parts += _box(left, y, WIDTH - left - 4, 68, title, [line], TINT[theme][kind], theme)
        parts.append(_arrow(404 + 204 + 4, middle, left - 4, y + 34, theme))
    return "\n".join([*parts, "</svg>", ""])


def _box(x: int, y: int, width: int, height: int, title: str, lines: list[str], ink: str, theme: str) -> list[str]:
    colours = INK[theme]
    top = y + height / 2 - 9 * len(lines)
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colours["box"]}" '
        f'stroke="{colours["edge"]}"/>',
        f'<text x="{x + 14}" y="{top + 4:g}" font-size="16" font-weight="600" fill="{ink}">{escape(title)}</text>',
        *(
            f'<text x="{x + 14}" y="{top + 25 + 18 * number:g}" font-size="13" fill="{colours["soft"]}">'
            f"{escape(line)}</text>"
            for number, line in enumerate(lines)
        ),
    ]


def _arrow(x: float, y: float, to_x: float, to_y: float, theme: str) -> str:
    bend = (x + to_x) / 2
    return (
        f'<path d="M{x:g} {y:g}C{bend:g} {y:g} {bend:g} {to_y:g} {to_x:g} {to_y:g}" fill="none" '
        f'stroke="{INK[theme]["line"]}" stroke-width="1.5" marker-end="url(#tip)"/>'
    )


def ask_picture(asked: dict[str, str], theme: str) -> str:
    """What ``confide ask`` printed, as a terminal's picture in SVG.

    Args:
        asked: what was printed, by question.
        theme: ``light`` or ``dark``.
    """
    console = Console(record=True, width=86, file=StringIO(), highlight=False)
    for question, printed in asked.items():
        console.print(Text(f'$ confide ask "{question}" --policy policy.json', style="bold"))
        console.print(Text(printed.rstrip()))
    frame = TERMINAL_FRAME.replace("FILL", "#{:02x}{:02x}{:02x}".format(*TERMINAL[theme].background_color))
    return console.export_svg(theme=TERMINAL[theme], code_format=frame, unique_id="ask")
