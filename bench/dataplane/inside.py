"""Two questions about our router alone: does /metrics stall its loop, and what does an open stream occupy?"""

import bisect
import statistics
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from dataplane.load import BUILD, Engines, Load, run_client
from dataplane.machine import Cores
from dataplane.measure import Bench
from dataplane.ours import POINTSMAN_SIDE
from dataplane.processes import Running
from dataplane.sides import Side

SCRAPED_INSTANCES = 64
SCRAPE_PAUSE_S = 0.4
IDLE_STREAMS = (1000, 5000)
ENGINES = 4


class Scraper(threading.Thread):
    """Reads /metrics now and then. Spans are nanoseconds of the monotonic clock, which the C client uses, too."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._stopped = threading.Event()
        self.spans: list[tuple[int, int]] = []
        self.size = 0

    def run(self) -> None:
        while not self._stopped.wait(SCRAPE_PAUSE_S):
            connection = HTTPConnection("127.0.0.1", self._port)
            begin = time.monotonic_ns()
            connection.request("GET", "/metrics")
            self.size = len(connection.getresponse().read())
            self.spans.append((begin, time.monotonic_ns()))
            connection.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def metrics_stall(bench: Bench, seconds: float) -> dict[str, float]:
    """By how much the slowest request that meets a scrape is slower than requests usually are: median over scrapes.

    A handful of connections send a request every few milliseconds, so one is always there to notice a stall. The floor is
    the same figure for times of the same length in which nobody scraped: what the machine alone does.
    """
    load = Load(connections=8, seconds=max(seconds, 4), warmup=2, pause_ms=2)
    file = BUILD / "spans.txt"
    cores = bench.cores
    with (
        Engines(SCRAPED_INSTANCES, core=cores.load) as engines,
        POINTSMAN_SIDE.start(engines.ports, cores) as router,
    ):
        scraper = Scraper(router.admin_port)
        argv = load.argv(router.port, router.headers, spans=file)
        run_client(argv, core=cores.load, on_begin=scraper.start, on_end=scraper.stop)
    spans = _spans(file)
    usual = statistics.median(end - begin for begin, end in spans)
    pause_ns = int(SCRAPE_PAUSE_S / 2 * 1e9)
    quiet = [(begin - pause_ns, end - pause_ns) for begin, end in scraper.spans]
    stalls, floor = (
        [worst - usual for worst in (_slowest(spans, window) for window in windows) if worst]
        for windows in (scraper.spans, quiet)
    )
    return {
        "metrics_stall_ms": statistics.median(stalls) / 1e6,
        "metrics_stall_worst_ms": max(stalls) / 1e6,
        "metrics_stall_floor_ms": statistics.median(floor) / 1e6,
        "metrics_bytes": float(scraper.size),
    }


def _spans(file: Path) -> list[tuple[int, int]]:
    """Begin and end of each request, in the order of their ends."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return sorted(((int(begin), int(end)) for begin, end in pairs), key=lambda span: span[1])


def _slowest(spans: list[tuple[int, int]], scrape: tuple[int, int]) -> int:
    """Nanoseconds of the slowest request under way at some time of the scrape; 0: there was none."""
    first = bisect.bisect_left(spans, scrape[0], key=lambda span: span[1])
    met = (end - begin for begin, end in spans[first : first + 10_000] if begin <= scrape[1])
    return max(met, default=0)


def idle_streams(bench: Bench) -> dict[str, float]:
    """Resident bytes per open stream that is quiet: the difference between 1,000 and 5,000 of them."""
    few, many = IDLE_STREAMS
    occupied = {count: _resident(POINTSMAN_SIDE, bench.cores, count) for count in IDLE_STREAMS}
    return {
        "idle_stream_bytes": (occupied[many] - occupied[few]) / (many - few),
        **{f"resident_bytes_{count}_streams": float(size) for count, size in occupied.items()},
    }


def _resident(side: Side, cores: Cores, streams: int) -> int:
    load = Load(streams, seconds=1, warmup=10, ramp=5, stream_tokens=4)
    sizes: list[int] = []
    with (
        Engines(ENGINES, core=cores.load, interval_ms=60_000) as engines,
        side.start(engines.ports, cores) as endpoint,
    ):
        router = endpoint.router
        assert isinstance(router, Running)
        argv = load.argv(endpoint.port, endpoint.headers)
        window = run_client(
            argv, core=cores.load, on_begin=lambda: None, on_end=lambda: sizes.append(router.rss_bytes())
        )
        opened = engines.stats()["streams"]
    if opened != streams or any(window.report["errors"].values()):
        raise RuntimeError(f"only {opened} of {streams} streams opened: {window.report['errors']}")
    return sizes[0]
