"""Experiments on decisions, each a table and a plot: `python -m decisions NAME --data DIR`.

DIR holds traces/ and profiles/, as described in the README files beside them. docs/results.md shows what came out.
"""

import argparse
from pathlib import Path

from decisions import capacity
from decisions.runs import runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Experiments on decisions.")
    parser.add_argument("experiment", choices=("capacity",))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Simulations at a time.")
    arguments = parser.parse_args()
    with runs(arguments.jobs) as pool:
        if arguments.experiment == "capacity":
            capacity.find_capacities(arguments.data / "traces", pool, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
