"""Experiments on decisions, each a table and a plot: `python -m decisions NAME --data DIR`.

DIR holds traces/ and profiles/, as described in the README files beside them. docs/results.md shows what came out.
"""

import argparse
from pathlib import Path

from decisions import capacity, dynamo_agreement, peers, ranking
from decisions.plots import draw_all
from decisions.runs import runs


def main() -> None:
    parser = argparse.ArgumentParser(description="Experiments on decisions.")
    parser.add_argument("experiment", choices=("capacity", "peers", "ranking", "dynamo", "plots"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Simulations at a time.")
    parser.add_argument("--seeds", type=int, default=len(peers.SEEDS), help="Runs of each case of `peers`.")
    arguments = parser.parse_args()
    if arguments.experiment == "plots":
        print(*draw_all(), sep="\n")
        return
    if arguments.experiment in ("ranking", "dynamo"):
        (ranking.rank if arguments.experiment == "ranking" else dynamo_agreement.agree)(arguments.data)
        return
    with runs(arguments.jobs) as pool:
        if arguments.experiment == "capacity":
            capacity.find_capacities(arguments.data / "traces", pool, lambda line: print(line, flush=True))
        else:
            seeds = tuple(range(1, arguments.seeds + 1))
            for row in peers.compare_peers(arguments.data / "traces", pool, capacity.SETTINGS, seeds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
