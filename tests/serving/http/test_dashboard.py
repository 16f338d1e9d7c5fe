"""The dashboard: hostile text stays text, nothing is loaded, and a screen reader gets what the eye gets."""

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from confide.serving.http.dashboard import WINDOWS, content_security_policy, dashboard_page, milliseconds, money
from confide.serving.monitor.promises import Promise
from confide.serving.monitor.snapshot import build
from confide.serving.store.store import Store
from decision_rows import decision

PROMISE = Promise("pol_0123456789ab", "stack", "max_risk", 0.1, 0.95, 0.06, 0.6, 1000)
NOW = 1_700_500_000.0


def page_of(tmp_path: Path, rows: list[Any], *, window_s: float | None = None, **options: Any) -> str:
    async def run() -> dict[str, Any]:
        store = Store.open(f"sqlite:///{tmp_path}/confide.db")
        for row in rows:
            await store.add(row)
            if row.domain == "complained":
                await store.feedback(row.id, False)
        found = await store.run(lambda connection: build(connection, PROMISE, NOW, window_s))
        await store.close()
        return found

    return dashboard_page(asyncio.run(run()), **options)


class Seen(HTMLParser):
    """Elements, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text += data


def traffic(n: int = 60) -> list[Any]:
    return [
        decision(
            created=NOW - 3600 * (n - i),
            decision="escalate" if i % 3 == 0 else "answer",
            served="expert" if i % 3 == 0 else "small",
            audit=i % 2 == 0,
            audit_probability=0.5,
            agreed=i % 10 != 4 if i % 2 == 0 else None,
        )
        for i in range(n)
    ]


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "&lt;b&gt;",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, words: str) -> None:
    row = decision(
        id=words,
        created=NOW,
        domain=words,
        question=words,
        small_answer=words,
        expert_answer=words,
        answered_by=words,
        error=words,
        source=words,
        probability=None,
        decision=words,
        served=words,
    )
    plain, hostile = Seen(page_of(tmp_path, [decision(created=NOW)])), Seen(page_of(tmp_path, [row]))
    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in plain.elements} | {
        "dl",
        "dt",
        "dd",
        "h2",
        "ul",
        "li",
    }
    assert "script" not in {tag for tag, _ in hostile.elements}
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert words.replace("\u202e", "�") in hostile.text
    assert "49" not in re.findall(r"7 \* 7|\b49\b", hostile.text)


def test_texts_are_shown_only_where_stored(tmp_path: Path) -> None:
    page = page_of(tmp_path, [decision(created=NOW), decision(created=NOW - 1, question="Why?", small_answer="So.")])
    assert Seen(page).text.count("Question") == 1


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    seen = Seen(page_of(tmp_path, traffic()))
    assert {tag for tag, _ in seen.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    links = [attributes["href"] for _, attributes in seen.elements if "href" in attributes]
    assert links
    assert all(link is not None and link.startswith("?") for link in links)
    assert not any("style" in attributes or "src" in attributes for _, attributes in seen.elements)


def test_the_header_allows_the_style_sheet_of_the_page_and_nothing_else(tmp_path: Path) -> None:
    style = re.findall(r"<style>(.*?)</style>", page_of(tmp_path, []), re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in content_security_policy()
    assert "default-src 'none'" in content_security_policy()
    assert "unsafe" not in content_security_policy()


def test_words_come_first_and_pictures_have_words(tmp_path: Path) -> None:
    page = page_of(tmp_path, traffic())
    seen = Seen(page)
    assert page.index('class="verdict') < page.index("<svg") < page.index("Latest decisions")
    charts = [attributes for tag, attributes in seen.elements if tag == "svg"]
    assert len(charts) == 4
    assert all(attributes["role"] == "img" and len(attributes["aria-label"] or "") > 40 for attributes in charts)
    ids = {attributes["id"] for _, attributes in seen.elements if "id" in attributes}
    named = [attributes[key] for _, attributes in seen.elements for key in ("aria-labelledby", "aria-describedby")
             if key in attributes]  # fmt: skip
    assert set(named) <= ids
    assert dict(seen.elements)["html"] == {"lang": "en"}
    scrolled = [attributes for _, attributes in seen.elements if attributes.get("class") == "scroll"]
    assert all(attributes["tabindex"] == "0" for attributes in scrolled)
    assert all("scope" in attributes for tag, attributes in seen.elements if tag == "th")


def test_what_is_shown(tmp_path: Path) -> None:
    rows = [*traffic(), decision(created=NOW, domain="complained", served="unverified", raw=None, probability=None)]
    text = Seen(page_of(tmp_path, rows)).text
    for words in (
        "Whether the promise holds cannot be said yet: 4 of 20 audited answers were wrong",
        "1 of the last 61 requests had no confidence.",
        "feedback on the served answer: wrong",
        "the small answer, unverified",
        "no confidence",
        "audit: agrees",
        "pol_0123456789ab",
    ):
        assert words in text
    assert "Observe mode" not in text


def test_observe_mode_is_marked(tmp_path: Path) -> None:
    assert "Observe mode." in Seen(page_of(tmp_path, [decision(created=NOW, mode="observe")])).text


def test_windows_and_refresh(tmp_path: Path) -> None:
    page = page_of(tmp_path, traffic(), window_s=WINDOWS["day"])
    assert '<meta http-equiv="refresh" content="60">' in page
    assert '<a href="?window=day" aria-current="page">last day</a>' in page
    assert "?window=day&amp;refresh=off" in page
    still = page_of(tmp_path, [], window_s=WINDOWS["day"], refresh_s=None)
    assert "http-equiv" not in still
    assert "?window=week&amp;refresh=off" in still


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    seen = Seen(page_of(tmp_path, []))
    assert "No request has been routed yet." in seen.text
    assert "svg" not in {tag for tag, _ in seen.elements}


# -- in a browser -------------------------------------------------------------------------------------------


@contextmanager
def serving(page: Any, policy: str | None) -> Iterator[tuple[int, list[str]]]:
    """A server of one page; ``page`` gets the port, the list fills with the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = page(self.server.server_port).encode() if self.path == "/" else b""  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


