"""Engine profiles as JSON files: what `core.perf.EngineProfile` holds, and where every number comes from."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from pointsman.core.perf import AcceleratorClass, EngineProfile, Hinge, IterationCost, Slope, StartupTimes


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
    above: int = Field(gt=0)
    each_ps: Picoseconds


class SlopeFile(_Model):
    above: int = Field(ge=0)
    each_ps: Picoseconds


class CostFile(_Model):
    """Coefficients of `core.perf.IterationCost`, integer picoseconds."""

    t0_ps: int = Field(gt=0)
    tp_ps: Picoseconds
    ta_ps: Picoseconds
    tb_ps: Picoseconds
    tc_ps: Picoseconds
    t0p_ps: Picoseconds = 0
    t0b_ps: Picoseconds = 0
    prefill_hinges: tuple[HingeFile, ...] = ()
    decode_hinges: tuple[HingeFile, ...] = ()
    tn_ps: Picoseconds = 0
    token_slopes: tuple[SlopeFile, ...] = ()

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
    median: float
    p90: float
    worst: float


class ProvenanceFile(_Model):
    """Where a profile's numbers come from, in sentences; errors by phase."""

    source: str
    licence: str
    method: str
    points_used: int
    left_out: dict[str, ErrorFile]
    kv_capacity: str
    kv_bytes_per_token: str
    transfer: str
    caveats: tuple[str, ...] = ()


class StartupFile(_Model):
    """Seconds, as in `core.perf.StartupTimes`."""

    cold_s: float = Field(default=StartupTimes().cold_s, ge=0)
    image_cached_s: float = Field(default=StartupTimes().image_cached_s, ge=0)
    weights_cached_s: float = Field(default=StartupTimes().weights_cached_s, ge=0)
    asleep_s: float = Field(default=StartupTimes().asleep_s, ge=0)


class EngineProfileFields(_Model):
    """What a profile holds, beside its name."""

    model: str = Field(min_length=1)
    engine: str
    accelerator: str
    accelerator_class: AcceleratorClass
    tensor_parallel: int = Field(ge=1)
    cost: CostFile
    kv_capacity_tokens: int = Field(gt=0)
    kv_bytes_per_token: int = Field(gt=0)
    transfer_bytes_per_s: float = Field(gt=0)
    block_size: int = Field(default=16, gt=0)
    max_batched_tokens: int = Field(default=2048, gt=0)
    max_sequences: int = Field(default=256, gt=0)
    max_context_tokens: int = Field(default=0, ge=0)
    startup: StartupFile = StartupFile()
    provenance: ProvenanceFile


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
