"""Pod template patches: what merges how."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.controller.objects.merge import TemplateError, merge
from pointsman.controller.reconcile.contained import contains

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {"name": "engine", "image": "x", "env": [{"name": "A", "value": "1"}], "args": ["a", "b"]}
        ],
        "tolerations": [{"key": "gpu"}],
        "volumes": [{"name": "hub-cache", "emptyDir": {}}],
    },
}

CASES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "a field": ({"spec": {"hostNetwork": True}}, "spec.hostNetwork", True),
    "null removes": ({"spec": {"tolerations": None}}, "spec.tolerations", None),
    "a container is found by its name": (
        {"spec": {"containers": [{"name": "engine", "image": "y"}]}},
        "spec.containers",
        [{"name": "engine", "image": "y", "env": [{"name": "A", "value": "1"}], "args": ["a", "b"]}],
    ),
    "a sidecar is added": (
        {"spec": {"containers": [{"name": "proxy"}]}},
        "spec.containers",
        [*BASE["spec"]["containers"], {"name": "proxy"}],
    ),
    "lists without keys are replaced": (
        {"spec": {"containers": [{"name": "engine", "args": ["c"], "env": [{"name": "B", "value": "2"}]}]}},
        "spec.containers",
        [
            {
                "name": "engine",
                "image": "x",
                "args": ["c"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            }
        ],
    ),
    "tolerations have no key": (
        {"spec": {"tolerations": [{"key": "spot"}]}},
        "spec.tolerations",
        [{"key": "spot"}],
    ),
    "another kind of volume": (
        {
            "spec": {
                "volumes": [
                    {"name": "hub-cache", "emptyDir": None, "persistentVolumeClaim": {"claimName": "c"}}
                ]
            }
        },
        "spec.volumes",
        [{"name": "hub-cache", "persistentVolumeClaim": {"claimName": "c"}}],
    ),
    "an item goes": ({"spec": {"volumes": [{"name": "hub-cache", "$patch": "delete"}]}}, "spec.volumes", []),
    "an object is replaced": (
        {"metadata": {"labels": {"$patch": "replace", "b": "2"}}},
        "metadata.labels",
        {"b": "2"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    patch, path, expected = CASES[name]
    found: Any = merge(BASE, patch)
    for part in path.split("."):
        found = found.get(part)
    assert found == expected


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"spec": {"$retainKeys": ["a"]}}, "template.spec.$retainKeys"),
        ({"spec": {"$patch": "merge"}}, "template.spec.$patch"),
        ({"spec": {"containers": [{"image": "y"}]}}, "template.spec.containers[0]: needs 'name'"),
    ],
)
def test_what_cannot_be_merged_is_named(patch: dict[str, Any], told: str) -> None:
    with pytest.raises(TemplateError) as error:
        merge(BASE, patch)
    assert told in str(error.value)


words = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.integers() | words,
    lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(words, trees, max_size=3), st.dictionaries(words, trees, max_size=3))
def test_merging_twice_is_merging_once_and_what_was_patched_is_there(
    base: dict[str, Any], patch: dict[str, Any]
) -> None:
    once = merge(base, patch)
    assert merge(once, patch) == once
    assert contains(once, patch)
    assert merge(base, {}) == base


@pytest.mark.parametrize(
    ("live", "wanted", "there"),
    [
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, True),
        ({"limits": {"cpu": "500m"}}, {"limits": {"cpu": "0.5"}}, True),
        ({"limits": {"cpu": "500m"}}, {"limits": {"cpu": "5"}}, False),
        (
            {"env": [{"name": "X", "value": "1"}, {"name": "A", "value": "2"}]},
            {"env": [{"name": "A", "value": "2"}]},
            True,
        ),
        ({"args": ["a", "b", "c"]}, {"args": ["a", "b"]}, False),
        ({}, {"volumes": []}, True),
        ({"flag": True}, {"flag": 1}, True),
        ({}, {"flag": False}, False),
    ],
)
def test_what_is_there(live: dict[str, Any], wanted: dict[str, Any], there: bool) -> None:  # noqa: FBT001
    assert contains(live, wanted) is there
