"""``python -m confide``: the command line."""

from confide.cli.main import main

main()
