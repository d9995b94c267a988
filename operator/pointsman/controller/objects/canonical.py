"""One text for one value, and short names from it."""

import hashlib
import json
from typing import Any

# No vowels and nothing that is misread: neither words nor doubts come of it. Kubernetes uses the same characters.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def canonical(value: Any) -> str:
    """JSON that does not depend on the order of fields."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: Any, length: int) -> str:
    """So many characters that are fit for names; the same for values that differ in the order of fields only."""
    number = int.from_bytes(hashlib.sha256(canonical(value).encode()).digest())
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return "".join(characters)
