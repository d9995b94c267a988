"""First come, first served."""

from typing import Final

from pointsman.core.queueing.served import Served
from pointsman.core.requests import RequestView


class FirstCome:
    """By arrival. Nobody starves; a long one at the head holds up everybody."""

    name: Final = "first_come"

    def arrange(self, waiting: list[RequestView], served: Served, now: float) -> list[RequestView]:
        return waiting
