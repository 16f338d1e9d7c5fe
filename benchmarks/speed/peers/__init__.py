"""The peers' sides, each run in an environment of its own, where there is no confide."""
