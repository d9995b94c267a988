"""Virtual time is an integer number of picoseconds, so that leaping over n iterations equals stepping n times."""

from typing import Final

PS_PER_S: Final = 1_000_000_000_000
PS_PER_MS: Final = 1_000_000_000


def to_ps(seconds: float) -> int:
    """The picosecond nearest to a time in seconds."""
    return round(seconds * PS_PER_S)


def to_s(picoseconds: int) -> float:
    return picoseconds / PS_PER_S
