"""The parameters behind a name: `?rate=12&requests=20000`, each checked as it is taken."""

import math
from collections.abc import Sequence

MOST_REQUESTS = 100_000_000


class WorkloadNameError(ValueError):
    """A workload's name that says nothing; the message lists what there is."""


class Parameters:
    """What was given for one generator."""

    __slots__ = ("_given", "_known", "_of")

    def __init__(self, of: str, query: str, known: Sequence[str]) -> None:
        """`known` are the names that `of` has. Raises WorkloadNameError."""
        self._of = of
        self._known = known
        self._given: dict[str, str] = {}
        for part in filter(None, query.split("&")):
            name, equals, value = part.partition("=")
            if name not in known:
                raise WorkloadNameError(f"{of}: {name!r} is no parameter; there are {', '.join(known)}")
            if not equals or not value:
                raise WorkloadNameError(f"{of}: {name} has no value, as in {name}=1")
            if name in self._given:
                raise WorkloadNameError(f"{of}: {name} is given twice")
            self._given[name] = value

    def text(self, name: str, default: str | None = None) -> str:
        """Raises WorkloadNameError where it is neither given nor has a default."""
        value = self._given.get(name, default)
        if value is None:
            raise WorkloadNameError(
                f"{self._of}: {name} must be given; parameters are {', '.join(self._known)}"
            )
        return value

    def positive(self, name: str, default: float) -> float:
        """A number above 0. Raises WorkloadNameError."""
        number = self._number(name, default)
        if not number > 0:
            raise WorkloadNameError(f"{self._of}: {name}={self._given[name]}: not a number above 0")
        return number

    def optional(self, name: str) -> float | None:
        """The same, or None where it is not given. Raises WorkloadNameError."""
        return self.positive(name, 1.0) if name in self._given else None

    def at_least_0(self, name: str, default: float) -> float:
        """Raises WorkloadNameError."""
        number = self._number(name, default)
        if not number >= 0:
            raise WorkloadNameError(f"{self._of}: {name}={self._given[name]}: not a number of at least 0")
        return number

    def whole(self, name: str, default: int, least: int, most: int = MOST_REQUESTS) -> int:
        """Raises WorkloadNameError."""
        number = self._number(name, default)
        if not (least <= number <= most and number == int(number)):
            problem = f"{name}={self._given[name]}: not a whole number from {least} to {most}"
            raise WorkloadNameError(f"{self._of}: {problem}")
        return int(number)

    def _number(self, name: str, default: float) -> float:
        if name not in self._given:
            return default
        try:
            number = float(self._given[name])
        except ValueError:
            number = math.nan
        return number if math.isfinite(number) else math.nan
