"""Request heads, strictly: what two parsers could read in two ways is refused.

The grammar is that of RFC 9112 without its leniencies (bare LF, obs-fold, absolute and authority form, lists and signs
in Content-Length). We read heads with one regular expression of our own because a request's end must be known to the
byte before anything of the next one is looked at, and because the usual parsers repair what we must refuse. A test
holds the accepted ones against llhttp.
"""

import re
from dataclasses import dataclass

from pointsman.http.errors import BadRequestError

MAX_HEADERS = 128
MAX_LENGTH_DIGITS = 15

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"("
    + _TOKEN
    + rb") (/[!-~]*) HTTP/1\.([01])\r\n((?:"
    + _TOKEN
    + rb":[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*)\r\n"
)
_HOST = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:[]_%~"
_SINGLE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-type",
        b"expect",
        b"x-request-id",
    )
)


@dataclass(init=False, slots=True)
class RequestHead:
    """A request without its body."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    """Names are in lower case; repeated ones are joined with a comma. Without Content-Length, which is `content_length`:
    heads that differ in nothing else share this dictionary, and may be known by its identity. Never changed."""
    content_length: int
    """0 where there is no body; meaningless when chunked."""
    chunked: bool
    keep_alive: bool
    """Whether the client wants to send more on this connection."""
    http_1_0: bool
    """The client knows neither chunks nor interim responses."""
    size: int
    """Bytes of the head itself."""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        content_length: int,
        size: int,
        *,
        chunked: bool,
        keep_alive: bool,
        http_1_0: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.http_1_0 = http_1_0
        self.size = size

    def with_length(self, content_length: int, size: int) -> "RequestHead":
        """The same head before a body of another length."""
        return RequestHead(
            self.method,
            self.target,
            self.headers,
            content_length,
            size,
            chunked=self.chunked,
            keep_alive=self.keep_alive,
            http_1_0=self.http_1_0,
        )

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def expects_continue(self) -> bool:
        return b"expect" in self.headers and not self.http_1_0


def parse_head(raw: bytes, max_headers: int = MAX_HEADERS) -> RequestHead:
    """The head in `raw`, from its first byte to its empty line. Raises BadRequestError, after which the connection
    must not be read any further: nobody knows where the next request begins.
    """
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise BadRequestError(400, _why(raw))
    method, target, minor, block = match.groups()
    lines = block.split(b"\r\n")
    lines.pop()
    if len(lines) > max_headers:
        raise BadRequestError(431, f"{len(lines)} headers; at most {max_headers} are allowed")
    parts = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip(b" \t") for name, _, value in parts}
    if len(headers) != len(lines):
        headers = _joined(parts)
    http_1_0 = minor == b"0"
    chunked, length = _framing(headers, http_1_0=http_1_0)
    if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
        raise BadRequestError(417, "expect: only 100-continue can be met")
    headers.pop(b"content-length", None)
    return RequestHead(
        method,
        target,
        headers,
        length,
        len(raw),
        chunked=chunked,
        keep_alive=_keep_alive(headers, http_1_0=http_1_0),
        http_1_0=http_1_0,
    )


def _joined(parts: list[tuple[bytes, bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers where some are given more than once."""
    headers: dict[bytes, bytes] = {}
    for name, _, value in parts:
        key = name.lower()
        if key not in headers:
            headers[key] = value.strip(b" \t")
        elif key in _SINGLE:
            raise BadRequestError(400, f"header {key.decode()} is given more than once")
        else:
            headers[key] += b", " + value.strip(b" \t")
    return headers


def _framing(headers: dict[bytes, bytes], *, http_1_0: bool) -> tuple[bool, int]:
    """How long the body is: (chunked, length)."""
    host = headers.get(b"host")
    if host is None:
        if not http_1_0:
            raise BadRequestError(400, "header host is missing")
    elif host.translate(None, _HOST):
        raise BadRequestError(400, "header host is no host")
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadRequestError(400, "content-length and transfer-encoding exclude each other")
        if http_1_0:
            raise BadRequestError(400, "transfer-encoding does not exist in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadRequestError(501, "transfer-encoding: only chunked is understood")
        return True, 0
    if length is None:
        return False, 0
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise BadRequestError(400, "content-length must be one whole number")
    return False, int(length)


def _keep_alive(headers: dict[bytes, bytes], *, http_1_0: bool) -> bool:
    connection = headers.get(b"connection")
    if connection is None:
        return not http_1_0
    options = [option.strip() for option in connection.lower().split(b",")]
    return b"keep-alive" in options if http_1_0 else b"close" not in options


def _why(raw: bytes) -> str:
    """What is wrong with a head that is not one, for the person who wrote its sender."""
    first, _, rest = raw.partition(b"\r\n")
    if b"\0" in raw:
        return "NUL in the request head"
    if raw.count(b"\n") != raw.count(b"\r\n"):
        return "a line of the request head ends with LF alone"
    if raw.count(b"\r") != raw.count(b"\r\n"):
        return "CR inside a line of the request head"
    if not re.fullmatch(_TOKEN + rb" [!-~]+ HTTP/1\.[01]", first):
        return "the first line is not METHOD /TARGET HTTP/1.1"
    if not re.fullmatch(_TOKEN + rb" /[!-~]* HTTP/1\.[01]", first):
        return "the target must begin with /"
    for line in rest.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            return "a header is folded over two lines"
        if line and not re.match(_TOKEN + rb":", line):
            return (
                "a header's name is empty, has a space before its colon, or characters that names cannot have"
            )
    return "a header's value has control characters"
