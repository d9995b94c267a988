"""What policies and orders are given to work with, checked by name and value."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any


def check_parameters(owner: str, made_by: Callable[..., Any], parameters: Mapping[str, Any]) -> None:
    """Each is one of the names that `made_by` takes, and a number of 0 or more, infinity included.

    Raises:
        ValueError: `owner`, as in "policy 'kv_cost'", has no such parameter, or not this value.

    """
    known = set(signature(made_by).parameters)
    if unknown := sorted(set(parameters) - known):
        has = ", ".join(sorted(known)) or "none"
        raise ValueError(f"{owner} has no parameter {', '.join(unknown)}; it has {has}")
    for name, value in parameters.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not value >= 0:  # not a number is neither
            raise ValueError(f"{owner}: {name}={value!s} is not a number of 0 or more")
