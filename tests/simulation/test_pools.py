"""Pools as they are written on the command line."""

import pytest

from pointsman.core.instances import Role
from pointsman.sim.pools import PoolName, PoolsError, parse_pools


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8xmixed:h100-llama3.1-8b", [PoolName(8, Role.MIXED, "h100-llama3.1-8b")]),
        (
            "4xprefill:P, 2xdecode:./q.json",
            [PoolName(4, Role.PREFILL, "P"), PoolName(2, Role.DECODE, "./q.json")],
        ),
    ],
)
def test_pools_are_read(text: str, expected: list[PoolName]) -> None:
    assert parse_pools(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not COUNTxROLE:PROFILE"),
        ("mixed:p", "'mixed:p' is not COUNTxROLE:PROFILE"),
        ("8xmixed", "'8xmixed' is not COUNTxROLE:PROFILE"),
        ("8xbig:p", "'big' is no role; there are decode, mixed, prefill"),
        ("0xmixed:p", "0 is not a number of instances from 1 to 10000"),
        ("2xprefill:p", "prefill instances need decode instances"),
        ("2xdecode:p", "decode instances alone serve nothing"),
    ],
)
def test_what_is_wrong_with_pools_is_said(text: str, problem: str) -> None:
    with pytest.raises(PoolsError, match=problem):
        parse_pools(text)
