"""Experiments on decisions, each a table and a plot: `python -m decisions NAME --data DIR`.

DIR holds traces/, lengths/ and profiles/, as described in the README files beside them. docs/results.md shows what came out.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from decisions import (
    agents,
    agents_table,
    capacity,
    capacity_table,
    distserve,
    dynamo_agreement,
    peers,
    peers_table,
    ranking,
    splitwise,
    splitwise_table,
)
from decisions.plots import draw, draw_all
from decisions.runs import runs


@dataclass(frozen=True)
class Given:
    """What an experiment is told."""

    data: Path
    jobs: int
    """Simulations at a time."""
    seeds: int
    only: str
    """Settings are those whose trace begins so."""


def tell(line: object) -> None:
    print(line, flush=True)


def find_capacities(given: Given) -> None:
    with runs(given.jobs) as pool:
        capacity.find_capacities(given.data / "traces", pool, tell, given.only)
    tell(capacity_table.tables())


def compare_peers(given: Given) -> None:
    with runs(given.jobs) as pool:
        for line in peers.compare_peers(given.data / "traces", pool, given.seeds, given.only):
            tell(line)
    tell(peers_table.tables())
    tell(draw("peers"))


def compare_programs(given: Given) -> None:
    agents.compare(given.data, given.jobs)
    tell(agents_table.tables())
    tell(draw("agents"))


def compare_clusters(given: Given) -> None:
    splitwise.compare(given.data, given.jobs)
    tell(splitwise_table.tables())
    tell(draw("splitwise"))


def from_paper(name: str, experiment: Callable[[Path, int], object]) -> Callable[[Given], None]:
    def run(given: Given) -> None:
        experiment(given.data, given.jobs)
        tell(draw(name))

    return run


EXPERIMENTS: Mapping[str, Callable[[Given], object]] = {
    "splitwise": compare_clusters,
    "distserve": from_paper("distserve", distserve.place),
    "ranking": from_paper("ranking", ranking.rank),
    "agents": compare_programs,
    "capacity": find_capacities,
    "peers": compare_peers,
    "dynamo": lambda given: dynamo_agreement.agree(given.data),
    "plots": lambda _: print(*draw_all(), sep="\n"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Experiments on decisions.")
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Simulations at a time.")
    parser.add_argument("--seeds", type=int, default=peers.SEEDS, help="Windows of each case of `peers`.")
    parser.add_argument(
        "--only", default="", metavar="TRACE", help="Of `capacity` and `peers`: these traces."
    )
    arguments = parser.parse_args()
    missing = [name for name in ("traces", "lengths", "profiles") if not (arguments.data / name).is_dir()]
    if missing:
        parser.error(
            f"--data {arguments.data}: no {' and no '.join(f'{name}/' for name in missing)} there; give the folder that has "
            "them, as in make bench-decisions DATA=../shared/data"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its processes would go on without it
    given = Given(arguments.data, arguments.jobs, arguments.seeds, arguments.only)
    try:
        EXPERIMENTS[arguments.experiment](given)
    except KeyboardInterrupt:
        print(
            "interrupted: what was not finished leaves its report as it was; what has run is remembered in build/decisions",
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
