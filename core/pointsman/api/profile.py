"""Engine profiles as JSON files: what `core.perf.EngineProfile` holds, and where every number comes from."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from pointsman.core.perf import AcceleratorClass, EngineProfile, Hinge, IterationCost, Slope, StartupTimes
from pointsman.core.units import PS_PER_S

HOUR_PS = 3600 * PS_PER_S


class ProfileError(ValueError):
    """A profile is unknown, unreadable or invalid; the message says which field and what is wanted."""


class _Model(BaseModel):
    """Files have snake_case names; the custom resource EngineProfile has the same fields in camelCase."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        loc_by_alias=False,
        use_attribute_docstrings=True,
    )


Picoseconds = Annotated[int, Field(ge=0)]


class HingeFile(_Model):
    """A bend in the cost: beyond some size, more costs more."""

    above: int = Field(gt=0)
    """Prefill tokens, or decode sequences, of an iteration."""
    each_ps: Picoseconds
    """What each further one costs more."""


class SlopeFile(_Model):
    """What tokens of an iteration cost, whichever phase they are of, from some number on."""

    above: int = Field(ge=0)
    """Tokens of an iteration."""
    each_ps: Picoseconds
    """What each further one costs."""


class CostFile(_Model):
    """Coefficients of `core.perf.IterationCost`, integer picoseconds."""

    t0_ps: int = Field(gt=0)
    """Every iteration."""
    tp_ps: Picoseconds
    """Each prefill token."""
    ta_ps: Picoseconds
    """Each pair of tokens that prefill attends to."""
    tb_ps: Picoseconds
    """Each sequence that decodes."""
    tc_ps: Picoseconds
    """Each token of context of those sequences."""
    t0p_ps: Picoseconds = 0
    """Once, where an iteration prefills."""
    t0b_ps: Picoseconds = 0
    """Once, where an iteration decodes."""
    prefill_hinges: tuple[HingeFile, ...] = ()
    """Bends in the cost of prefill tokens."""
    decode_hinges: tuple[HingeFile, ...] = ()
    """Bends in the cost of decode sequences."""
    tn_ps: Picoseconds = 0
    """Each chunk of a prompt."""
    token_slopes: tuple[SlopeFile, ...] = ()
    """What all tokens of an iteration cost together, by their number: each slope from its `above` on."""

    @field_validator("token_slopes")
    @classmethod
    def _rising(cls, slopes: tuple[SlopeFile, ...]) -> tuple[SlopeFile, ...]:
        above = [slope.above for slope in slopes]
        if above != sorted(set(above)):
            raise ValueError("each slope must begin above the one before it")
        return slopes

    def to_cost(self) -> IterationCost:
        values = self.model_dump(exclude={"prefill_hinges", "decode_hinges", "token_slopes"})
        return IterationCost(
            **values,
            prefill_hinges=tuple(Hinge(h.above, h.each_ps) for h in self.prefill_hinges),
            decode_hinges=tuple(Hinge(h.above, h.each_ps) for h in self.decode_hinges),
            token_slopes=tuple(Slope(s.above, s.each_ps) for s in self.token_slopes),
        )

    @classmethod
    def from_cost(cls, cost: IterationCost) -> "CostFile":
        def hinges(found: tuple[Hinge, ...]) -> tuple[HingeFile, ...]:
            return tuple(HingeFile(above=above, each_ps=each_ps) for above, each_ps in found)

        return cls(
            t0_ps=cost.t0_ps,
            tp_ps=cost.tp_ps,
            ta_ps=cost.ta_ps,
            tb_ps=cost.tb_ps,
            tc_ps=cost.tc_ps,
            t0p_ps=cost.t0p_ps,
            t0b_ps=cost.t0b_ps,
            prefill_hinges=hinges(cost.prefill_hinges),
            decode_hinges=hinges(cost.decode_hinges),
            tn_ps=cost.tn_ps,
            token_slopes=tuple(SlopeFile(above=s.above, each_ps=s.each_ps) for s in cost.token_slopes),
        )


class ErrorFile(_Model):
    """Relative errors of predictions for points the fit did not see."""

    points: int
    """How many points."""
    median: float
    """Half of the errors are smaller."""
    p90: float
    """Nine of ten errors are smaller."""
    worst: float
    """The greatest error."""


class ProvenanceFile(_Model):
    """Where a profile's numbers come from, in sentences; errors by phase."""

    source: str
    """Who measured what, and where it can be found."""
    licence: str
    """Of the source."""
    method: str
    """How the coefficients were found."""
    points_used: int
    """How many points the fit saw."""
    left_out: dict[str, ErrorFile]
    """Errors for points that the fit did not see, by phase."""
    kv_capacity: str
    """Where the capacity comes from."""
    kv_bytes_per_token: str
    """Where the bytes of a token come from."""
    transfer: str
    """Where the bandwidth comes from."""
    caveats: tuple[str, ...] = ()
    """What these numbers do not say."""


