"""A whole cluster leaves nothing behind: after many starts, after a kill half way up, after `make cluster` has gone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import binaries, local, plugin, watchdog
from e2e.cluster.cluster import eventually

REMOVAL_SECONDS = 5.0

# Two nodes with everything; the cluster ends with this process.
START = """
import sys
from pathlib import Path
from e2e.cluster import local
cluster = local.start_cluster(sys.argv[1], parent=Path(sys.argv[2]))
"""


def left_of(folder: Path) -> list[str]:
    """Whatever on this machine still bears the name of the cluster that had this folder."""
    found = [str(folder)] if folder.exists() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
                belongs = folder.name in command or folder.name in (entry / "cgroup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += [f"process {entry.name}: {command}"] if belongs else []
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if folder.name in line]
    return found + [str(group) for top in watchdog.cgroup_hierarchies() for group in top.glob(folder.name)]


def wait_until_gone(folder: Path) -> None:
    eventually(lambda: not left_of(folder), "something is left", REMOVAL_SECONDS)


def host_entries() -> set[Path]:
    """Where a cluster that is not kept apart would leave something else: network links, state, logs, sockets."""
    return {
        entry for top in ("/sys/class/net", "/var/lib", "/var/log", "/run") for entry in Path(top).iterdir()
    }


@pytest.fixture(autouse=True)
def possible_here() -> None:
    plugin.skip_where_impossible(nodes=True)


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Path]:
    """A folder for clusters; afterwards it is empty, and the machine's own folders hold nothing new."""
    before = host_entries()
    yield tmp_path
    eventually(lambda: not list(tmp_path.iterdir()), "something is left in the folder", REMOVAL_SECONDS)
    assert host_entries() <= before


def test_a_cluster_leaves_nothing(untouched: Path, kubernetes: str) -> None:
    with local.start_cluster(kubernetes, nodes=1, parent=untouched) as cluster:
        cluster.kubectl(
            "run", "some", f"--image={cluster.image}", "--command", "--", "python", "-m", "http.server"
        )
        cluster.kubectl("wait", "--for=condition=Ready", "pod/some", "--timeout=60s", timeout=70)
        folder = cluster.sandbox.folder
        assert any("cgroup" in trace for trace in left_of(folder))
    wait_until_gone(folder)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_clusters_in_a_row_leave_nothing(untouched: Path, kubernetes: str) -> None:
    for _ in range(20):
        with local.start_cluster(kubernetes, parent=untouched) as cluster:
            assert len(cluster.nodes()) == 2
            folder = cluster.sandbox.folder
        wait_until_gone(folder)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
def test_a_starter_killed_half_way_up_leaves_nothing(untouched: Path, kubernetes: str, seed: int) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START, kubernetes, str(untouched)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    eventually(lambda: bool(list(untouched.glob("pointsman-*"))), "it did not start")
    (folder,) = untouched.glob("pointsman-*")
    time.sleep(random.Random(seed).uniform(0, 8))
    starter.kill()
    starter.wait()
    wait_until_gone(folder)


@pytest.mark.parametrize("victim", ["make", "starter", "both"])
def test_make_cluster_leaves_nothing_whoever_is_killed(untouched: Path, victim: str) -> None:
    """`make cluster` with a control plane only: its command runs until make or the starter is gone."""
    with_pytest = ["setpriv", "--pdeathsig", "KILL"]  # else a cluster outlives a pytest that is killed
    make = subprocess.Popen(
        [*with_pytest, "make", "--no-print-directory", "cluster", f"ARGS=--nodes=0 --folder={untouched}"],
        cwd=binaries.PROJECT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually((untouched / "run").exists, "it did not start", seconds=200)
        listed = subprocess.run(
            [untouched / "run", "kubectl", "get", "namespaces"], capture_output=True, text=True, check=True
        )
        assert "kube-system" in listed.stdout
        (starter,) = starters(untouched)
        (folder,) = untouched.glob("pointsman-*")
        if victim == "both":
            os.killpg(make.pid, signal.SIGKILL)
        else:
            os.kill({"make": make.pid, "starter": starter}[victim], signal.SIGKILL)
    finally:
        make.terminate()
        make.wait()
    wait_until_gone(folder)
    # A starter that was told to end took its two files along; one that was killed could not.
    wrapper = untouched / "run"
    if victim == "make":
        eventually(lambda: not wrapper.exists(), "its files are left", REMOVAL_SECONDS)
    else:
        assert subprocess.run([wrapper, "true"], capture_output=True, check=False).returncode == 1
        for name in ("run", "kubeconfig"):
            (untouched / name).unlink()


def starters(folder: Path) -> list[int]:
    """PIDs of `python -m e2e.cluster` that write to the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"e2e.cluster" in words and f"--folder={folder}".encode() in words:
                found.append(int(entry.name))
    return found
