"""Whether an object still holds what was applied, whatever others have added to it."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pointsman.controller.objects.merge import KEYS
from pointsman.controller.objects.meta import APPLIED

LISTS = {**KEYS, "ownerReferences": "uid", "conditions": "type"}
AMOUNT = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
UNITS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def up_to_date(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether applying `wanted` would change nothing: it was applied as it is, and every field of it is still there.

    The first by the hash in its annotations, which tells of fields that are no longer wanted; the second field by field.
    """
    stamp = wanted["metadata"].get("annotations", {}).get(APPLIED)
    return live["metadata"].get("annotations", {}).get(APPLIED) == stamp and contains(live, wanted)


def contains(live: Any, wanted: Any) -> bool:
    """Whether all of `wanted` is in `live`; items of lists are found by their keys, and amounts compared as amounts."""
    # Dicts and lists, as JSON is read, and not Mappings: to ask for those takes longer than everything else here.
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        return all(_field_is_there(name, live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not wanted and live is None:
            return True
        return isinstance(live, list) and len(live) == len(wanted) and all(map(contains, live, wanted))
    return bool(live == wanted) or _same_amount(live, wanted)


def _field_is_there(name: str, live: Any, wanted: Any) -> bool:
    key = LISTS.get(name)
    if key is None or not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
        return contains(live, wanted)
    found = {item.get(key): item for item in live or () if isinstance(item, dict)}
    return all(item.get(key) in found and contains(found[item.get(key)], item) for item in wanted)


def _same_amount(live: Any, wanted: Any) -> bool:
    """The API server writes amounts in a form of its own: 1024Mi is 1Gi."""
    found, meant = (AMOUNT.match(str(value)) for value in (live, wanted))
    if isinstance(live, bool) or isinstance(wanted, bool) or found is None or meant is None:
        return False
    return bool(Decimal(found[1]) * UNITS[found[2]] == Decimal(meant[1]) * UNITS[meant[2]])
