"""The load: C programs of our own, compiled here, and the bodies they send."""

import json
import random
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.network import HOST, require_ready
from dataplane.processes import Running, cpu_s

SOURCES = Path(__file__).parent
ROOT = SOURCES.parent.parent
BUILD = ROOT / "build" / "bench"
MODEL = "bench"
API_KEY = "bench-key-0123456789abcdef"
BODY_BYTES = 1024
CONVERSATIONS = 16
INTERVAL_MS = 20


def compile_programs(folder: Path = BUILD) -> None:
    """Compile engine and client into a folder when their sources are newer.

    Raises SystemExit without a C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("bench: a C compiler named cc is needed for the load programs")
    folder.mkdir(parents=True, exist_ok=True)
    shared = (SOURCES / "load.h").stat().st_mtime
    for name in ("engine", "client"):
        source, program = SOURCES / f"{name}.c", folder / name
        if not program.exists() or program.stat().st_mtime < max(shared, source.stat().st_mtime):
            subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)


def raise_descriptor_limit() -> None:
    """Thousands of connections need as many descriptors; what is started from here inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


WORDS = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "that",
    "is",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "or",
    "had",
    "by",
    "hot",
    "but",
    "some",
    "what",
    "there",
    "we",
    "can",
    "out",
    "other",
    "were",
    "all",
    "your",
    "when",
    "up",
    "use",
    "word",
    "how",
    "said",
    "an",
    "each",
    "she",
    "which",
    "do",
    "their",
    "time",
    "if",
    "will",
    "way",
    "about",
    "many",
    "then",
    "them",
    "would",
    "write",
    "like",
    "so",
    "these",
    "her",
    "long",
    "make",
    "thing",
    "see",
    "him",
    "two",
    "has",
    "look",
    "more",
    "day",
    "could",
    "go",
    "come",
    "did",
    "my",
    "sound",
    "no",
    "most",
    "number",
    "who",
    "over",
    "know",
    "water",
    "than",
    "call",
    "first",
    "people",
    "may",
    "down",
    "side",
    "been",
    "now",
    "find",
    "any",
    "new",
    "work",
    "part",
    "take",
    "get",
    "place",
    "made",
    "live",
    "where",
    "after",
    "back",
    "little",
    "only",
    "round",
    "man",
    "year",
    "came",
    "show",
    "every",
    "good",
    "me",
    "give",
    "our",
    "under",
    "name",
    "very",
    "through",
    "just",
    "form",
]


def write_bodies(path: Path, *, stream: bool, max_tokens: int) -> Path:
    """Chat bodies of 1 KB: a few conversations with a common beginning each, a question that no other request has."""
    rng = random.Random(20)
    systems = [" ".join(rng.choices(WORDS, k=60)) for _ in range(CONVERSATIONS)]
    lines = []
    for number in range(CONVERSATIONS * 16):
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": systems[number % CONVERSATIONS]},
                {"role": "user", "content": ""},
            ],
            "max_tokens": max_tokens,
            "temperature": 0.7,
            "stream": stream,
        }
        empty = len(json.dumps(body, separators=(",", ":")))
        question = "question ######## " + " ".join(rng.choices(WORDS, k=200))
        body["messages"][1]["content"] = question[: BODY_BYTES - empty]
        lines.append(json.dumps(body, separators=(",", ":")) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


class Engines(Running):
    """Engine instances, one per port, in one C process."""

    def __init__(self, count: int, *, core: int, interval_ms: float = INTERVAL_MS) -> None:
        self.ports = free_ports(count)
        argv = [str(BUILD / "engine"), "--interval-ms", str(interval_ms), *map(str, self.ports)]
        super().__init__(argv, core=core, log=BUILD / "logs" / "engine.log")
        require_ready(self, HOST, self.ports[0], "/v1/models", MODEL)

    def stats(self) -> dict[str, Any]:
        """What the engines served since their start; compare two for a run."""
        return dict(json.loads(HOST.fetch(self.ports[0], "/stats").rstrip("\0")))


@dataclass(frozen=True)
class Load:
    """What the client does; times in seconds. `tokens` events with text are required of each stream, 0: any number."""

    connections: int
    seconds: float
    warmup: float = 1.0
    ramp: float = 0.0
    pause_ms: float = 0.0
    stream_tokens: int = 0  # 0: answers are not streamed
    exact: bool = True  # every stream brings just its tokens, one per event
    once: bool = False  # an accept storm: all connections at once, one request each

    def argv(self, port: int, headers: Iterable[str] = (), spans: Path | None = None) -> list[str]:
        bodies = BUILD / f"bodies-{self.stream_tokens}.jsonl"
        write_bodies(bodies, stream=self.stream_tokens > 0, max_tokens=self.stream_tokens or 16)
        argv = [str(BUILD / "client"), "--port", str(port), "--bodies", str(bodies)]
        argv += [
            "--connections",
            str(self.connections),
            "--seconds",
            str(self.seconds),
            "--warmup",
            str(self.warmup),
        ]
        argv += ["--ramp", str(self.ramp), "--pause-ms", str(self.pause_ms)]
        argv += ["--tokens", str(self.stream_tokens if self.exact else 0)]
        argv += ["--once"] if self.once else []
        argv += ["--spans", str(spans)] if spans else []
        for header in headers:
            argv += ["--header", header]
        return argv


@dataclass
class Window:
    """What the client saw in its measured window, and the CPU seconds it took itself."""

    report: dict[str, Any]
    client_cpu_s: float


def run_client(
    argv: Sequence[str], *, core: int, on_begin: Callable[[], None], on_end: Callable[[], None]
) -> Window:
    """Run the client; the callbacks are called as its measured window opens and closes.

    Raises RuntimeError when it ends without a report.
    """
    report: dict[str, Any] | None = None
    used = 0.0
    with subprocess.Popen(["taskset", "-c", str(core), *argv], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line == "begin\n":
                on_begin()
                used -= cpu_s(client.pid)
            elif line == "end\n":
                used += cpu_s(client.pid)
                on_end()
            else:
                report = json.loads(line)
    if report is None:
        raise RuntimeError(f"the client gave no report: {' '.join(argv)}")
    return Window(report, used)
