"""Requests to one live engine, and what came back when: what a client sees, and what the engine says of itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pointsman.core.slo import Slo
from pointsman.http.aio import request as http_request
from pointsman.http.errors import ExchangeError
from pointsman.http.pool import Pool
from pointsman.http.sweeper import Sweeper
from pointsman.loadgen.answer import Answer
from pointsman.loadgen.client import LoadClient, LoadOptions
from pointsman.loadgen.engines import SPEED, parse_samples
from pointsman.loadgen.replay import EndpointError, Target
from pointsman.sim.objective import FixedObjective
from pointsman.sim.report import Outcome, RequestResult
from pointsman.sim.workload.request import TraceRequest

PREFILL_SUM = "vllm:request_prefill_time_seconds_sum"
PREFILL_COUNT = "vllm:request_prefill_time_seconds_count"
"""From the iteration that begins a prompt to its first token, as the engine's core sees it; told of finished requests."""
COUNTED_WITHIN_S = 2.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer on the client's clock, seconds."""

    prompt_tokens: int
    """As the engine counted them; what was asked for where it does not say."""
    sent_s: float
    tokens_s: tuple[float, ...]
    """When each token came."""

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s


class Probe:
    """Made in a running event loop; `close` it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sweeper = Sweeper()
        self._pool = Pool(target.endpoint.origin, self._sweeper, ssl_context=target.ssl_context)

    def close(self) -> None:
        self._pool.close()
        self._sweeper.close()

    async def play(self, requests: Sequence[TraceRequest]) -> list[Seen]:
        """Every answer, in the order of the requests, whose prompts nobody has sent before. Raises EndpointError."""
        seen: dict[int, Seen] = {}
        failed: set[str] = set()

        def ended(index: int, _id: str, request: TraceRequest, answer: Answer, result: RequestResult) -> None:
            if result.outcome is not Outcome.COMPLETED:
                failed.add(answer.error or str(result.outcome))
            elif result.first_token_s is None:
                failed.add("an answer came without a first token")
            else:
                tokens_s = tuple(accumulate(result.gaps_s, initial=result.first_token_s))
                seen[index] = Seen(answer.prompt_tokens or request.prompt_tokens, result.arrival_s, tokens_s)

        target = self._target
        client = LoadClient(
            self._pool, target.endpoint, target.dialect, FixedObjective(Slo()), LoadOptions(), ended
        )
        await client.run(requests)
        if failed:
            raise EndpointError(f"requests failed: {', '.join(sorted(failed))}")
        return [seen[index] for index in sorted(seen)]

    async def prefill_alone(self, prompt_tokens: int) -> tuple[Seen, float | None]:
        """A prompt with nothing beside it, and the seconds that the engine itself says its prefill took, where it does."""
        before = await self._prefills()
        (seen,) = await self.play([TraceRequest(0.0, prompt_tokens, 2)])
        if before is None:
            return seen, None
        for _ in range(round(COUNTED_WITHIN_S / POLL_S)):
            after = await self._prefills()
            if after is not None and after[1] > before[1]:
                return seen, (after[0] - before[0]) / (after[1] - before[1])
            await asyncio.sleep(POLL_S)
        return seen, None

    async def _prefills(self) -> tuple[float, float] | None:
        """Seconds of wall time and number of all prefills so far; None: the engine does not say."""
        endpoint = self._target.endpoint
        try:
            response = await http_request(
                self._pool, "GET", endpoint.base_path + "/metrics", headers=endpoint.headers
            )
        except ExchangeError as error:
            raise EndpointError(f"GET /metrics: {error}") from error
        samples = parse_samples(response.body.decode("utf-8", errors="replace"))
        if response.status != 200 or PREFILL_COUNT not in samples:
            return None
        return samples[PREFILL_SUM] / samples.get(SPEED, 1.0), samples[PREFILL_COUNT]
