"""What every connector does with a request that is split over a prefill and a decode instance."""

from dataclasses import dataclass
from typing import Any, Protocol

import orjson

Body = dict[str, Any]

_NOT_FOR_PREFILL = (
    "stream_options",
    "min_tokens",
    "best_of",
    "logprobs",
    "top_logprobs",
)


@dataclass(init=False, slots=True)
class Pairing:
    """One attempt on a pair of instances, as both legs have to know it."""

    attempt_id: str
    """Fresh and unguessable."""
    room: int
    """63 random bits, for connectors whose legs meet by number."""
    bootstrap_host: str
    """Of the prefill instance."""
    bootstrap_port: int
    engine_id: str
    """Of the prefill instance, where its connector has one."""

    def __init__(
        self, attempt_id: str, room: int, bootstrap_host: str, bootstrap_port: int, engine_id: str = ""
    ) -> None:
        self.attempt_id = attempt_id
        self.room = room
        self.bootstrap_host = bootstrap_host
        self.bootstrap_port = bootstrap_port
        self.engine_id = engine_id


class Connector(Protocol):
    """Builds the two legs' bodies. `raw` is the client's body as received, and `body` the same, parsed."""

    @property
    def at_once(self) -> bool:
        """Both legs are sent at dispatch and meet by themselves; else decode is sent what prefill answered."""

    def prefill(self, raw: bytes, body: Body, pairing: Pairing) -> bytes: ...

    def decode(self, raw: bytes, pairing: Pairing, params: object) -> bytes:
        """`params`: the `kv_transfer_params` of prefill's answer; None where there were none, or legs run at once."""


def add_fields(raw: bytes, fields: Body) -> bytes:
    """The JSON object `raw` with more fields at its end, and every byte before them as it was.

    The fields must not be in `raw` already.
    """
    end = raw.rindex(b"}")
    empty = raw[:end].rstrip().endswith(b"{")
    return raw[:end] + (b"" if empty else b",") + orjson.dumps(fields)[1:]


def prefill_only(body: Body) -> Body:
    """The same request for one token, not streamed: what makes an engine compute the prompt's KV and stop."""
    leg = {name: value for name, value in body.items() if name not in _NOT_FOR_PREFILL}
    leg["stream"] = False
    leg["max_tokens"] = 1
    leg["n"] = 1
    if "max_completion_tokens" in leg:
        leg["max_completion_tokens"] = 1
    return leg
