"""What is sent: targets, headers and bodies for an OpenAI endpoint."""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import orjson

from pointsman.http.origin import Origin, parse_url, request_head
from pointsman.sim.workload.request import TraceRequest


class Api(StrEnum):
    """Which of the two streaming endpoints is asked."""

    COMPLETIONS = "completions"
    CHAT = "chat"


_IDENTIFIER = re.compile(r"[A-Za-z0-9._:@/+=-]{0,128}")
TARGETS = {Api.COMPLETIONS: "/v1/completions", Api.CHAT: "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, and what every request carries."""

    origin: Origin
    base_path: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_url(cls, url: str, api_key: str | None = None) -> "Endpoint":
        """From a base URL with or without `/v1`. Raises ValueError."""
        origin, path = parse_url(url)
        authorization = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        return cls(origin, path.removesuffix("/v1"), (*authorization, ("user-agent", "pointsman-replay")))

    @property
    def url(self) -> str:
        scheme = "https" if self.origin.tls else "http"
        return f"{scheme}://{self.origin.authority}{self.base_path}"

    def head(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...], length: int | None
    ) -> bytes:
        every = (*self.headers, *headers)
        return request_head(self.origin, method, self.base_path + target, every, length)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How requests are written."""

    model: str
    api: Api = Api.COMPLETIONS
    exact_lengths: bool = True
    """Ask for exactly the trace's answer length, in fields that OpenAI itself refuses but engines know."""
    token_ids: bool = False
    """Ask for token ids in every event, so that events with several tokens are told apart one by one."""
    explain: bool = False
    """Ask Pointsman's router where it sent the request and why."""

    @property
    def target(self) -> str:
        return TARGETS[self.api]

    def body(self, prompt: str, output_tokens: int) -> bytes:
        fields: dict[str, Any] = {
            "model": self.model,
            "max_tokens": output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.api is Api.CHAT:
            fields["messages"] = [{"role": "user", "content": prompt}]
        else:
            fields["prompt"] = prompt
        if self.exact_lengths:
            fields["ignore_eos"] = True
            fields["pointsman_output_tokens"] = output_tokens
        if self.token_ids:
            fields["return_token_ids"] = True
        return orjson.dumps(fields)

    def headers(self, request_id: str, request: TraceRequest) -> tuple[tuple[str, str], ...]:
        optional = (
            ("x-session-id", _identifier(request.session_id)),
            ("x-program-id", _identifier(request.program_id)),
            ("x-tenant", _identifier(request.tenant)),
            ("x-priority", str(request.priority) if request.priority else ""),
            ("x-pointsman-explain", "1" if self.explain else ""),
        )
        given = tuple((name, value) for name, value in optional if value)
        return (("content-type", "application/json"), ("x-request-id", request_id), *given)


def _identifier(name: str) -> str:
    """A trace's id as it may stand in a header: itself where it is plain, else a digest."""
    return name if _IDENTIFIER.fullmatch(name) else blake2b(name.encode(), digest_size=8).hexdigest()
