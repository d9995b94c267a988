"""The Go modules of the cluster's tools: what the generator writes, and that the committed ones are what it wrote."""

import pytest

from e2e.cluster import binaries, modules

UPSTREAM = """\
module k8s.io/kubernetes

go 1.26.0

require (
\tgithub.com/moby/sys v1.2.3
\tk8s.io/api v0.0.0
\tk8s.io/kubelet v0.0.0
\tk8s.io/utils v0.0.0-20260210185600-b8788abfbbc2
)

replace (
\tgithub.com/old/fork => github.com/new/fork v1.0.0
\tk8s.io/api => ./staging/src/k8s.io/api
)
"""


def test_staging_modules_are_published_under_the_same_minor_and_patch() -> None:
    assert modules.staging_replacements(UPSTREAM, "v1.36.3") == {
        "k8s.io/api": "v0.36.3",
        "k8s.io/kubelet": "v0.36.3",
    }


def test_go_mod_builds_every_command_and_states_replacements_again() -> None:
    tool = modules.GoTool(
        "kubernetes-1.36", "k8s.io/kubernetes", "v1.36.3", ("k8s.io/kubernetes/cmd/kubectl",)
    )
    assert modules.render(tool, UPSTREAM).split("\n\n") == [
        "module pointsman.io/e2e/kubernetes-1.36",
        "go 1.26.0",
        "tool k8s.io/kubernetes/cmd/kubectl",
        "require k8s.io/kubernetes v1.36.3",
        "replace github.com/old/fork => github.com/new/fork v1.0.0",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/kubelet => k8s.io/kubelet v0.36.3\n",
    ]


def test_a_module_without_a_go_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="names no Go version"):
        modules.render(modules.PINNED[0], "module k8s.io/kubernetes\n")


@pytest.mark.parametrize("tool", modules.PINNED, ids=lambda tool: tool.folder)
def test_the_committed_modules_are_at_the_pinned_versions(tool: modules.GoTool) -> None:
    go_mod = (modules.TOOLS / tool.folder / "go.mod").read_text()
    assert f"{tool.module} {tool.version}" in go_mod
    for package in tool.packages:
        assert package in go_mod
    assert f"{tool.module} {tool.version} h1:" in (modules.TOOLS / tool.folder / "go.sum").read_text()


@pytest.mark.parametrize(
    ("path", "version", "flags"),
    [
        (
            "k8s.io/kubernetes",
            "v1.36.3",
            (
                "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 "
                "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
            ),
        ),
        ("helm.sh/helm/v4", "v4.3.1", "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1"),
        ("github.com/coredns/coredns", "v1.14.2", "-s -w"),
    ],
)
def test_commands_know_their_version_where_anybody_asks(path: str, version: str, flags: str) -> None:
    assert binaries.linker_flags(binaries.Module(modules.TOOLS, path, version, ())) == flags


def test_another_go_or_another_pin_is_another_key() -> None:
    folder = modules.TOOLS / "pause"
    module = binaries.Module(folder, "pause", "", (".",))
    assert binaries.cache_key(module, "go1.26 amd64") != binaries.cache_key(module, "go1.27 amd64")
    other = binaries.Module(modules.TOOLS / "etcd", "pause", "", (".",))
    assert binaries.cache_key(module, "go1.26 amd64") != binaries.cache_key(other, "go1.26 amd64")
