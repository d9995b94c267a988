"""What a stage may take of a workflow's deadline."""

from math import inf, isinf


def due_s(now_s: float, deadline_s: float, share: float) -> float:
    """When a call that comes `now_s` should have ended, if it may take `share` of what is left until `deadline_s`.

    The time left is divided by what the stages that are left are expected to take, as HexGen-Flow (Peng et al. 2025) does:
    share = own expected time / expected time of the longest way from here to the end, the call included. What
    an early stage loses is spread over all that follow. What comes after the deadline was due then. Infinite without a deadline.
    """
    if isinf(deadline_s):
        return inf
    return deadline_s if now_s >= deadline_s else now_s + (deadline_s - now_s) * share