def browse(port: int, folder: Path) -> str:
    """The page's document after the browser has had time to run what it would run."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("the dashboard is not opened in a browser: chromium is not installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    budget = ["--virtual-time-budget=3000", "--dump-dom", f"--user-data-dir={folder}/chromium"]
    command = [browser, *options, *budget, f"http://127.0.0.1:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def attack(port: int) -> str:
    return (
        f"<script>document.title='taken';fetch('/stolen')</script><img src='http://127.0.0.1:{port}/pixel'>"
        "<style>@import '/sheet'</style>"
    )


def test_a_script_in_a_question_does_not_run_and_nothing_is_asked_for(tmp_path: Path) -> None:
    def page(port: int) -> str:
        words = attack(port)
        return page_of(tmp_path, [*traffic(), decision(created=NOW, question=words, small_answer=words, domain=words)])

    with serving(page, content_security_policy()) as (port, asked):
        document = browse(port, tmp_path)
    assert "&lt;script&gt;" in document
    assert "<title>taken" not in document
    assert [path for path in asked if path != "/favicon.ico"] == ["/"]


def test_the_browser_would_tell(tmp_path: Path) -> None:
    """The same attack on a page that does not escape: without this, the test above could not fail."""
    with serving(lambda port: f"<title>x</title><p>{attack(port)}", None) as (port, asked):
        document = browse(port, tmp_path)
    assert "<title>taken" in document
    assert {"/stolen", "/pixel"} <= set(asked)


def test_the_policy_stops_what_escaping_would_miss(tmp_path: Path) -> None:
    with serving(lambda port: f"<title>x</title><p>{attack(port)}", content_security_policy()) as (port, asked):
        document = browse(port, tmp_path)
    assert "<title>taken" not in document
    assert [path for path in asked if path != "/favicon.ico"] == ["/"]


def test_words_for_numbers() -> None:
    assert [money(x) for x in (0, 0.00123, 12.3456, -3, 1234567)] == [
        "0.00",
        "0.0012",
        "12.35",
        "−3.00",
        "1,234,567.00",
    ]
    assert [milliseconds(x) for x in (3.4, 999, 1500)] == ["3 ms", "999 ms", "1.5 s"]
