"""What an account may do against what it did, by the API server's audit log: exactly that, neither more nor less."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.controller.roles import READ, Rule
from pointsman.kube.resource import MODEL_SERVICES, PODS

ROUTER = (Rule(MODEL_SERVICES, READ), Rule(PODS, READ))
"""What a router may do in the namespaces that it watches: another test holds the chart against it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule in a namespace, or, where that is empty, in all of them and outside of them."""

    rule: Rule
    namespace: str = ""

    def allows(self, call: "Call") -> bool:
        rule = self.rule
        plural = f"{rule.resource.plural}/{rule.subresource}" if rule.subresource else rule.resource.plural
        return (
            (rule.resource.group, plural) == (call.group, call.resource)
            and call.verb in rule.verbs
            and self.namespace in {"", call.namespace}
            and (not rule.names or call.name in rule.names)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of call."""

    group: str
    resource: str
    """Plural, with its subresource."""
    verb: str
    namespace: str
    name: str


def calls(audit_log: Path, user: str) -> tuple[set[Call], set[Call]]:
    """What a user has done, and what was refused for lack of a right."""
    done: set[Call] = set()
    refused: set[Call] = set()
    for line in audit_log.read_text().splitlines():
        entry = json.loads(line)
        if entry["user"]["username"] == user and "objectRef" in entry:
            allowed = entry["annotations"].get("authorization.k8s.io/decision") == "allow"
            (done if allowed else refused).update(_calls(entry))
    return done, refused


def _calls(entry: Mapping[str, Any]) -> Iterator[Call]:
    ref = entry["objectRef"]
    resource = f"{ref['resource']}/{ref['subresource']}" if "subresource" in ref else ref["resource"]
    # Server-side apply of what is not there needs both verbs, and the log calls it patch.
    made = entry["verb"] == "patch" and entry.get("responseStatus", {}).get("code") == 201
    for verb in (entry["verb"], "create") if made else (entry["verb"],):
        yield Call(ref.get("apiGroup", ""), resource, verb, ref.get("namespace", ""), ref.get("name", ""))


def superfluous(grants: Iterable[Grant], done: set[Call]) -> set[tuple[str, str]]:
    """Rights that no call has used: kind with subresource, and verb."""
    found = set()
    for grant in grants:
        for verb in grant.rule.verbs:
            if not any(call.verb == verb and grant.allows(call) for call in done):
                plural = grant.rule.wire()["resources"][0]
                found.add((plural, verb))
    return found


def beyond(grants: Iterable[Grant], done: set[Call]) -> set[Call]:
    """Calls that were allowed by something else than these."""
    held = tuple(grants)
    return {call for call in done if not any(grant.allows(call) for grant in held)}
