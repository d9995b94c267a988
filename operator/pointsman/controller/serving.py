"""`/health`, `/ready` and `/metrics`, for probes and scraping."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Verdict = Callable[[], str]
"""What is wrong, in words; empty while all is well."""


@asynccontextmanager
async def served(
    host: str, port: int, *, sick: Verdict, unready: Verdict, registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Answer while the block runs; gives the port, which is chosen where 0 was asked for. Raises OSError."""

    async def health(_: web.Request) -> web.Response:
        return _answer(sick())

    async def ready(_: web.Request) -> web.Response:
        return _answer(unready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/ready", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _answer(wrong: str) -> web.Response:
    return web.Response(text=(wrong or "ok") + "\n", status=503 if wrong else 200)
