"""Who sends a request, and what it may ask for."""

import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf

from pointsman.api.router_config import Rights, RouterConfig, TenantConfig
from pointsman.core.slo import Slo
from pointsman.router.refusals import BadRequestError, ForbiddenError, UnauthorizedError

Headers = Mapping[bytes, bytes]
"""Names in lower case."""

IDENTIFIER = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
REMEMBERED_PEERS = 4096

NO_CLASSES: Mapping[bytes, Slo] = {}
OBJECTIVE_HEADERS = frozenset(
    (
        b"x-session-id",
        b"x-program-id",
        b"x-priority",
        b"x-slo-ttft-ms",
        b"x-slo-tpot-ms",
        b"x-deadline-ms",
        b"x-llm-d-slo-ttft-ms",
        b"x-llm-d-slo-tpot-ms",
        b"x-llm-d-inference-objective",
        b"x-llm-d-inference-fairness-id",
    )
)
"""Every header that `Tenants.objectives` reads."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A group of users with its rights."""

    name: str
    """Empty where access is open."""
    models: frozenset[str] = frozenset()
    """Names it may use; empty: all."""
    max_priority: int = 0
    slo_floor: Slo = field(default_factory=Slo)
    """The tightest limits it may ask for."""
    max_concurrent: int = 0
    """0: no limit of its own."""
    may_explain: bool = False

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models


@dataclass(init=False, slots=True)
class Objectives:
    """What a request's headers ask for, within its tenant's ceilings. Ids are namespaced by tenant."""

    slo: Slo
    priority: int
    """Higher is more urgent."""
    deadline_s: float
    """From arrival to when the answer is of no use any more."""
    session: str
    program: str
    fairness: str
    """Whose share it counts against within the tenant."""

    def __init__(
        self,
        slo: Slo,
        priority: int = 0,
        deadline_s: float = inf,
        session: str = "",
        program: str = "",
        fairness: str = "",
    ) -> None:
        self.slo = slo
        self.priority = priority
        self.deadline_s = deadline_s
        self.session = session
        self.program = program
        self.fairness = fairness


