"""Profiles ship with their sources, load by name or path, and say what is wrong with a file."""

import json
from pathlib import Path

import pytest

from pointsman.api.profile import (
    CostFile,
    ProfileError,
    load_profile,
    load_profile_file,
    shipped_profiles,
)
from pointsman.core.slo import default_slo
from pointsman.core.units import to_s


def test_a_dozen_profiles_ship_named_by_accelerator_and_model() -> None:
    names = shipped_profiles()
    assert {"h100-llama3.1-8b", "a100-llama2-70b-tp8", "a100-opt-13b", "b200-qwen3-30b-a3b"} <= set(names)
    assert len(names) >= 12
    assert {name.split("-")[0] for name in names} == {"a100", "h100", "h200", "b200", "l40s"}


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_says_where_its_numbers_come_from(name: str) -> None:
    file = load_profile_file(name)
    assert file.name == name
    provenance = file.provenance
    assert provenance.source
    assert provenance.licence in {"MIT", "Apache-2.0"}
    assert {"prefill", "decode"} <= set(provenance.left_out)
    assert all(0 <= error.median <= error.p90 <= error.worst for error in provenance.left_out.values())
    assert provenance.points_used > 20


@pytest.mark.parametrize("name", shipped_profiles())
def test_what_aiconfigurator_says_is_called_an_estimate(name: str) -> None:
    source = load_profile_file(name).provenance.source
    assert source.startswith("estimate, not a measurement") == ("aiconfigurator" in source)


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_profile_survives_the_way_to_core_and_back(name: str) -> None:
    file = load_profile_file(name)
    assert CostFile.from_cost(file.to_profile().cost) == file.cost


@pytest.mark.parametrize(
    ("iteration", "expected_s"),
    [
        # a + b*n + c*n^2 of the published coefficients
        ((512, 512**2, 0, 0), 0.0181025 + 512 * 0.101912e-3 + 512**2 * 7.12226e-9),
        ((0, 0, 64, 64 * 500), 0.0199347 + 64 * 0.038507e-3 + 64 * 500 * 0.000626936e-3),
        ((0, 0, 160, 160 * 300), 0.00716619 + 160 * 0.158311e-3 + 160 * 300 * 0.0005798e-3),
    ],
)
def test_opt_13b_follows_the_published_formulas(
    iteration: tuple[int, int, int, int], expected_s: float
) -> None:
    assert to_s(load_profile("a100-opt-13b").cost.iteration_ps(*iteration)) == pytest.approx(
        expected_s, rel=0.03
    )


def test_the_longest_context_is_the_kv_capacity_unless_told() -> None:
    assert load_profile("a100-opt-13b").longest_context_tokens == 66_144


def test_the_default_slo_is_two_seconds_and_twice_the_prefill() -> None:
    profile = load_profile("a100-opt-13b")
    slo = default_slo(profile, 1000, 2048)
    assert slo.ttft_s == pytest.approx(2.0 + 2 * to_s(profile.cost.prefill_ps(1000, 2048)))
    assert slo.tpot_s == 0.100


def test_a_path_loads_as_well(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(load_profile_file("a100-opt-13b").model_dump_json())
    assert load_profile(path) == load_profile("a100-opt-13b")
    assert load_profile(str(path)) == load_profile("a100-opt-13b")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ProfileError, match=r"no engine profile 'h900': .*a100-llama2-70b-tp8, .*a100-opt-13b"
    ):
        load_profile("h900")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_capacity_tokens": 0}, "kv_capacity_tokens: .*greater than 0"),
        (
            {"cost": {"t0_ps": 1, "tp_ps": -1, "ta_ps": 0, "tb_ps": 0, "tc_ps": 0}},
            "cost.tp_ps: .*greater than or equal",
        ),
        (
            {
                "cost": {"t0_ps": 1, "tp_ps": 1, "ta_ps": 0, "tb_ps": 0, "tc_ps": 0}
                | {"token_slopes": [{"above": 8, "each_ps": 1}, {"above": 8, "each_ps": 2}]}
            },
            "cost.token_slopes: .*begin above the one before",
        ),
        (
            {"cost": {"t0_ps": 1, "tp_ps": 1, "ta_ps": 0, "tb_ps": 10**16, "tc_ps": 0}},
            "an iteration of 256 sequences and a full cache takes up to 711 hours; .*picoseconds",
        ),
        ({"blocksize": 16}, "blocksize: Extra inputs"),
        ({"accelerator_class": "b17"}, "accelerator_class: .*'a100' or 'h100'"),
    ],
)
def test_a_faulty_file_is_refused_by_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(load_profile_file("a100-opt-13b").model_dump(mode="json") | change))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(b"\xff{")
    with pytest.raises(ProfileError, match="not UTF-8"):
        load_profile(path)
    path.write_text("{")
    with pytest.raises(ProfileError, match="file: Invalid JSON"):
        load_profile(path)
