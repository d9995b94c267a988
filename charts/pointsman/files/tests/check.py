"""What `helm test` runs: every part of the release answers. The standard library only, for it runs in the release's image."""

import json
import os
import socket
import ssl
import sys
import time
import urllib.parse
import urllib.request

SECONDS = 60.0
PAUSE_SECONDS = 1.0
REPLY_BYTES = 4096


class NotAsExpectedError(Exception):
    """A part answers, but not what it should."""


def router_is_ready() -> str:
    """Through its Service, so that names, endpoints and the public port are seen to work."""
    # A self-signed certificate is fine here: whether it answers is the question.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = os.environ["ROUTER_URL"] + "/v1/models"
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as response:  # noqa: S310 - the chart's own URL
            models = [model["id"] for model in json.load(response)["data"]]
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        return "the router answers, and asks for a key"
    return f"the router answers; models: {', '.join(models) or 'none yet'}"


def redis_takes_the_password() -> str:
    """AUTH and PING, spoken by hand: a client library would be one more thing in the image."""
    url = urllib.parse.urlsplit(os.environ["REDIS_URL"])
    password = urllib.parse.unquote(url.password or "")
    user = urllib.parse.unquote(url.username or "") or "default"
    with socket.create_connection((url.hostname, url.port or 6379), timeout=5) as plain:
        connection = plain
        if url.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname)
        if password:
            ask(connection, "+OK", "AUTH", user, password)
        ask(connection, "+PONG", "PING")
    return f"Redis at {url.hostname} takes the password and answers"


def ask(connection: socket.socket, expected: str, *command: str) -> None:
    words = [word.encode() for word in command]
    connection.sendall(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    )
    reply = connection.recv(REPLY_BYTES).decode(errors="replace").strip()
    if reply != expected:
        raise NotAsExpectedError(f"{command[0]}: {reply}")


CHECKS = {"router": router_is_ready, "redis": redis_takes_the_password}


def main(names: list[str]) -> int:
    deadline = time.monotonic() + SECONDS
    for name in names:
        while True:
            try:
                print(CHECKS[name](), flush=True)
                break
            except (OSError, NotAsExpectedError) as error:
                if time.monotonic() > deadline:
                    print(f"{name}: {error}", file=sys.stderr)
                    return 1
                time.sleep(PAUSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
