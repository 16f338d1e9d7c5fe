"""Each test of the store that asks for a ``url`` runs on SQLite and on a real PostgreSQL."""

from postgres import postgres as postgres
from postgres import raw as raw
from postgres import url as url
