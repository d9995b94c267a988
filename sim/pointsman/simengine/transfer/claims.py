"""The taking side: one claim on another instance's KV."""

import asyncio
import contextlib
from dataclasses import dataclass

import orjson


class ClaimError(Exception):
    """The KV cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where KV is on offer."""

    host: str
    port: int
    key: str
    engine_id: str | None = None
    """The instance it must be; None: whichever listens there."""
    wait_s: float = 0.0
    """Real seconds to wait for KV that does not exist yet. 0: it must exist."""


@dataclass(slots=True)
class Claim:
    """KV that the other side keeps for us until we are done, or gone."""

    tokens: int
    _writer: asyncio.StreamWriter

    def done(self) -> None:
        """We have it, or no longer want it."""
        if not self._writer.is_closing():
            self._writer.write(b'{"done":true}\n')
            self._writer.close()


async def claim(place: Place, connect_timeout_s: float) -> Claim:
    """Claim KV. Raises ClaimError: nobody there, the KV unknown or expired, or it never came."""
    where = f"{place.host}:{place.port}"
    try:
        reader, writer = await _connect(place, connect_timeout_s)
    except (OSError, TimeoutError) as error:
        raise ClaimError(f"{where}: {error or 'nobody there'}") from error
    got: Claim | None = None
    try:
        wanted = {"key": place.key, "engine_id": place.engine_id, "wait_s": place.wait_s}
        writer.write(orjson.dumps(wanted) + b"\n")
        line = await reader.readline()
        answer = orjson.loads(line or b'{"error":"the other side closed the connection"}')
        if "tokens" not in answer:
            raise ClaimError(f"{where}: KV {place.key!r}: {answer.get('error')}")
        got = Claim(int(answer["tokens"]), writer)
    except (OSError, orjson.JSONDecodeError) as error:
        raise ClaimError(f"{where}: {error}") from error
    finally:
        if got is None:
            writer.close()
    return got


async def give_up(place: Place, connect_timeout_s: float) -> None:
    """Tell the other side that nobody will fetch its KV, as well as it goes."""
    with contextlib.suppress(ClaimError):
        (await claim(place, connect_timeout_s)).done()


async def _connect(place: Place, timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A refused connection is tried again until the time is over: vLLM's handshake cannot tell it from a slow one."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await asyncio.open_connection(place.host, place.port)
            except ConnectionRefusedError:
                await asyncio.sleep(timeout_s / 10)
