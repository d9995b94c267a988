"""Profiles as files: what ships loads, what is wrong says so."""

import json
from pathlib import Path

import pytest

from pointsman.api.profile import ProfileError, load_profile, load_profile_file, shipped_profiles
from pointsman.core.slo import default_slo
from pointsman.core.units import PS_PER_MS, to_s


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_loads_and_states_its_source_and_error(name: str) -> None:
    file = load_profile_file(name)
    assert file.name == name
    assert file.provenance.source
    assert file.provenance.held_out_prefill.points > 0
    assert load_profile(name).longest_context_tokens == file.kv_capacity_tokens


def test_opt_13b_follows_distserves_formulas() -> None:
    """18.1025 + 0.101912*n + 7.12226e-6*n^2 ms to prefill; 19.9347 + 0.000626936*C + 0.038507*B to decode."""
    cost = load_profile("a100-opt-13b").cost
    for tokens in (256, 1024, 2048):
        wanted_ms = 18.1025 + 0.101912 * tokens + 7.12226e-6 * tokens**2
        assert cost.prefill_ps(tokens, 2048) / PS_PER_MS == pytest.approx(wanted_ms, rel=0.05)
    for batch, context in ((1, 500), (16, 8000), (64, 30_000)):
        wanted_ms = 19.9347 + 0.000626936 * context + 0.038507 * batch
        assert cost.iteration_ps(0, 0, batch, context) / PS_PER_MS == pytest.approx(wanted_ms, rel=0.05)


def test_the_default_slo_is_two_seconds_and_twice_the_prefill() -> None:
    profile = load_profile("a100-opt-13b")
    slo = default_slo(profile, 1000, 2048)
    assert slo.ttft_s == pytest.approx(2.0 + 2 * to_s(profile.cost.prefill_ps(1000, 2048)))
    assert slo.tpot_s == 0.100


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ProfileError, match=r"no engine profile 'h900': name one of .*a100-opt-13b"):
        load_profile("h900")


def test_a_bad_file_names_its_fields(tmp_path: Path) -> None:
    content = load_profile_file("a100-opt-13b").model_dump(mode="json")
    content["block_size"] = 0
    content["colour"] = "red"
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ProfileError, match=r"block_size: .*; colour: Extra inputs"):
        load_profile(str(path))