class StartupFile(_Model):
    """Seconds, as in `core.perf.StartupTimes`."""

    cold_s: float = Field(default=StartupTimes().cold_s, ge=0)
    """With nothing there."""
    image_cached_s: float = Field(default=StartupTimes().image_cached_s, ge=0)
    """With the image on the node."""
    weights_cached_s: float = Field(default=StartupTimes().weights_cached_s, ge=0)
    """With the weights on the node as well."""
    asleep_s: float = Field(default=StartupTimes().asleep_s, ge=0)
    """From sleep."""


class EngineProfileFields(_Model):
    """What a profile holds, beside its name."""

    model: str = Field(min_length=1)
    """The model, as its hub calls it."""
    engine: str
    """The inference server."""
    accelerator: str
    """The accelerator, like `h100-80gb`."""
    accelerator_class: AcceleratorClass
    """Decides the default limit of TPOT: 100 ms for a100, 50 ms for h100."""
    tensor_parallel: int = Field(ge=1)
    """Accelerators that each layer is split over."""
    cost: CostFile
    """What one iteration of continuous batching costs."""
    kv_capacity_tokens: int = Field(gt=0)
    """Tokens whose KV one instance holds."""
    kv_bytes_per_token: int = Field(gt=0)
    """Bytes of KV per token, all layers."""
    transfer_bytes_per_s: float = Field(gt=0)
    """Bandwidth of KV from one instance to another."""
    block_size: int = Field(default=16, gt=0)
    """Tokens per KV block."""
    max_batched_tokens: int = Field(default=2048, gt=0)
    """Most tokens of one iteration."""
    max_sequences: int = Field(default=256, gt=0)
    """Most sequences that run at once."""
    max_context_tokens: int = Field(default=0, ge=0)
    """Longest prompt plus answer. 0: the KV capacity."""
    startup: StartupFile = StartupFile()
    """Seconds until an instance serves, by what is already there."""
    provenance: ProvenanceFile
    """Where these numbers come from."""

    @model_validator(mode="after")
    def _in_picoseconds(self) -> Self:
        """Whoever writes costs in another unit gets iterations of years, and times that do not fit into 64 bits."""
        cost, sequences = self.cost, self.max_sequences
        each_ps = (
            cost.tb_ps
            + sum(h.each_ps for h in cost.decode_hinges)
            + sum(s.each_ps for s in cost.token_slopes)
        )
        most_ps = cost.t0_ps + cost.t0b_ps + each_ps * sequences + cost.tc_ps * self.kv_capacity_tokens
        if most_ps > HOUR_PS:
            raise ValueError(
                f"cost: an iteration of {sequences} sequences and a full cache takes up to {most_ps / HOUR_PS:,.0f} "
                "hours; coefficients are picoseconds"
            )
        return self


class EngineProfileFile(EngineProfileFields):
    name: str = Field(min_length=1)

    def to_profile(self) -> EngineProfile:
        return EngineProfile(
            name=self.name,
            model=self.model,
            engine=self.engine,
            accelerator=self.accelerator,
            accelerator_class=self.accelerator_class,
            tensor_parallel=self.tensor_parallel,
            cost=self.cost.to_cost(),
            kv_capacity_tokens=self.kv_capacity_tokens,
            kv_bytes_per_token=self.kv_bytes_per_token,
            transfer_bytes_per_s=self.transfer_bytes_per_s,
            block_size=self.block_size,
            max_batched_tokens=self.max_batched_tokens,
            max_sequences=self.max_sequences,
            max_context_tokens=self.max_context_tokens,
            startup=StartupTimes(**self.startup.model_dump()),
        )


def shipped_profiles() -> list[str]:
    """Names that `load_profile` knows without a file."""
    return sorted(
        entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json")
    )


def load_profile(name_or_path: str | Path) -> EngineProfile:
    """The shipped profile of that name, or the one in the file at that path. Raises ProfileError."""
    return load_profile_file(name_or_path).to_profile()


def load_profile_file(name_or_path: str | Path) -> EngineProfileFile:
    """As `load_profile`, with where the numbers come from. Raises ProfileError."""
    name = str(name_or_path)
    shipped = shipped_profiles()
    source: Traversable | Path = _folder() / f"{name}.json" if name in shipped else Path(name_or_path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(
            f"no engine profile {name!r}: neither a readable file nor one of {', '.join(shipped)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"engine profile {name}: not UTF-8 text") from error
    try:
        return EngineProfileFile.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ProfileError(f"engine profile {name}: {faults}") from error


def _folder() -> Traversable:
    return files("pointsman.api") / "profiles"
