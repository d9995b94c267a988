"""Each queue order against its published rule, in tables of named cases."""

from dataclasses import replace
from math import inf

import pytest

from pointsman.core.queueing.catalogue import ORDERS, make_order
from pointsman.core.queueing.order import in_order
from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView
from pointsman.core.slo import Slo

NOW = 100.0
BASE = RequestView("", "m", prompt_tokens=100, arrived_s=0.0)


def request(name: str, arrived_s: float, **fields: object) -> RequestView:
    return replace(BASE, request_id=name, arrived_s=arrived_s, **fields)  # type: ignore[arg-type]


def order_of(
    name: str,
    waiting: list[RequestView],
    served: Served | None = None,
    parameters: dict[str, float] | None = None,
) -> str:
    arranged = in_order(make_order(name, parameters), waiting, served or Served(), NOW)
    return " ".join(request.request_id for request in arranged)


def test_first_come() -> None:
    assert order_of("first_come", [request("b", 2), request("a", 1), request("c", 3)]) == "a b c"


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_higher_priorities_go_before_every_rule(name: str) -> None:
    waiting = [
        request("low", 1, priority=-1, expected_output_tokens=1, deadline_s=NOW + 1),
        request("first", 2),
        request("high", 3, priority=2, expected_output_tokens=900),
        request("second", 4),
    ]
    assert order_of(name, waiting) == "high first second low"


@pytest.mark.parametrize(
    ("case", "lengths", "starvation_s", "expected"),
    [
        ("shortest first", {"a": 50, "b": 10, "c": 30}, inf, "b c a"),
        ("equals by arrival", {"a": 10, "b": 10, "c": 5}, inf, "c a b"),
        ("an unknown length counts as the mean of the known", {"a": 90, "b": 0, "c": 10}, inf, "c b a"),
        ("nothing known: first come", {"a": 0, "b": 0, "c": 0}, inf, "a b c"),
        ("who waited beyond the bound goes first", {"a": 90, "b": 10, "c": 20}, 98.5, "a b c"),
        ("several of them first come first", {"a": 90, "b": 80, "c": 1}, 97.5, "a b c"),
    ],
)
def test_shortest_predicted(case: str, lengths: dict[str, int], starvation_s: float, expected: str) -> None:
    waiting = [
        request(name, place + 1.0, expected_output_tokens=length)
        for place, (name, length) in enumerate(lengths.items())
    ]
    assert order_of("shortest_predicted", waiting, parameters={"starvation_s": starvation_s}) == expected, (
        case
    )


def test_the_program_that_was_served_least_goes_first() -> None:
    served = Served()
    long = request("x", 0, program="long")
    served.placed(long)
    served.generated(long, 500)
    served.placed(request("y", 0, program="short"))
    waiting = [request("l", 91, program="long"), request("s", 92, program="short"), request("n", 93)]
    assert order_of("least_attained", waiting, served) == "n s l"
    assert order_of("least_attained", waiting, served, {"starvation_s": 8.5}) == "l n s"


@pytest.mark.parametrize(
    ("case", "limits", "parameters", "expected"),
    [
        ("earliest limit first", {"a": (30.0, inf), "b": (15.0, inf)}, {}, "b a"),
        ("a deadline counts too", {"a": (30.0, inf), "b": (None, 105.0)}, {}, "b a"),
        ("who has no limit goes last", {"a": (None, inf), "b": (30.0, inf)}, {}, "b a"),
        ("who is late already goes after who is not", {"a": (5.0, inf), "b": (30.0, inf)}, {}, "b a"),
        (
            "an answer's time is taken off its deadline",
            {"a": (None, 115.0), "b": (None, 112.0)},
            {"output_token_s": 0.05},
            "a b",
        ),
        (
            "a prompt's time can make it late",
            {"a": (12.0, inf), "b": (30.0, inf)},
            {"prefill_token_s": 0.03},
            "b a",
        ),
    ],
)
def test_least_slack(
    case: str, limits: dict[str, tuple[float | None, float]], parameters: dict[str, float], expected: str
) -> None:
    waiting = [
        request(
            name,
            90.0,
            slo=Slo(ttft_s=ttft_s),
            deadline_s=deadline_s,
            expected_output_tokens=200 if name == "a" else 0,
        )
        for name, (ttft_s, deadline_s) in limits.items()
    ]
    assert order_of("least_slack", waiting, parameters=parameters) == expected, case


def test_virtual_tokens_take_turns_by_tokens_not_requests() -> None:
    waiting = [request(f"a{n}", n, tenant="a", prompt_tokens=100) for n in range(4)]
    waiting += [request(f"b{n}", 10 + n, tenant="b", prompt_tokens=200) for n in range(2)]
    assert order_of("virtual_tokens", waiting) == "a0 b0 a1 a2 b1 a3"


def test_output_counts_twice_and_a_tenant_that_comes_back_has_no_credit() -> None:
    served = Served()
    for number in range(10):
        placed = request("x", number, tenant="busy", prompt_tokens=100)
        served.placed(placed)
        served.generated(placed, 50)
    assert served.counter("busy") == 10 * (100 + 2 * 50)
    assert served.counter("back") == served.virtual_time == 9 * 200
    waiting = [request(f"n{n}", 50 + n, tenant="back") for n in range(3)]
    waiting += [request(f"o{n}", 60 + n, tenant="busy") for n in range(2)]
    assert order_of("virtual_tokens", waiting, served) == "n0 n1 n2 o0 o1"


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(ValueError, match="unknown order 'best'; there are first_come, least_attained, "):
        make_order("best")
    with pytest.raises(ValueError, match="'first_come' has no parameter depth; it has none"):
        make_order("first_come", {"depth": 3})
