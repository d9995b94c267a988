"""An engine profile from estimates: points, fit, errors on points it did not see, and where each number is from."""

from importlib.metadata import version

from pointsman.api.fitting import Point, RelativeErrors, errors_by_phase, fit_jointly
from pointsman.api.profile import CostFile, EngineProfileFile, ErrorFile, ProvenanceFile
from pointsman.core.perf import AcceleratorClass
from pointsman.profiling.estimate import Estimator

FITTED, UNSEEN = 1, 2
"""Seeds of the points that are fitted, and of those that the fit does not see."""
OF_EACH_PHASE = 400
METHOD = (
    "non-negative least squares on relative errors over the form of pointsman.core.perf.IterationCost, all phases at "
    "once; coefficients rounded to picoseconds; errors are of as many points drawn anew, which the fit did not see"
)


def estimated_profile(
    name: str,
    estimator: Estimator,
    accelerator_class: AcceleratorClass,
    max_batched_tokens: int = 2048,
    max_sequences: int = 256,
) -> tuple[EngineProfileFile, list[Point]]:
    """The profile, and the points that its fit did not see. Raises EstimateError."""
    shape = estimator.shape
    points = estimator.points(FITTED, OF_EACH_PHASE)
    unseen = estimator.points(UNSEEN, OF_EACH_PHASE)
    cost = fit_jointly(points)
    kv = estimator.kv(max_batched_tokens, max_sequences)
    count = shape.tensor_parallel
    return EngineProfileFile(
        name=name,
        model=shape.model,
        engine=shape.backend,
        accelerator=shape.system,
        accelerator_class=accelerator_class,
        tensor_parallel=count,
        cost=CostFile.from_cost(cost),
        kv_capacity_tokens=kv.capacity_tokens,
        kv_bytes_per_token=kv.bytes_per_token,
        transfer_bytes_per_s=count * kv.link_bytes_per_s,
        max_batched_tokens=max_batched_tokens,
        max_sequences=max_sequences,
        provenance=ProvenanceFile(
            source=f"estimate, not a measurement of an engine: aiconfigurator {version('aiconfigurator')} composes "
            f"iterations of {shape.backend} {estimator.version} on {shape.system} (16-bit weights and KV) from kernels "
            "that NVIDIA measured; figures derived, no data of it included",
            licence="Apache-2.0",
            method=METHOD,
            points_used=len(points),
            left_out={phase: rounded(error) for phase, error in errors_by_phase(cost, unseen).items()},
            kv_capacity=f"aiconfigurator's estimate: 0.9 of the memory less weights, activations of "
            f"{max_batched_tokens} tokens and overheads",
            kv_bytes_per_token="from the model's configuration, over all accelerators of the instance",
            transfer="the vendor's figure of one accelerator's link to another node, times the accelerators; "
            "what a connector attains of it is not modelled",
            caveats=(
                "errors say how well the form holds the estimates, not how well the estimates hold an engine",
                "what the engine's host code costs is in it only as far as the kernels' measurements have it",
                "mixed iterations hold one prompt chunk without cached context",
            ),
        ),
    ), unseen


def rounded(error: RelativeErrors) -> ErrorFile:
    return ErrorFile(
        points=error.points,
        median=round(error.median, 4),
        p90=round(error.p90, 4),
        worst=round(error.worst, 4),
    )
