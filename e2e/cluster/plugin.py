"""Fixtures and options for tests on a cluster: load it with `-p e2e.cluster.plugin`.

`cluster` has real nodes and lives as long as the session; `control_plane` has none, or fake ones, and lives as long as
its module; `namespace` is a fresh place on `cluster` for one test. What a failed test left behind is collected first.
"""

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import binaries, helm, leader_worker_set, local, metrics_server, requirements
from e2e.cluster.cluster import Cluster
from e2e.cluster.external import CurrentCluster, KindCluster, reaches_services
from e2e.cluster.local import LocalCluster
from e2e.cluster.namespace import Namespace

START_AND_TEST_SECONDS = {"local": 300, "kind": 900, "current": 300}
NAMESPACE_LENGTH = 50  # of 63: a few random characters follow
FOLDER_LENGTH = 200
VERSION = pytest.StashKey[str]()
PROVIDERS_BY_MARKER = {
    "local_cluster": ["local"],
    "kills_nodes": ["local", "kind"],
    "enforces_policies": ["local", "kind"],
    "asks_services": ["local", "current"],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster")
    group.addoption(
        "--cluster",
        choices=["local", "kind", "current"],
        default="local",
        help="where tests run: in a cluster of this machine's own making, in kind (Docker), or where KUBECONFIG points",
    )
    group.addoption(
        "--artefacts",
        type=Path,
        default=binaries.PROJECT / "build" / "artefacts",
        help="folder for the logs and objects of failed tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[VERSION] = os.environ.get("KUBE") or binaries.DEFAULT_KUBERNETES


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    provider = config.getoption("--cluster")
    outside = provider == "current" and not reaches_services()
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(START_AND_TEST_SECONDS[provider]))
        for marker, providers in PROVIDERS_BY_MARKER.items():
            if item.get_closest_marker(marker) and provider not in providers:
                item.add_marker(pytest.mark.skip(reason=f"needs --cluster {' or '.join(providers)}"))
        if outside and item.get_closest_marker("asks_services"):
            item.add_marker(
                pytest.mark.skip(reason="this machine does not know the cluster's Services by name")
            )


@pytest.fixture(scope="session")
def kubernetes(pytestconfig: pytest.Config) -> str:
    """The minor version of Kubernetes that local clusters run."""
    return pytestconfig.stash[VERSION]


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, kubernetes: str) -> Iterator[Cluster]:
    """A cluster with real nodes and the project's image on them."""
    provider = pytestconfig.getoption("--cluster")
    if provider == "local":
        skip_where_impossible(nodes=True)
        with local.start_cluster(kubernetes) as started:
            yield started
    elif provider == "kind":
        with KindCluster() as started:
            yield started
    else:
        yield CurrentCluster()


@pytest.fixture(scope="session")
def image_values(cluster: Cluster) -> dict[str, Any]:
    """The chart's values that name the images of `cluster`."""
    return helm.images_on(cluster)


@pytest.fixture(scope="module")
def control_plane(pytestconfig: pytest.Config, kubernetes: str) -> Iterator[LocalCluster]:
    """A control plane; `add_fake_nodes` gives it nodes whose pods run without containers."""
    if pytestconfig.getoption("--cluster") != "local":
        pytest.skip("fake nodes need a control plane of our own: --cluster local")
    skip_where_impossible(nodes=False)
    with local.start_control_plane(kubernetes) as started:
        yield started


@pytest.fixture(scope="session")
def metrics(cluster: Cluster) -> None:
    """The nodes' and pods' metrics are served, as HorizontalPodAutoscalers need them."""
    if isinstance(cluster, LocalCluster):
        cluster.serve_metrics(built_or_skip(metrics_server.FOLDER))
    elif not cluster.serves("nodes.metrics.k8s.io"):
        pytest.skip("this cluster has no metrics-server")


@pytest.fixture(scope="session")
def leader_worker_sets(cluster: Cluster) -> None:
    """Instances may span nodes."""
    if isinstance(cluster, LocalCluster):
        cluster.serve_leader_worker_sets(built_or_skip(leader_worker_set.FOLDER))
    elif not cluster.serves(leader_worker_set.RESOURCE):
        pytest.skip("this cluster has no LeaderWorkerSet")


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own."""
    with Namespace(cluster, _name_of(request.node, NAMESPACE_LENGTH)) as fresh:
        yield fresh


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Before any fixture is torn down: what failed is still there to be looked at.
    if report.failed and call.when in {"setup", "call"} and isinstance(item, pytest.Function):
        folder: Path = item.config.getoption("--artefacts") / _name_of(item, FOLDER_LENGTH)
        for name, value in item.funcargs.items():
            if isinstance(value, Cluster):
                value.collect(folder / name)
                report.sections.append(("what was going on", f"logs and objects: {folder / name}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--cluster") != "local":
        return
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        result = "failed"
    elif terminalreporter.stats.get("passed"):
        result = "passed"
    else:
        result = "not run"
    terminalreporter.write_line(f"Kubernetes {config.stash[VERSION]}: {result}")


def skip_where_impossible(*, nodes: bool) -> None:
    """Skip with everything that is missing."""
    if reasons := requirements.missing(nodes=nodes):
        pytest.skip(f"no local cluster here: {'; '.join(reasons)}")


def built_or_skip(folder: str) -> Path:
    """The commands of a tool that few tests need."""
    found = binaries.built(folder)
    if found is None:
        pytest.skip(f"{folder} is not built here: `make cluster-build` says why")
    return found


def _name_of(item: pytest.Item, length: int) -> str:
    """A test's name as Kubernetes and file systems take it."""
    return re.sub(r"[^a-z0-9]+", "-", item.name.lower().removeprefix("test_")).strip("-")[:length].strip("-")
