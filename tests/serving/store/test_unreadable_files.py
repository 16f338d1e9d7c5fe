"""Files of the store that this process may not look at for a while: known before a model is asked, and it passes."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from confide.serving.store import store as store_module
from confide.serving.store.database import Database
from confide.serving.store.store import Store
from decision_rows import decision


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def watched(path: Path) -> Store:
    store = Store.open(f"sqlite:///{path}")
    await store.add(decision())
    store.watch()
    return store


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, locked = tmp_path / "confide.db", os.stat, False

    def stat(file: Any, *args: Any, **more: Any) -> os.stat_result:  # the superuser may enter every folder
        if locked and str(file).startswith(str(path)):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **more)

    async def main() -> None:
        nonlocal locked
        store = await watched(path)
        locked = True
        await until(lambda: store.trouble == "permission")
        locked = False
        await until(lambda: store.trouble is None)
        await store.add(decision(id="dec_after"))
        await store.close()

    monkeypatch.setattr(os, "stat", stat)
    asyncio.run(main())


def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, real = 0, Database.check_files

    def check_files(database: Database) -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise RuntimeError("something new")
        real(database)

    async def main() -> None:
        store = await watched(tmp_path / "confide.db")
        monkeypatch.setattr(Database, "check_files", check_files)
        await until(lambda: looks > 5)
        (tmp_path / "confide.db").unlink()
        await until(lambda: store.trouble == "missing")
        await store.close()

    asyncio.run(main())
