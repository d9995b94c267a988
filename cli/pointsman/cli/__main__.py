"""`python -m pointsman.cli` is the `pointsman` command."""

from pointsman.cli.main import main

main(prog_name="pointsman")
