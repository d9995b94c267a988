"""Write the Go modules of `tools/`: one `go.mod` and `go.sum` per tool, and per Kubernetes minor.

    python -m e2e.cluster.modules                       # every tool again, as pinned below
    python -m e2e.cluster.modules kubernetes-1.37=v1.37.0

The files are committed, so nobody needs this to build. It is how a version is raised and how a Kubernetes minor is added.
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import commands

TOOLS = Path(__file__).with_name("tools")

# Everything that a Kubernetes cluster is made of and that the tests of one call.
KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "kube-proxy",
)


@dataclass(frozen=True, slots=True)
class GoTool:
    """One folder of `tools/`: commands of one Go module at one version."""

    folder: str
    module: str
    version: str
    packages: tuple[str, ...]


def kubernetes(folder: str, version: str) -> GoTool:
    packages = tuple(f"k8s.io/kubernetes/cmd/{command}" for command in KUBERNETES_COMMANDS)
    return GoTool(folder, "k8s.io/kubernetes", version, packages)


PINNED = (
    kubernetes("kubernetes-1.36", "v1.36.3"),
    kubernetes("kubernetes-1.34", "v1.34.4"),
    GoTool("etcd", "go.etcd.io/etcd/server/v3", "v3.6.16", ("go.etcd.io/etcd/server/v3",)),
    GoTool("kwok", "sigs.k8s.io/kwok", "v0.8.0", ("sigs.k8s.io/kwok/cmd/kwok",)),
    GoTool("coredns", "github.com/coredns/coredns", "v1.14.2", ("github.com/coredns/coredns",)),
    GoTool("helm-3", "helm.sh/helm/v3", "v3.22.0", ("helm.sh/helm/v3/cmd/helm",)),
    GoTool("helm-4", "helm.sh/helm/v4", "v4.3.1", ("helm.sh/helm/v4/cmd/helm",)),
    GoTool(
        "kubeconform",
        "github.com/yannh/kubeconform",
        "v0.8.0",
        ("github.com/yannh/kubeconform/cmd/kubeconform",),
    ),
    GoTool(
        "metrics-server",
        "sigs.k8s.io/metrics-server",
        "v0.8.0",
        ("sigs.k8s.io/metrics-server/cmd/metrics-server",),
    ),
    GoTool("leader-worker-set", "sigs.k8s.io/lws", "v0.8.0", ("sigs.k8s.io/lws/cmd",)),
)


def staging_replacements(upstream_go_mod: str, version: str) -> dict[str, str]:
    """Module -> version for every staging module of Kubernetes.

    Kubernetes requires them at v0.0.0 and replaces them by folders of its own tree; outside of that tree each is
    published as v0.MINOR.PATCH.
    """
    published = re.sub(r"^v1\.", "v0.", version)
    return dict.fromkeys(re.findall(r"^\s+(k8s\.io/\S+) v0\.0\.0$", upstream_go_mod, re.MULTILINE), published)


def render(tool: GoTool, upstream_go_mod: str) -> str:
    """The `go.mod` that requires the tool and builds its commands with `go build tool`."""
    match = re.search(r"^go (\S+)$", upstream_go_mod, re.MULTILINE)
    if match is None:
        raise ValueError(f"{tool.module}@{tool.version}: its go.mod names no Go version")
    replaced = staging_replacements(upstream_go_mod, tool.version)
    # Replacements by path, of forks or of the tree's own folders, count in the main module only: state them again.
    for module, target in re.findall(
        r"^\s*(?:replace )?(\S+)(?: v\S+)? => ((?!\.)\S+ v\S+)$", upstream_go_mod, re.MULTILINE
    ):
        replaced.setdefault(module, target)
    lines = [
        f"module pointsman.io/e2e/{tool.folder}",
        f"go {match[1]}",
        *(f"tool {package}" for package in tool.packages),
        f"require {tool.module} {tool.version}",
        *(
            f"replace {module} => {target if ' ' in target else f'{module} {target}'}"
            for module, target in sorted(replaced.items())
        ),
    ]
    return "\n\n".join(lines) + "\n"


def write(tool: GoTool) -> None:
    folder = TOOLS / tool.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    downloaded = commands.run(
        ["go", "mod", "download", "-json", f"{tool.module}@{tool.version}"], folder=folder
    )
    upstream = Path(json.loads(downloaded.stdout)["GoMod"]).read_text()
    (folder / "go.mod").write_text(render(tool, upstream))
    commands.run(["go", "mod", "tidy"], folder=folder)
    commands.run(["go", "mod", "edit", "-fmt"], folder=folder)


def main(arguments: list[str]) -> None:
    tools: tuple[GoTool, ...] = PINNED
    if arguments:
        tools = tuple(kubernetes(*argument.split("=", 1)) for argument in arguments)
    for tool in tools:
        write(tool)


if __name__ == "__main__":
    main(sys.argv[1:])
