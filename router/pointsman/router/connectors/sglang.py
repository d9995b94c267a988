"""SGLang's bootstrap: both legs run at once and meet in a room at the prefill instance's bootstrap server."""

from pointsman.router.connectors.connector import Body, Pairing, add_fields


class Sglang:
    """Both legs get the same body; each engine does its part of it. The pair is fixed when they are sent."""

    at_once = True

    def prefill(self, raw: bytes, body: Body, pairing: Pairing) -> bytes:
        return _with_room(raw, pairing)

    def decode(self, raw: bytes, pairing: Pairing, params: object) -> bytes:
        return _with_room(raw, pairing)


def _with_room(raw: bytes, pairing: Pairing) -> bytes:
    return add_fields(
        raw,
        {
            "bootstrap_host": pairing.bootstrap_host,
            "bootstrap_port": pairing.bootstrap_port,
            "bootstrap_room": pairing.room,
        },
    )
