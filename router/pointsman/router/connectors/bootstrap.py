"""Mooncake's bootstrap server, beside each prefill engine: it knows the engine's id, new with every start."""

import asyncio

import orjson

from pointsman.http.client import ExchangeError, Origin, Pool, Sweeper, request


class NoEngineIdError(Exception):
    """The bootstrap server did not say."""


async def engine_id(host: str, port: int, timeout_s: float) -> str:
    """The id of the engine behind a bootstrap server; with data parallelism, of its first rank.

    `GET /query` answers `{"0": {"engine_id": ..., "worker_addr": ...}, ...}`, by rank. Raises NoEngineIdError.
    """
    sweeper = Sweeper()
    pool = Pool(Origin(host, port), sweeper)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await request(pool, "GET", "/query")
        ranks = orjson.loads(answer.body)
        return str(ranks[min(ranks, key=int)]["engine_id"])
    except TimeoutError:
        raise NoEngineIdError(
            f"http://{pool.origin.authority}/query: no answer within {timeout_s:g} s"
        ) from None
    except (ExchangeError, ValueError, LookupError, TypeError) as error:
        raise NoEngineIdError(f"http://{pool.origin.authority}/query tells no engine id: {error}") from error
    finally:
        pool.close()
        sweeper.close()
