"""Engine profiles as files: what an engine costs on an accelerator, and where the figures came from."""

from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost, StartupTimes


class ProfileError(ValueError):
    """A profile is unknown or unreadable; the message says which and what there is."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cost(_Strict):
    """`core.perf.IterationCost`, in picoseconds."""

    t0_ps: int = Field(ge=0)
    tp_ps: int = Field(ge=0)
    ta_ps: int = Field(ge=0)
    tb_ps: int = Field(ge=0)
    tc_ps: int = Field(ge=0)
    tk_ps: int = Field(default=0, ge=0)
    knee: int = Field(default=0, ge=0)


class Startup(_Strict):
    """`core.perf.StartupTimes`, in seconds."""

    cold_s: float = Field(ge=0)
    image_cached_s: float = Field(ge=0)
    weights_cached_s: float = Field(ge=0)
    asleep_s: float = Field(ge=0)


class FitError(_Strict):
    """Relative error of the cost model on points that the fit did not see."""

    points: int = Field(ge=0)
    median: float = Field(ge=0)
    p90: float = Field(ge=0)


class Provenance(_Strict):
    """Where the points came from, and how well the model holds on points left out of the fit."""

    source: str
    licence: str
    method: str
    points: int = Field(ge=1)
    held_out_prefill: FitError
    held_out_decode: FitError


class EngineProfileFile(_Strict):
    """One JSON file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    model: str
    engine: str
    accelerator: str
    accelerator_class: AcceleratorClass
    tensor_parallel: int = Field(ge=1)
    cost: Cost
    kv_capacity_tokens: int = Field(ge=1)
    kv_bytes_per_token: int = Field(ge=1)
    transfer_bytes_per_s: float = Field(gt=0)
    block_size: int = Field(default=16, ge=1)
    max_batched_tokens: int = Field(default=2048, ge=1)
    max_sequences: int = Field(default=256, ge=1)
    max_context_tokens: int = Field(default=0, ge=0)
    startup: Startup
    provenance: Provenance

    def to_core(self) -> EngineProfile:
        fields = self.model_dump(exclude={"cost", "startup", "provenance"})
        return EngineProfile(
            **fields,
            cost=IterationCost(**self.cost.model_dump()),
            startup=StartupTimes(**self.startup.model_dump()),
        )


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with Pointsman."""
    folder = resources.files("pointsman.api") / "profiles"
    return sorted(
        entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")
    )


def load_profile_file(name_or_path: str) -> EngineProfileFile:
    """A shipped profile by name, or one from a file.

    Raises:
        ProfileError: there is none of that name, or the file is not a profile.

    """
    path = Path(name_or_path)
    if name_or_path in shipped_profiles():
        text = (resources.files("pointsman.api") / "profiles" / f"{name_or_path}.json").read_text()
    elif path.suffix == ".json" and path.is_file():
        text = path.read_text()
    else:
        known = ", ".join(shipped_profiles())
        raise ProfileError(f"no engine profile {name_or_path!r}: name one of {known}, or a .json file")
    try:
        return EngineProfileFile.model_validate_json(text)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProfileError(f"{name_or_path} is not an engine profile: {'; '.join(lines)}") from error


def load_profile(name_or_path: str) -> EngineProfile:
    """`load_profile_file` as the value that decisions and simulations use."""
    return load_profile_file(name_or_path).to_core()
