"""`python -m simulator`: times the simulator from outside, and Dynamo's replay beside it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dataplane.environments import DYNAMO
from dataplane.machine import facts
from simulator.cases import FOLDER, Case, Row, measured, own_cases, paired_cases, verdicts
from simulator.timing import CommandError

HEADER = f"{'group':22} {'what':28} {'side':9} {'requests':>9} {'outside':>9} {'inside':>9} {'CPU':>8} {'peak':>9} {'requests/s':>11}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with traces/")
    parser.add_argument("--sides", default="compiled,pure", help="compiled, pure or both")
    parser.add_argument("--share", type=float, default=1.0, help="of all numbers of requests, to try it")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="of traces beside Dynamo")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the median counts")
    parser.add_argument("--no-dynamo", action="store_true", help="do not install and run Dynamo")
    parser.add_argument("--json", type=Path, default=FOLDER / "simulator.json")
    given = parser.parse_args()
    sides = given.sides.split(",")
    if not set(sides) <= {"compiled", "pure"}:
        parser.error(f"--sides {given.sides}: there are compiled and pure")
    if not (0 < given.share <= 1 and given.repeat >= 1 and given.rate_scale > 0):
        parser.error("--share is above 0 and at most 1, --repeat at least 1, --rate-scale above 0")
    cases = own_cases(given.share, sides)
    if not given.no_dynamo:
        DYNAMO.path()
        paired = paired_cases(given.data, given.share, given.rate_scale, sides[0])
        if not paired:
            print(f"bench: no traces in {given.data}/traces: nothing is run beside Dynamo", flush=True)
        cases += paired
    rows = _run(cases, given.repeat)
    said = verdicts(rows)
    print("\n".join(said))
    options = {name: getattr(given, name) for name in ("sides", "share", "rate_scale", "repeat")}
    document = {"machine": facts(), "options": options, "rows": rows, "verdicts": said}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(document, indent=1) + "\n")


def _run(cases: Sequence[Case], repeat: int) -> list[Row]:
    print(HEADER, flush=True)
    rows = []
    for case in cases:
        row = measured(case, repeat)
        rows.append(row)
        print(
            f"{case.group:22} {case.name:28} {case.side:9} {row['requests']:>9,} {row['outside_s']:>7.2f} s"
            f" {row['inside_s']:>7.2f} s {row['cpu_s']:>6.2f} s {row['peak_bytes'] / 1e6:>6.0f} MB"
            f" {row['requests_per_s']:>11,.0f}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    try:
        main()
    except CommandError as error:
        sys.exit(f"bench: {error}")
