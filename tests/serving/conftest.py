"""What all tests of the router share."""

import pytest

import confide.serving.store.database as database_module
import confide.serving.store.store as store_module

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def patient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no trouble of the store; tests of its limits set their own."""
    monkeypatch.setattr(store_module, "READ_S", PATIENCE_S)
    monkeypatch.setattr(store_module, "WRITE_S", PATIENCE_S)
    monkeypatch.setattr(database_module, "_STATEMENT_S", PATIENCE_S)
