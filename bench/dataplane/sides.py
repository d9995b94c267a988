"""The sides of a comparison: each can be started before the same engines, and then answers on a port."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from dataplane.environments import SGLANG_ROUTER, VLLM_ROUTER
from dataplane.load import BUILD, free_ports
from dataplane.machine import Cores
from dataplane.network import HOST, Network, require_ready
from dataplane.processes import Running


@dataclass(frozen=True)
class Endpoint:
    """Where the client sends to. `router` is None where it sends to an engine directly."""

    port: int
    router: Running | None
    network: Network = HOST
    headers: tuple[str, ...] = ()
    helpers: tuple[Running, ...] = ()  # processes of this side that run on the load core
    admin_port: int = 0


@dataclass(frozen=True)
class Side:
    """`start` serves the given engine ports until its context ends."""

    name: str
    start: Callable[[Sequence[int], Cores], AbstractContextManager[Endpoint]]
    own_engines: bool = field(default=False)  # it brings engines of its own and needs no ports
    exact_streams: bool = field(default=True)  # one event per token, and no others


@contextmanager
def _direct(engine_ports: Sequence[int], _cores: Cores) -> Iterator[Endpoint]:
    yield Endpoint(engine_ports[0], None)


DIRECT = Side("direct", _direct)


def _urls(ports: Sequence[int]) -> list[str]:
    return [f"http://127.0.0.1:{port}" for port in ports]


@contextmanager
def _vllm_router(engine_ports: Sequence[int], cores: Cores) -> Iterator[Endpoint]:
    port, metrics_port = free_ports(2)
    argv = [str(VLLM_ROUTER.path() / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", *_urls(engine_ports), "--policy", "round_robin", "--log-level", "warning"]
    argv += ["--prometheus-port", str(metrics_port), "--worker-startup-check-interval", "1"]
    with Running(argv, core=cores.router, log=BUILD / "logs" / "vllm-router.log") as router:
        require_ready(router, HOST, port, "/v1/models", "bench")
        yield Endpoint(port, router)


@contextmanager
def _sglang_router(engine_ports: Sequence[int], cores: Cores) -> Iterator[Endpoint]:
    port, metrics_port = free_ports(2)
    argv = [
        str(SGLANG_ROUTER.path() / "bin" / "sglang-router"),
        "launch",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    argv += ["--worker-urls", *_urls(engine_ports), "--policy", "round_robin", "--log-level", "error"]
    argv += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port)]
    argv += ["--worker-startup-check-interval", "1"]
    with Running(argv, core=cores.router, log=BUILD / "logs" / "sglang-router.log") as router:
        # It knows the engines' kind only a while after it listens: it lists a model (named "unknown") once it does.
        require_ready(router, HOST, port, "/v1/models", '"id"')
        yield Endpoint(port, router)


VLLM = Side("vllm_router", _vllm_router)
SGLANG = Side("sglang_router", _sglang_router)
