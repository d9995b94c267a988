"""What this machine lacks for a local cluster, in words for the summary of skipped tests."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.containerd import CNI_PLUGINS

PACKAGES = Path(__file__).with_name("packages.txt")

GO_HINT = "go is not installed: Kubernetes is built from its modules (any Go from 1.21 on fetches the one they name)"
# Debian's packages, as packages.txt lists them, have these.
CONTROL_PLANE_COMMANDS = ("ip", "nsenter", "openssl", "setpriv", "sysctl", "unshare")
NODE_COMMANDS = ("buildah", "containerd", "ctr", "ipset", "iptables", "mmdebstrap", "nft", "runc")

# A trial of everything that a sandbox does to the kernel, in namespaces of its own that end with it.
SANDBOX_TRIAL = (
    "mount -t tmpfs tmpfs /run && ip link set lo up && ip link add br0 type bridge && "
    "ip link add veth0 type veth peer name veth1"
)
NODE_TRIAL = (
    "mkdir /run/lower /run/upper /run/work /run/merged && "
    "mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work overlay /run/merged && "
    "nft add table ip trial && nft add chain ip trial nat '{ type nat hook prerouting priority 0; }' && "
    "ipset create trial hash:ip && iptables -A FORWARD -m set --match-set trial src -m comment --comment trial -j DROP"
)


def missing(*, nodes: bool) -> list[str]:
    """Reasons why a local cluster (with real nodes) cannot run here; none when it can."""
    if platform.system() != "Linux":
        return ["it needs Linux"]
    if os.geteuid() != 0:
        return ["it needs root, for namespaces and cgroups"]
    wanted = CONTROL_PLANE_COMMANDS + (NODE_COMMANDS if nodes else ())
    reasons = [f"{command} is not installed" for command in wanted if shutil.which(command) is None]
    if nodes and not CNI_PLUGINS.is_dir():
        reasons.append(f"there are no CNI plugins in {CNI_PLUGINS}")
    if reasons:
        reasons.append("on Debian, `make cluster-packages` installs that")
    if shutil.which("go") is None:
        reasons.append(GO_HINT)
    if reasons:
        return reasons
    trial = f"{SANDBOX_TRIAL} && {NODE_TRIAL}" if nodes else SANDBOX_TRIAL
    finished = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--mount-proc", "sh", "-c", trial],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        return [f"the kernel lacks something or forbids it: {last}"]
    return []
