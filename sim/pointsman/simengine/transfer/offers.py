"""The giving side: KV on offer, and the side channel where other instances claim it.

One TCP connection is one claim, in lines of JSON. The claimer sends `{"key", "wait_s"}`; the answer is
`{"tokens"}` as soon as the KV exists, or `{"error"}`. While the connection stays open the lease is renewed; when the
claimer says `{"done"}` or goes away, the blocks are free. A line that begins with GET gets an HTTP answer instead:
`/query` is what Mooncake's bootstrap server answers.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

import orjson

from pointsman.simengine.driver import Driver

_RENEWALS_PER_LEASE = 6
"""As often as vLLM's heartbeats."""


@dataclass(slots=True)
class Offer:
    """KV that exists, or will. Whoever comes first, giver or claimer, makes it."""

    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    """A claimer has come."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """The KV is there, or will never be."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Fetched, withdrawn or expired."""
    request_id: str | None = None
    """Whose KV it is; None when settled: there is none."""


@dataclass(slots=True)
class OfferCounts:
    """For metrics."""

    expired: int = 0
    fetched: int = 0


class OfferDesk:
    """All offers of one instance, by key."""

    def __init__(self, driver: Driver, engine_id: str, lease_s: float) -> None:
        self.engine_id = engine_id
        self.counts = OfferCounts()
        self._driver = driver
        self._lease_s = lease_s
        """Real seconds."""
        self._offers: dict[str, Offer] = {}
        self._server: asyncio.Server | None = None
        self._claims: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listen for claims; returns the port. Raises OSError."""
        self._server = await asyncio.start_server(self._connected, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for claim in list(self._claims):
            claim.cancel()
        await asyncio.gather(*self._claims, return_exceptions=True)

    def announce(self, key: str) -> Offer:
        """KV will come under this key. Raises ValueError when the key is in use by another giver."""
        offer = self._offers.setdefault(key, Offer())
        if offer.settled.is_set():
            raise ValueError(f"KV is on offer under {key!r} already")
        return offer

    def give(self, key: str, request_id: str) -> None:
        """The KV that the engine holds for a request can be fetched."""
        self._sweep()
        offer = self._offers.setdefault(key, Offer())
        offer.request_id = request_id
        offer.settled.set()

    def withdraw(self, key: str) -> None:
        """No KV will come, or it is no longer on offer."""
        offer = self._offers.pop(key, None)
        if offer is not None:
            self._free(offer)
            offer.settled.set()

    def _free(self, offer: Offer) -> None:
        if offer.request_id is not None and not offer.gone.is_set():
            self._driver.release_kv(offer.request_id)
        offer.gone.set()

    def _held(self, offer: Offer) -> int | None:
        return None if offer.request_id is None else self._driver.engine.held_tokens(offer.request_id)

    def _sweep(self) -> None:
        """Forget offers whose lease ran out in the engine."""
        for key, offer in list(self._offers.items()):
            if offer.request_id is not None and self._held(offer) is None:
                self.counts.expired += 1
                offer.gone.set()
                del self._offers[key]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._claims.add(task)
            task.add_done_callback(self._claims.discard)
        try:
            line = await reader.readline()
            if line.startswith(b"GET "):
                writer.write(self._bootstrap_answer(line))
            elif line:
                await self._serve_claim(orjson.loads(line), reader, writer)
            await writer.drain()
        except (ConnectionError, orjson.JSONDecodeError, KeyError, ValueError):
            pass  # whoever speaks nonsense or leaves is no claimer
        finally:
            writer.close()

    async def _serve_claim(
        self, claim: dict[str, object], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        key, wait_s = str(claim["key"]), float(str(claim["wait_s"]))
        wanted_engine = claim.get("engine_id")
        self._sweep()
        offer = self._offers.get(key)
        if wanted_engine is not None and wanted_engine != self.engine_id:
            offer, wait_s = None, 0.0
        if offer is None and wait_s:
            offer = self._offers.setdefault(key, Offer())
        if offer is None:
            writer.write(b'{"error":"unknown or expired"}\n')
            return
        offer.claimed.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(offer.settled.wait(), wait_s or None)
        tokens = self._held(offer)
        if tokens is None:
            self._offers.pop(key, None)
            offer.gone.set()
            writer.write(b'{"error":"it never came"}\n')
            return
        writer.write(b'{"tokens":%d}\n' % tokens)
        await self._keep_while_connected(offer, reader)
        self.counts.fetched += 1
        self.withdraw(key)

    async def _keep_while_connected(self, offer: Offer, reader: asyncio.StreamReader) -> None:
        while offer.request_id is not None and not reader.at_eof():
            self._driver.renew_kv(offer.request_id)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.readline(), self._lease_s / _RENEWALS_PER_LEASE)
                return

    def _bootstrap_answer(self, line: bytes) -> bytes:
        host, port = self._address()
        body = orjson.dumps(
            {"0": {"engine_id": self.engine_id, "worker_addr": {"0": {"0": f"tcp://{host}:{port}"}}}}
        )
        status = b"200 OK" if line.split(b" ")[1] == b"/query" else b"404 Not Found"
        return (
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _address(self) -> tuple[str, int]:
        if self._server is None:
            return "", 0
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port