class Tenants:
    """Tenants by key. Holds hashes only; keys are compared in constant time."""

    def __init__(self, config: RouterConfig, count_clamped: Callable[[str], None]) -> None:
        """`count_clamped` is told the name of every header whose value was beyond a ceiling."""
        self._count_clamped = count_clamped
        self.apply(config)

    def apply(self, config: RouterConfig) -> None:
        """Use another configuration from now on."""
        aliases = {alias: model.name for model in config.models for alias in model.aliases}
        self._open = None if config.tenants else _tenant("", config.open_access, aliases)
        self._rights = _tenant("", config.open_access, aliases)
        self._by_name = {tenant.name: _tenant(tenant.name, tenant, aliases) for tenant in config.tenants}
        # Buckets by the first bytes of the hash, which nobody can steer without knowing a hash to steer towards,
        # keep the constant-time comparisons few.
        self._by_hash: dict[bytes, list[tuple[bytes, Tenant]]] = {}
        for tenant in config.tenants:
            for digest in _digests(tenant):
                self._by_hash.setdefault(digest[:2], []).append((digest, self._by_name[tenant.name]))
        self._proxies = config.trusted_proxies
        self._trusted: dict[str, bool] = {}
        self._objectives = {name.encode(): priority for name, priority in config.objectives.items()}

    def identify(self, headers: Headers, peer: str) -> Tenant:
        """The tenant of a request that came from the IP address `peer`.

        Raises UnauthorizedError without a known key, ForbiddenError where a trusted proxy names an unknown tenant.
        """
        if self._proxies and b"x-tenant" in headers and self._is_trusted(peer):
            return self._named(headers[b"x-tenant"])
        if self._open is not None:
            return self._open
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise UnauthorizedError("an API key is needed: send the header 'Authorization: Bearer KEY'")
        digest = sha256(key.strip()).digest()
        found = None
        for known, tenant in self._by_hash.get(digest[:2], ()):
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise UnauthorizedError("this API key is not known")
        return found

    def _named(self, value: bytes) -> Tenant:
        if not IDENTIFIER.fullmatch(value):
            raise ForbiddenError("x-tenant: not a tenant's name")
        name = value.decode()
        if self._open is not None:
            rights = self._rights
            return Tenant(
                name,
                rights.models,
                rights.max_priority,
                rights.slo_floor,
                rights.max_concurrent,
                rights.may_explain,
            )
        if name not in self._by_name:
            raise ForbiddenError("x-tenant: no tenant of this name")
        return self._by_name[name]

    def _is_trusted(self, peer: str) -> bool:
        trusted = self._trusted.get(peer)
        if trusted is None:
            trusted = self._is_proxy(peer)
            if len(self._trusted) >= REMEMBERED_PEERS:
                self._trusted.clear()
            self._trusted[peer] = trusted
        return trusted

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a connection that is closing has no peer any more
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._proxies)

    def objectives(
        self, headers: Headers, tenant: Tenant, default: Slo, classes: Mapping[bytes, Slo] = NO_CLASSES
    ) -> Objectives:
        """What the headers ask for, clamped to the tenant's ceilings; `default` where they ask for no limits.

        A request that names one of `classes` has its limits in place of the default, no tighter than the tenant's floor.

        Raises BadRequestError naming the header whose value is not of its kind.
        """
        if OBJECTIVE_HEADERS.isdisjoint(headers):
            return Objectives(default)
        ttft_s = self._limit(headers, (b"x-slo-ttft-ms", b"x-llm-d-slo-ttft-ms"), tenant.slo_floor.ttft_s)
        tpot_s = self._limit(headers, (b"x-slo-tpot-ms", b"x-llm-d-slo-tpot-ms"), tenant.slo_floor.tpot_s)
        if classes and (named := classes.get(headers.get(b"x-llm-d-inference-objective", b""))) is not None:
            default = _no_tighter(named, tenant.slo_floor)
        slo = default
        if ttft_s is not None or tpot_s is not None:
            slo = Slo(
                default.ttft_s if ttft_s is None else ttft_s, default.tpot_s if tpot_s is None else tpot_s
            )
        return Objectives(
            slo=slo,
            priority=self._priority(headers, tenant),
            deadline_s=_milliseconds(headers, b"x-deadline-ms") or inf,
            session=_namespaced(headers, b"x-session-id", tenant),
            program=_namespaced(headers, b"x-program-id", tenant),
            fairness=_namespaced(headers, b"x-llm-d-inference-fairness-id", tenant),
        )

    def _limit(self, headers: Headers, names: tuple[bytes, ...], floor_s: float | None) -> float | None:
        for name in names:
            asked_s = _milliseconds(headers, name)
            if asked_s is not None:
                if floor_s is not None and asked_s < floor_s:
                    self._count_clamped(name.decode())
                    return floor_s
                return asked_s
        return None

    def _priority(self, headers: Headers, tenant: Tenant) -> int:
        name = b"x-priority"
        value = headers.get(name)
        if value is not None:
            if not re.fullmatch(rb"[+-]?[0-9]{1,9}", value):
                raise BadRequestError("x-priority", "must be a whole number; higher is more urgent")
            asked = int(value)
        else:
            # An objective that is not configured means nothing here, as in llm-d.
            name = b"x-llm-d-inference-objective"
            asked = self._objectives.get(headers.get(name, b""), 0)
        if asked > tenant.max_priority:
            self._count_clamped(name.decode())
            return tenant.max_priority
        return asked


def _no_tighter(slo: Slo, floor: Slo) -> Slo:
    return Slo(_later(slo.ttft_s, floor.ttft_s), _later(slo.tpot_s, floor.tpot_s))


def _later(limit_s: float | None, floor_s: float | None) -> float | None:
    return limit_s if limit_s is None or floor_s is None else max(limit_s, floor_s)


def _milliseconds(headers: Headers, name: bytes) -> float | None:
    """A header's milliseconds, in seconds."""
    value = headers.get(name)
    if value is None:
        return None
    if not re.fullmatch(rb"[0-9]{1,9}(\.[0-9]{1,6})?", value) or float(value) <= 0.0:
        raise BadRequestError(name.decode(), "must be a number of milliseconds greater than 0")
    return float(value) / 1000.0


def _namespaced(headers: Headers, name: bytes, tenant: Tenant) -> str:
    value = headers.get(name)
    if not value:
        return ""
    if not IDENTIFIER.fullmatch(value):
        raise BadRequestError(name.decode(), "must be at most 128 letters, digits or any of . _ : @ / + = -")
    return f"{tenant.name}\n{value.decode()}"


def _digests(tenant: TenantConfig) -> list[bytes]:
    return [bytes.fromhex(key_hash.removeprefix("sha256:")) for key_hash in tenant.key_hashes]


def _tenant(name: str, rights: Rights, aliases: Mapping[str, str]) -> Tenant:
    floor = rights.slo_floor
    return Tenant(
        name=name,
        models=frozenset(aliases.get(model, model) for model in rights.models),
        max_priority=rights.max_priority,
        slo_floor=Slo(
            None if floor.ttft_ms is None else floor.ttft_ms / 1000.0,
            None if floor.tpot_ms is None else floor.tpot_ms / 1000.0,
        ),
        max_concurrent=rights.max_concurrent,
        may_explain=rights.may_explain,
    )
