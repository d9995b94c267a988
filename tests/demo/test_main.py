"""The command's front door: quick, and true to what is behind it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from pointsman.cli.main import COMMANDS, main

HELP = """
import sys
from pointsman.cli.main import main
main(["--help"], standalone_mode=False)
print(sorted(name for name in sys.modules if name.startswith("pointsman.")))
"""


def test_help_imports_no_subcommand() -> None:
    output = subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True, text=True).stdout
    assert output.splitlines()[-1] == "['pointsman.cli', 'pointsman.cli.main']"
    assert all(name in output and command.summary[:30] in output for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: main {name}" in result.output


def test_an_unknown_subcommand_is_named() -> None:
    result = CliRunner().invoke(main, ["replayy"])
    assert result.exit_code == 2
    assert "No such command 'replayy'" in result.output
