"""`make bench-dataplane-memory`: is our router's memory flat over ten minutes at 1,000 streams?

Streams of random phase and 200 ms between tokens begin and end all the time. Resident memory is read every few seconds; the
first minutes, in which pools and allocator settle, do not count. Before that a burst of short requests fills the prefix
index, which grows with new prompts until it holds what the engines' KV could: 27,000 blocks, 4 MB, for these four. The
streams alone would take seven minutes to. Writes build/bench/dataplane-memory.json.
"""

import argparse
import json
import statistics
import sys
import threading
from itertools import pairwise

from dataplane import machine, ours
from dataplane.load import BUILD, Engines, Load, compile_programs, raise_descriptor_limit, run_client
from dataplane.processes import Running

STREAMS, TOKENS, INTERVAL_MS = 1000, 150, 200
BURST_CONNECTIONS, BURST_S, BURST_REQUESTS = 64, 20, 20_000
SAMPLE_S = 5.0
SETTLED_SHARE = 0.3  # of the run, after which memory must no longer grow
FLAT = 0.02  # growth of the later part's halves against each other that still counts as flat


class Sampler(threading.Thread):
    """Resident bytes of a process, every few seconds."""

    def __init__(self, process: Running) -> None:
        super().__init__()
        self._process = process
        self._stopped = threading.Event()
        self.samples: list[int] = []

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self.samples.append(self._process.rss_bytes())

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def growth(samples: list[int]) -> float:
    """How much larger the median of the settled part's second half is than that of its first, as a share."""
    settled = samples[int(len(samples) * SETTLED_SHARE) :]
    halves = pairwise((0, len(settled) // 2, len(settled)))
    first, second = (statistics.median(settled[begin:end]) for begin, end in halves)
    return second / first - 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dataplane.memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    compile_programs()
    raise_descriptor_limit()
    cores = machine.choose_cores()
    load = Load(STREAMS, arguments.minutes * 60, warmup=10, ramp=10, stream_tokens=TOKENS)
    with (
        Engines(4, core=cores.load, interval_ms=INTERVAL_MS) as engines,
        ours.POINTSMAN_SIDE.start(engines.ports, cores) as endpoint,
    ):
        assert endpoint.router is not None
        started = endpoint.router.rss_bytes()
        burst = run_client(
            Load(BURST_CONNECTIONS, BURST_S).argv(endpoint.port, endpoint.headers),
            core=cores.load,
            on_begin=lambda: None,
            on_end=lambda: None,
        )
        filled = endpoint.router.rss_bytes()
        sampler = Sampler(endpoint.router)
        argv = load.argv(endpoint.port, endpoint.headers)
        window = run_client(argv, core=cores.load, on_begin=sampler.start, on_end=sampler.stop)
    grown = growth(sampler.samples)
    result = {
        "minutes": arguments.minutes,
        "streams": STREAMS,
        "growth": grown,
        "flat": grown <= FLAT,
        "report": window.report,
        "burst_requests": burst.report["requests"],
        "resident_bytes_at_start": started,
        "resident_bytes_after_burst": filled,
        "machine": machine.facts(),
        "resident_bytes": sampler.samples,
    }
    (BUILD / "dataplane-memory.json").write_text(json.dumps(result, indent=1) + "\n")
    if burst.report["requests"] < BURST_REQUESTS:
        print(f"the burst had only {burst.report['requests']} requests: the prefix index may not be full")
    print(f"{started / 2**20:.1f} MiB at the start, {filled / 2**20:.1f} MiB after the burst")
    first, last = sampler.samples[0] / 2**20, sampler.samples[-1] / 2**20
    print(
        f"{STREAMS} streams for {arguments.minutes:g} minutes: {first:.1f} MiB at first, {last:.1f} MiB at last,"
    )
    print(
        f"growth once settled {grown:+.2%} ({'flat' if grown <= FLAT else 'NOT FLAT'}); errors: {window.report['errors']}"
    )
    return 0 if grown <= FLAT and not any(window.report["errors"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
