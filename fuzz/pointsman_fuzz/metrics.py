"""What engines say of themselves: pages of metrics as health checks read them."""

from math import isfinite

from pointsman.router.engine_metrics import read_report


async def run(data: bytes) -> None:
    """Whatever the page holds, what is taken from it is of its kind."""
    report = read_report(data)
    for value in (report.running, report.waiting, report.kv_capacity_tokens):
        assert value is None or isinstance(value, int)
    assert report.kv_used_share is None or isfinite(report.kv_used_share)
