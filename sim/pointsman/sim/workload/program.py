"""Agent programs: calls of which some can only be made when others have been answered.

A program is data, drawn before anything runs. Which of its calls arrives when is what the simulation finds out: a
call arrives `tool_s` after the last of those it waits for has ended.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a program."""

    prompt_tokens: int
    output_tokens: int
    after: tuple[int, ...] = ()
    """Places of the calls it waits for, all before its own; none: it arrives with the program."""
    tool_s: float = 0.0
    """What its program does before it: a tool, a person."""
    hash_ids: tuple[int, ...] = ()
    """As a `TraceRequest`'s."""
    deadline_share: float = 1.0
    """Which part of the time that is left until the program's deadline the call may take, above 0 to 1."""


@dataclass(frozen=True, slots=True)
class Program:
    """Raises ValueError where a call waits for a later one or the first for any."""

    calls: tuple[Call, ...]
    deadline_s: float = inf
    """After its arrival."""

    def __post_init__(self) -> None:
        if not self.calls or self.calls[0].after:
            raise ValueError("a program begins with a call that waits for none")
        for place, call in enumerate(self.calls):
            if any(not 0 <= former < place for former in call.after):
                raise ValueError(
                    f"call {place} waits for {call.after}: only calls before it can be waited for"
                )

    def renamed(self, new_id: Callable[[int], int]) -> "Program":
        """The same with other prefix blocks."""
        calls = tuple(
            replace(call, hash_ids=tuple(map(new_id, call.hash_ids))) if call.hash_ids else call
            for call in self.calls
        )
        return Program(calls, self.deadline_s)
