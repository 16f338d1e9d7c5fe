"""The store: every decision as a row in a database."""
