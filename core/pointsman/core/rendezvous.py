"""Rendezvous hashing: every key ranks all instances; when one leaves, only its own keys move.

Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (IEEE/ACM ToN 1998).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stable_hash(text: str) -> int:
    """64 bits that are the same in every process and release."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def highest(key: str, hashes: NDArray[np.uint64]) -> int:
    """Index of the instance that `key` ranks first, given the instances' own hashes.

    The weight of a pair is the finalizer of splitmix64 (Steele et al., OOPSLA 2014) over both hashes.
    """
    mixed = hashes ^ np.uint64(stable_hash(key))
    mixed = mixed + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return int((mixed ^ (mixed >> np.uint64(31))).argmax())
