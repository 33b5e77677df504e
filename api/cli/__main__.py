"""`python -m api.cli` is the `corridor` command."""

from api.cli.main import main

main()
