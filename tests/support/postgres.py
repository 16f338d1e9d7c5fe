"""A throw-away PostgreSQL server for tests, from Debian's package: unix socket in a temporary folder, no network."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url

REQUIRED = os.environ.get("CONFIDE_REQUIRE_POSTGRES") == "1"


def _binaries() -> Path | None:
    """The folder of the newest server's programs, None where none is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def _missing(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"CONFIDE_REQUIRE_POSTGRES=1, but {reason}", pytrace=False)
    pytest.skip(f"PostgreSQL is not tested: {reason}")


class Server:
    """A running PostgreSQL server that tests may stop and start."""

    def __init__(self, binaries: Path, folder: Path, prefix: list[str]):
        self.binaries, self.folder, self.prefix = binaries, folder, prefix
        self._databases = 0

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.binaries / program), *arguments]
        # A file, because the server that pg_ctl starts would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd=self.folder, stdout=output, stderr=output, timeout=60)
            output.seek(0)
            assert done.returncode == 0, f"{program} failed: {output.read()}"

    def create(self) -> None:
        self._call("initdb", "-D", f"{self.folder}/data", "-U", "confide", "-A", "trust", "-E", "UTF8", "-N")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"confide_{self._databases}"
        self._call("createdb", "-h", str(self.folder), "-U", "confide", name)
        return f"postgresql://confide@/{name}?host={self.folder}"


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server and all its processes stand still, as on a machine that hangs."""
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    processes = [first, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; skips (or fails with CONFIDE_REQUIRE_POSTGRES=1) where the package is missing."""
    binaries = _binaries()
    if binaries is None:
        _missing("its programs are not installed (Debian: apt install postgresql)")
        raise AssertionError
    # The path of a unix socket may have about a hundred characters: no deep folder of pytest's.
    folder = Path(tempfile.mkdtemp(prefix="confide-pg-"))
    prefix: list[str] = []
    if getpass.getuser() == "root":  # which the server refuses to run as
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            _missing("there is no user postgres to run it")
        prefix = ["runuser", "-u", "postgres", "--"]
    server = Server(binaries, folder, prefix)
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not hold anything yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/confide.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def raw(url: str) -> Iterator[Connection]:
    """A connection of the test's own, past the store."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg") if "postgresql" in url else url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
