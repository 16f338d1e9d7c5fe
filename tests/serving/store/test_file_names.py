"""Names of the store's file: whatever stands in them, that file and no other is opened."""

import asyncio
import stat
from pathlib import Path
from urllib.parse import unquote

import pytest

from confide.serving.store.store import Store
from decision_rows import decision
from stores import all_rows


@pytest.mark.parametrize(
    "name", ["a#b.db", "a b.db", "a%25b.db", "é.db", "a+b&c;d.db", "a'b.db", "x:y@z.db", "a=b,c.db"]
)
def test_the_file_that_was_named_is_the_store(tmp_path: Path, name: str) -> None:
    async def main(id: str) -> int:
        store = Store.open(f"sqlite:///{tmp_path / name}")
        await store.add(decision(id=id))
        rows = await store.run(all_rows)
        await store.close()
        return len(rows)

    assert [asyncio.run(main(id)) for id in ("dec_1", "dec_2")] == [1, 2]
    (found,) = tmp_path.iterdir()
    assert found.name == unquote(name)  # what is given is a URL
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
