from collections.abc import Iterator

import pytest

from browser import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests of the report; see `browser.find` for machines without one."""
    with Browser.start() as started:
        yield started
