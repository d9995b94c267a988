"""Experiments on decisions, each a table and a plot: `python -m decisions NAME --data DIR`.

DIR holds traces/, lengths/ and profiles/, as described in the README files beside them. docs/results.md shows what came out.
"""

import argparse
import sys
from pathlib import Path

from decisions import capacity, distserve, dynamo_agreement, peers, ranking, splitwise
from decisions.plots import draw, draw_all
from decisions.runs import runs

FROM_PAPERS = {"splitwise": splitwise.compare, "distserve": distserve.place, "ranking": ranking.rank}


def main() -> None:
    parser = argparse.ArgumentParser(description="Experiments on decisions.")
    parser.add_argument("experiment", choices=(*FROM_PAPERS, "capacity", "peers", "dynamo", "plots"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Simulations at a time.")
    parser.add_argument("--seeds", type=int, default=len(peers.SEEDS), help="Runs of each case of `peers`.")
    arguments = parser.parse_args()
    missing = [name for name in ("traces", "lengths", "profiles") if not (arguments.data / name).is_dir()]
    if missing:
        parser.error(
            f"--data {arguments.data}: no {' and no '.join(f'{name}/' for name in missing)} there; give the folder that has "
            "them, as in make bench-decisions DATA=../shared/data"
        )
    try:
        run(arguments)
    except KeyboardInterrupt:
        print(
            "interrupted: no report was written; what has run is remembered in build/decisions",
            file=sys.stderr,
        )
        sys.exit(130)


def run(arguments: argparse.Namespace) -> None:
    if arguments.experiment == "plots":
        print(*draw_all(), sep="\n")
        return
    if arguments.experiment in FROM_PAPERS:
        FROM_PAPERS[arguments.experiment](arguments.data, arguments.jobs)
        print(draw(arguments.experiment))
        return
    if arguments.experiment == "dynamo":
        dynamo_agreement.agree(arguments.data)
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
