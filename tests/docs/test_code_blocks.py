"""Every code block of the README and of the tutorials runs, and prints about what the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from page_blocks import PageError, read_page
from page_runs import ROOT, BrokenBlockError, PageRuns, commands, unlike

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted((DOCS / "tutorials").glob("*.md"))]
PAGES += [path for path in sorted(DOCS.rglob("*.md")) if path not in PAGES and "<!-- test: run -->" in path.read_text()]
RUN = ("shell", "python")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageRuns]:
    folder = tmp_path_factory.mktemp("pages")
    with commands(folder) as binaries:
        yield PageRuns(folder, binaries)


@pytest.mark.model
@pytest.mark.timeout(1800)  # a busy machine
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_runs_and_prints_what_the_page_shows(runs: PageRuns, page: Path) -> None:
    runs.run(page)


def test_most_blocks_are_run() -> None:
    blocks = [block for page in PAGES for block in read_page(page).blocks if block.kind in RUN]
    skipped = [block for block in blocks if block.skip]
    assert len(blocks) - len(skipped) >= 20
    assert len(skipped) <= len(blocks) / 3, [block.skip for block in skipped]


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ("```bash\nconfide annotate --no-such-flag\n```", "ended with 2"),
        ("```bash\nfalse\ntrue\n```", "ended with 1"),
        ("```\nconfide no-such-verb\n```", "ended with 2"),
        ("```python\nimport confide\n\nconfide.no_such_name\n```", "AttributeError"),
        ("```bash\nconfide serve --config missing.yaml\n```", "did not start"),
        ("```bash\necho one answer\n```\n\n```text\nthree different questions\n```", "three different questions"),
        ("```console\n$ echo one answer\nthree different questions\n```", "three different questions"),
        ("<!-- test: exit 3, it says no -->\n```bash\nexit 1\n```", "not 3"),
    ],
)
def test_a_broken_block_fails(runs: PageRuns, tmp_path: Path, blocks: str, said: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{blocks}\n")
    with pytest.raises(BrokenBlockError, match=said):
        runs.run(page)
    after = tmp_path / "after.md"
    after.write_text("<!-- test: starts from page.md -->\n\n```bash\ntrue\n```\n")
    with pytest.raises(BrokenBlockError, match=said):
        runs.run(after)


@pytest.mark.parametrize(
    "told",
    [
        "<!-- test: skip -->\n```bash\ntrue\n```",
        "<!-- test: skip, -->\n```bash\ntrue\n```",
        "<!-- test: exit 1 -->\n```bash\nfalse\n```",
        "<!-- test: skip, no block follows -->",
        "<!-- test: please -->\n```bash\ntrue\n```",
        "<!-- test: 1500 -> 120 -->\n```bash\ntrue\n```",
    ],
)
def test_a_comment_without_reason_meaning_or_use_is_refused(tmp_path: Path, told: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(told + "\n")
    with pytest.raises(PageError):
        read_page(page)


def test_blocks_of_a_page_share_folder_names_and_servers(runs: PageRuns, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("""\
<!-- test: three -> two -->

```yaml title="serve.yaml"
mode: observe
small: {base_url: http://127.0.0.1:9/v1, model: none}
store: sqlite:///decisions.db
audit_share: 0
```

```bash
echo three > words.txt
confide serve --config serve.yaml
curl -s http://127.0.0.1:8000/healthz
```

```python
text = open("words.txt").read()
```

<!-- test: skip, there is no such machine -->
```bash
exit 1
```

```python
print("found", text)
```

```text
found 17
```
""")
    folder = runs.run(page)
    assert (folder / "words.txt").read_text() == "two\n"
    assert not (tmp_path / "words.txt").exists()
    assert runs.run(page) == folder


def test_output_is_compared_by_its_words() -> None:
    printed = "trained on 17 rows\nstack  AUROC 0.81 [0.7, 0.9]\n"
    assert unlike("trained on 1,200 rows\n… and more\n\nstack   AUROC 0.91\n", printed) is None
    assert unlike("forgot 3 rows entirely\n", printed) == "forgot 3 rows entirely"
