"""Policies by the name they have in configuration and on the command line."""

from collections.abc import Callable, Mapping
from typing import Any

from pointsman.core.parameters import check_parameters
from pointsman.core.placement.freeness import Freeness
from pointsman.core.placement.kv_cost import KvCost
from pointsman.core.placement.least_requests import LeastRequests
from pointsman.core.placement.least_tokens import LeastTokens
from pointsman.core.placement.policy import Policy
from pointsman.core.placement.power_of_two import PowerOfTwo
from pointsman.core.placement.prefix_affinity import PrefixAffinity
from pointsman.core.placement.random_choice import RandomChoice
from pointsman.core.placement.round_robin import RoundRobin
from pointsman.core.placement.session import Session
from pointsman.core.placement.weighted_scorers import WeightedScorers

POLICIES: Mapping[str, Callable[..., Policy]] = {
    policy.name: policy
    for policy in (
        RoundRobin,
        RandomChoice,
        PowerOfTwo,
        LeastRequests,
        LeastTokens,
        PrefixAffinity,
        Session,
        KvCost,
        WeightedScorers,
        Freeness,
    )
}


def make_policy(name: str, parameters: Mapping[str, Any] | None = None) -> Policy:
    """A policy with its parameters.

    Raises:
        ValueError: unknown name or parameter, the message lists what there is; or no number of 0 or more.

    """
    parameters = parameters or {}
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; there are {', '.join(sorted(POLICIES))}")
    policy = POLICIES[name]
    check_parameters(f"policy {name!r}", policy, parameters)
    return policy(**parameters)
