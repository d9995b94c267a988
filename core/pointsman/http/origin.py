"""Where a server is, and how a request to it is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a server."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_url(url: str) -> tuple[Origin, str]:
    """Origin and path (without a trailing slash) of an http or https URL. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a base URL has no user, query or fragment")
    tls = parts.scheme == "https"
    return Origin(parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme], tls), parts.path.rstrip("/")


def request_head(
    origin: Origin, method: str, target: str, headers: Iterable[tuple[str, str]], content_length: int | None
) -> bytes:
    """A request head. Raises ValueError where a name, value or target would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {origin.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if content_length is not None:
        lines.append(f"content-length: {content_length}")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines) or " " in target:
        raise ValueError("request target or header with a line break, NUL or space")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
