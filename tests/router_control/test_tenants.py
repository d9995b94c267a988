"""Who sends a request, and what it may ask for."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from pointsman.api.router_config import RouterConfig
from pointsman.core.slo import Slo
from pointsman.router.refusals import BadRequestError, ForbiddenError, UnauthorizedError
from pointsman.router.tenants import Objectives, Tenant, Tenants

MakeConfig = Callable[..., RouterConfig]


def key_hash(key: str) -> str:
    return "sha256:" + sha256(key.encode()).hexdigest()


TWO: dict[str, Any] = {
    "tenants": [
        {"name": "research", "key_hashes": [key_hash("sk-1"), key_hash("sk-2")]},
        {
            "name": "product",
            "key_hashes": [key_hash("sk-3")],
            "models": ["llama"],
            "max_priority": 5,
            "slo_floor": {"ttft_ms": 200, "tpot_ms": 20},
            "may_explain": True,
        },
    ],
    "trusted_proxies": ["10.0.0.0/8"],
    "objectives": {"urgent": 7, "batch": -3},
}


@pytest.fixture
def clamped() -> Counter[str]:
    return Counter()


@pytest.fixture
def tenants(make_config: MakeConfig, clamped: Counter[str]) -> Tenants:
    return Tenants(make_config(**TWO), lambda header: clamped.update([header]))


@pytest.mark.parametrize(("key", "name"), [("sk-1", "research"), ("sk-2", "research"), ("sk-3", "product")])
def test_a_key_names_its_tenant(tenants: Tenants, key: str, name: str) -> None:
    assert tenants.identify({b"authorization": b"Bearer " + key.encode()}, "1.2.3.4").name == name


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer sk-4"},
        {b"authorization": b"Basic sk-1"},
        {b"authorization": b"Bearer " + key_hash("sk-1").encode()},
        {b"x-tenant": b"research"},
    ],
)
def test_others_are_unauthorized(tenants: Tenants, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(UnauthorizedError):
        tenants.identify(headers, "1.2.3.4")


def test_a_trusted_proxy_names_the_tenant(tenants: Tenants) -> None:
    assert tenants.identify({b"x-tenant": b"product"}, "10.1.2.3").name == "product"
    assert tenants.identify({b"x-tenant": b"product"}, "::ffff:10.1.2.3").name == "product"
    with pytest.raises(ForbiddenError):
        tenants.identify({b"x-tenant": b"unknown"}, "10.1.2.3")
    with pytest.raises(ForbiddenError):
        tenants.identify({b"x-tenant": b"\xff"}, "10.1.2.3")


def test_a_peer_without_an_address_is_trusted_by_nobody(tenants: Tenants) -> None:
    with pytest.raises(UnauthorizedError):
        tenants.identify({b"x-tenant": b"product"}, "")


def test_without_tenants_everyone_may(make_config: MakeConfig) -> None:
    config = make_config(open_access={"may_explain": True}, trusted_proxies=["::1/128"])
    tenants = Tenants(config, lambda header: None)
    assert tenants.identify({b"authorization": b"Bearer whatever"}, "1.2.3.4").name == ""
    assert tenants.identify({b"x-tenant": b"ann"}, "1.2.3.4").name == ""
    named = tenants.identify({b"x-tenant": b"ann"}, "::1")
    assert (named.name, named.may_explain) == ("ann", True)


def test_a_new_configuration_replaces_the_keys(tenants: Tenants, make_config: MakeConfig) -> None:
    tenants.apply(make_config(tenants=[{"name": "other", "key_hashes": [key_hash("sk-9")]}]))
    assert tenants.identify({b"authorization": b"Bearer sk-9"}, "").name == "other"
    with pytest.raises(UnauthorizedError):
        tenants.identify({b"authorization": b"Bearer sk-1"}, "")


def test_rights_follow_from_the_tenant(tenants: Tenants) -> None:
    research = tenants.identify({b"authorization": b"Bearer sk-1"}, "")
    product = tenants.identify({b"authorization": b"Bearer sk-3"}, "")
    assert research.may_use("anything")
    assert product.may_use("llama")
    assert not product.may_use("mixtral")
    assert (research.may_explain, product.may_explain) == (False, True)


DEFAULT = Slo(ttft_s=2.0, tpot_s=0.1)
ASKED: dict[str, tuple[dict[bytes, bytes], Objectives, list[str]]] = {
    "nothing": ({}, Objectives(DEFAULT), []),
    "limits": (
        {b"x-slo-ttft-ms": b"500", b"x-slo-tpot-ms": b"62.5"},
        Objectives(Slo(0.5, 0.0625)),
        [],
    ),
    "one limit": ({b"x-slo-tpot-ms": b"50"}, Objectives(Slo(2.0, 0.05)), []),
    "llm-d's limits": (
        {b"x-llm-d-slo-ttft-ms": b"500", b"x-llm-d-slo-tpot-ms": b"50"},
        Objectives(Slo(0.5, 0.05)),
        [],
    ),
    "ours before llm-d's": (
        {b"x-slo-ttft-ms": b"300", b"x-llm-d-slo-ttft-ms": b"500"},
        Objectives(Slo(0.3, 0.1)),
        [],
    ),
    "too tight": (
        {b"x-slo-ttft-ms": b"1", b"x-slo-tpot-ms": b"1"},
        Objectives(Slo(0.2, 0.02)),
        ["x-slo-ttft-ms", "x-slo-tpot-ms"],
    ),
    "priority": ({b"x-priority": b"4"}, Objectives(DEFAULT, priority=4), []),
    "too urgent": ({b"x-priority": b"100"}, Objectives(DEFAULT, priority=5), ["x-priority"]),
    "modest": ({b"x-priority": b"-100"}, Objectives(DEFAULT, priority=-100), []),
    "an objective": ({b"x-llm-d-inference-objective": b"batch"}, Objectives(DEFAULT, priority=-3), []),
    "an urgent objective": (
        {b"x-llm-d-inference-objective": b"urgent"},
        Objectives(DEFAULT, priority=5),
        ["x-llm-d-inference-objective"],
    ),
    "an unknown objective": ({b"x-llm-d-inference-objective": b"x"}, Objectives(DEFAULT), []),
    "a deadline": ({b"x-deadline-ms": b"1500"}, Objectives(DEFAULT, deadline_s=1.5), []),
    "ids": (
        {b"x-session-id": b"s", b"x-program-id": b"p", b"x-llm-d-inference-fairness-id": b"f"},
        Objectives(DEFAULT, session="product\ns", program="product\np", fairness="product\nf"),
        [],
    ),
}


@pytest.mark.parametrize(("headers", "objectives", "counted"), ASKED.values(), ids=ASKED)
def test_headers_are_honoured_within_ceilings(
    tenants: Tenants,
    clamped: Counter[str],
    headers: dict[bytes, bytes],
    objectives: Objectives,
    counted: list[str],
) -> None:
    product = tenants.identify({b"authorization": b"Bearer sk-3"}, "")
    assert tenants.objectives(headers, product, DEFAULT) == objectives
    assert sorted(clamped) == sorted(counted)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-priority", b"high"),
        ("x-priority", b"1.5"),
        ("x-priority", b"9" * 4000),
        ("x-slo-ttft-ms", b"nan"),
        ("x-slo-ttft-ms", b"0"),
        ("x-slo-tpot-ms", b"-1"),
        ("x-llm-d-slo-tpot-ms", b"1e3"),
        ("x-deadline-ms", b""),
        ("x-session-id", b"a b"),
        ("x-session-id", b"\xff"),
        ("x-program-id", b"x" * 129),
    ],
)
def test_values_of_another_kind_are_refused(tenants: Tenants, header: str, value: bytes) -> None:
    product = tenants.identify({b"authorization": b"Bearer sk-3"}, "")
    with pytest.raises(BadRequestError) as caught:
        tenants.objectives({header.encode(): value}, product, DEFAULT)
    assert caught.value.path == header


CLASSES = {b"batch": Slo(ttft_s=60.0, tpot_s=0.5), b"chat": Slo(ttft_s=0.001), b"free": Slo()}
NAMED: dict[str, tuple[Slo, dict[bytes, bytes], Slo]] = {
    "a class": (Slo(), {b"x-llm-d-inference-objective": b"batch"}, CLASSES[b"batch"]),
    "without limits": (Slo(), {b"x-llm-d-inference-objective": b"free"}, Slo()),
    "an unknown one": (Slo(), {b"x-llm-d-inference-objective": b"nobody"}, Slo(9.0, 9.0)),
    "none": (Slo(), {}, Slo(9.0, 9.0)),
    "a limit beside": (
        Slo(),
        {b"x-llm-d-inference-objective": b"batch", b"x-slo-tpot-ms": b"100"},
        Slo(ttft_s=60.0, tpot_s=0.1),
    ),
    "tighter than the tenant may": (
        Slo(ttft_s=0.2, tpot_s=0.02),
        {b"x-llm-d-inference-objective": b"chat"},
        Slo(ttft_s=0.2),
    ),
}


@pytest.mark.parametrize(("floor", "headers", "wanted"), NAMED.values(), ids=NAMED)
def test_classes_have_limits_of_their_own(
    make_config: MakeConfig, floor: Slo, headers: dict[bytes, bytes], wanted: Slo
) -> None:
    tenants = Tenants(make_config(), lambda _: None)
    asked = tenants.objectives(headers, Tenant("", slo_floor=floor), Slo(9.0, 9.0), CLASSES)
    assert asked.slo == wanted
