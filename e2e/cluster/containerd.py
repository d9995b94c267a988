"""One containerd in a sandbox, with folders and a socket of its own: a node's, or the one that prepares a store of images.

Debian's containerd, runc and CNI plugins are used, and nothing of what the machine itself may run with them.
"""

import signal
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.sandbox import Sandbox

CNI_PLUGINS = Path("/usr/lib/cni")
PAUSE_IMAGE = "localhost/pause:e2e"
IMPORT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Folders:
    """Where it keeps what it writes: the state of containers in memory, the rest in the sandbox's folder."""

    disk: Path
    memory: Path

    @property
    def socket(self) -> Path:
        return self.memory / "containerd.sock"

    @property
    def image_store(self) -> Path:
        return self.disk / "containerd"


class Containerd:
    """A containerd process by its name in the sandbox, in the network of a node where one is named."""

    def __init__(self, sandbox: Sandbox, name: str, folders: Folders, node: str | None = None) -> None:
        self.name = name
        self._sandbox = sandbox
        self._folders = folders
        self._node = node
        self._configuration = folders.disk / "containerd.toml"
        folders.disk.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(configuration(folders))

    def start(self) -> None:
        argv = ["containerd", f"--config={self._configuration}"]
        self._sandbox.start(self.name, argv, node=self._node)

    def answers(self) -> bool:
        return self._sandbox.run(self._ctr("version"), check=False).returncode == 0

    def import_image(self, archive: Path) -> None:
        """Import an OCI archive into the store. Raises CommandError."""
        importing = self._ctr("--namespace=k8s.io", "images", "import", str(archive))
        self._sandbox.run(importing, timeout=IMPORT_SECONDS)

    def stop(self) -> None:
        """End it as a service manager does, so that everything is written."""
        self._sandbox.kill(self.name, signal.SIGTERM)

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", f"--address={self._folders.socket}", *arguments]


def configuration(folders: Folders) -> str:
    return f"""\
version = 2
root = "{folders.image_store}"
state = "{folders.memory}/containerd"
oom_score = 0

[grpc]
  address = "{folders.socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no container may be protected from the OOM killer better than its parent is.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{folders.disk}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
