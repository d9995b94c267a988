"""Limits are read as written, refused with the reason, and stated in words."""

import re

import pytest

from pointsman.core.slo import Slo
from pointsman.sim.objective import DEFAULT_OBJECTIVE, FixedObjective, parse_slo


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("ttft=2,tpot=0.1", Slo(2.0, 0.1)),
        ("tpot=.05", Slo(None, 0.05)),
        (" ttft=1 , tpot=1 ", Slo(1.0, 1.0)),
    ],
)
def test_limits_are_read(text: str, slo: Slo) -> None:
    assert parse_slo(text) == slo


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not ttft=SECONDS"),
        ("2,0.1", "'2' is not ttft=SECONDS"),
        ("e2e=3", "'e2e=3' is not"),
        ("ttft=1,ttft=2", "ttft is given twice"),
        ("ttft=fast", "ttft=fast: not a number of seconds above 0"),
        ("ttft=0", "not a number of seconds above 0"),
        ("tpot=nan", "not a number of seconds above 0"),
    ],
)
def test_other_limits_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_slo(text)


def test_the_rule_is_said_in_words() -> None:
    assert FixedObjective(Slo(2.0, None)).rule == "TTFT <= 2 s"
    assert DEFAULT_OBJECTIVE.rule == "TTFT <= 2 s, TPOT <= 0.1 s (default without a profile)"
