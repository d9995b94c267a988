"""vLLM's Mooncake connector: both legs run at once, and prefill pushes the blocks when both have met.

They meet by `transfer_id`; decode asks the prefill instance's bootstrap server at `remote_bootstrap_addr` where the
engine `remote_engine_id` receives such requests.
"""

import orjson

from pointsman.router.connectors.connector import Body, Pairing, add_fields, prefill_only


class Mooncake:
    at_once = True

    def prefill(self, raw: bytes, body: Body, pairing: Pairing) -> bytes:
        leg = prefill_only(body)
        leg["kv_transfer_params"] = {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "transfer_id": _transfer_id(pairing),
        }
        return orjson.dumps(leg)

    def decode(self, raw: bytes, pairing: Pairing, params: object) -> bytes:
        host = f"[{pairing.bootstrap_host}]" if ":" in pairing.bootstrap_host else pairing.bootstrap_host
        return add_fields(
            raw,
            {
                "kv_transfer_params": {
                    "do_remote_decode": False,
                    "do_remote_prefill": True,
                    "transfer_id": _transfer_id(pairing),
                    "remote_bootstrap_addr": f"http://{host}:{pairing.bootstrap_port}",
                    "remote_engine_id": pairing.engine_id,
                }
            },
        )


def _transfer_id(pairing: Pairing) -> str:
    return f"xfer-{pairing.attempt_id}"
