"""A simulated request, from its arrival to its end, and its legs on engines."""

from enum import Enum, auto
from typing import Final

from pointsman.core.instances import InstanceId
from pointsman.core.requests import RequestView
from pointsman.sim.engine.request import EngineRequest
from pointsman.sim.simulation.programs import ProgramCall

NEVER: Final = -1


class Part(Enum):
    """What a leg is for."""

    WHOLE = auto()
    """Prompt and answer."""
    PREFILL = auto()
    """The prompt alone, its KV held for the decode leg."""
    DECODE = auto()
    """The answer, with KV that was computed elsewhere."""


class Life:
    """What became of an offered request so far."""

    __slots__ = (
        "arrived_ps",
        "attempts",
        "call",
        "first_token_ps",
        "index",
        "leg",
        "output_tokens",
        "prefix",
        "prompt_tokens",
        "replica",
        "source",
        "view",
    )

    def __init__(
        self,
        index: int,
        arrived_ps: int,
        prompt_tokens: int,
        output_tokens: int,
        view: RequestView,
        replica: int,
    ) -> None:
        self.index = index
        self.arrived_ps = arrived_ps
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.view = view
        self.replica = replica
        """Which router it came to."""
        self.prefix: tuple[int, ...] = ()
        self.call: ProgramCall | None = None
        """Which call of a program it is."""
        self.attempts = 0
        self.first_token_ps = NEVER
        self.leg: Leg | None = None
        """The one under way."""
        self.source: Leg | None = None
        """The prefill leg whose KV is still held for the one under way."""


class Leg(EngineRequest):
    """One engine's part in a life."""

    __slots__ = ("life", "node", "part", "then")

    def __init__(
        self, request_id: str, prompt_tokens: int, output_tokens: int, life: Life, part: Part, node: int
    ) -> None:
        super().__init__(request_id, prompt_tokens, output_tokens)
        self.life = life
        self.part = part
        self.node = node
        """Number of the instance it runs on."""
        self.then: InstanceId | None = None
        """Of a prefill leg: who goes on. None: decided when it has ended."""
