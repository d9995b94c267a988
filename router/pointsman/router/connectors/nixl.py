"""vLLM's NIXL connector: decode pulls the blocks that prefill leased to it and named in its answer."""

import orjson

from pointsman.router.connectors.connector import Body, Pairing, add_fields, prefill_only

_ASK_FOR_LEASE = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


class Nixl:
    """The parameters are opaque: what prefill answers is passed to decode as it is.

    They come only in answers that are not streamed. An engine that answers none (its prompt shorter than a block,
    its connector off) leaves the prompt to decode, which is then sent the client's own body.
    """

    at_once = False

    def prefill(self, raw: bytes, body: Body, pairing: Pairing) -> bytes:
        leg = prefill_only(body)
        leg["kv_transfer_params"] = _ASK_FOR_LEASE
        return orjson.dumps(leg)

    def decode(self, raw: bytes, pairing: Pairing, params: object) -> bytes:
        return raw if params is None else add_fields(raw, {"kv_transfer_params": params})
