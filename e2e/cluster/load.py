"""Load on a Service of the cluster, from this machine, and what became of every request: `pointsman replay` beside a test."""

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from e2e.cluster import commands
from e2e.cluster.cluster import Cluster

END_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Fate:
    """Of all requests, warm-up included, but those that were under way when the load was ended."""

    requests: int
    failed: int
    reasons: dict[str, int]


class Load:
    """Requests at a steady rate for so long, or until it is ended; leaving the context waits for the last answer."""

    def __init__(
        self, cluster: Cluster, url: str, folder: Path, *, seconds: float, rate: float, tokens: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._cluster = cluster
        self._records = folder / "records.jsonl"
        self._trace = folder / "trace.csv"
        self._log = folder / "replay.log"
        self._url = url
        rows = [f"{number / rate:.3f},40,{tokens}" for number in range(int(seconds * rate))]
        self._trace.write_text("\n".join(["timestamp_s,prompt_tokens,output_tokens", *rows]) + "\n")
        self._seconds = seconds

    def __enter__(self) -> Self:
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            "pointsman.cli",
            "replay",
            self._trace,
            f"--url={self._url}",
        ]
        argv += [f"--records={self._records}", "--timeout=60", "--profile=a100-opt-13b"]
        environment = {**commands.without_proxies(), **self._cluster.environment}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._cluster.command(argv), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._process.terminate()
        try:
            self._process.wait(self._seconds + END_SECONDS)
        finally:
            self._process.kill()

    def end(self) -> None:
        """Ask nothing more and drop what is under way."""
        self._process.send_signal(signal.SIGINT)

    @property
    def begun(self) -> bool:
        """Whether an answer has been recorded, or the load has ended without."""
        return not self.running or (self._records.exists() and self._records.stat().st_size > 0)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def fate(self) -> Fate:
        """Once the context is left. Raises OSError where nothing was recorded: the log says why."""
        if not self._records.exists():
            raise OSError(f"no request was recorded: {self._log.read_text()[-2000:]}")
        every = [json.loads(line) for line in self._records.read_text().splitlines()]
        records = [record for record in every if record["outcome"] != "unfinished"]
        bad = [record for record in records if record["outcome"] != "completed"]
        reasons = Counter(f"{record['status']} {record['error']}" for record in bad)
        return Fate(len(records), len(bad), dict(reasons))
