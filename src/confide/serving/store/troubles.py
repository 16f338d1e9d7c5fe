"""What can be wrong with the database, as a few words, and one line a minute about it in the log."""

from __future__ import annotations

import logging
import time

from sqlalchemy import exc

log = logging.getLogger("confide.serving")

_LOG_S = 60.0

# The database itself is away: what was wrong is not one row, so trying the rows one by one would not help.
AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)

_SQLITE = {
    "FULL": "disk_full",
    "READONLY": "read_only",
    "PERM": "permission",
    "AUTH": "permission",
    "BUSY": "locked",
    "LOCKED": "locked",
    "IOERR": "io_error",
    "CANTOPEN": "missing",
    "CORRUPT": "corrupt",
    "NOTADB": "corrupt",
    "INTERRUPT": "slow",
}
_POSTGRESQL = {
    "53100": "disk_full",
    "25006": "read_only",
    "42501": "permission",
    "28": "permission",
    "3D000": "missing",
    "42P01": "missing",
    "55P03": "locked",
    "40P01": "locked",
    "57014": "slow",
    "25P03": "slow",
    "53": "overloaded",
    "58": "io_error",
    "XX": "corrupt",
}


class StoreError(Exception):
    """The database failed: what was asked for is not committed, and ``trouble`` is the class of reason.

    missing, disk_full, read_only, permission, locked, io_error, corrupt, slow, overloaded, unreachable, newer_schema,
    closed, or failed where it is one row that was refused. If the connection broke, it may be committed after all; such
    a row is marked as not served when the database is back.
    """

    def __init__(self, trouble: str, told: str):
        super().__init__(told)
        self.trouble = trouble


def trouble_of(error: Exception) -> tuple[str, str]:
    """The class of reason, and what went wrong in one line that holds no value of a row and no password."""
    if not isinstance(error, exc.SQLAlchemyError):
        return "failed", type(error).__name__
    if not isinstance(error, AWAY):
        state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
        kind = type(error.orig).__name__ if isinstance(error, exc.DBAPIError) else type(error).__name__
        return _by_state(state, "failed"), kind
    # A message about the connection or the file is safe; one about a row would quote it.
    told = first_line(error)[:200]
    if isinstance(error, exc.TimeoutError):
        return "slow", told
    orig = getattr(error, "orig", None)
    name = getattr(orig, "sqlite_errorname", None)
    if name is not None:
        return _SQLITE.get(name.removeprefix("SQLITE_").partition("_")[0], "failed"), told
    return _by_state(getattr(orig, "sqlstate", None) or "", "unreachable"), told


def _by_state(state: str, otherwise: str) -> str:
    return _POSTGRESQL.get(state, _POSTGRESQL.get(state[:2], otherwise))


def first_line(error: exc.SQLAlchemyError) -> str:
    """The first line of what the database said."""
    return str(error.orig if isinstance(error, exc.DBAPIError) else error).strip().split("\n")[0]


class Troubles:
    """The trouble of the moment, noted by every commit, and told in the log once a minute for each class."""

    def __init__(self) -> None:
        self.now: str | None = None
        self.good = time.monotonic()  # when the last commit succeeded
        self._told: dict[str, tuple[float, int]] = {}

    def end(self) -> None:
        """Note a commit that succeeded."""
        self.good = time.monotonic()
        if self.now is not None:
            log.warning("the decision store can be written again")
        self.now = None

    def note(self, error: StoreError) -> None:
        """Note that nothing can be written now."""
        self.now = error.trouble
        told, more = self._told.get(error.trouble, (-_LOG_S, 0))
        if time.monotonic() - told < _LOG_S:
            self._told[error.trouble] = (told, more + 1)
            return
        self._told[error.trouble] = (time.monotonic(), 0)
        again = f" ({more} times more since this was last said)" if more else ""
        log.error("%s: %s%s; requests get 503 meanwhile", error.trouble, error, again)
