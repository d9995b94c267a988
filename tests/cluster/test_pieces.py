"""What the cluster is configured with, as far as it can be told without running one."""

import json
import tarfile
from pathlib import Path

import pytest

from e2e.cluster import kubeconfig, network, oci


def test_every_node_knows_the_way_to_the_others_pods() -> None:
    nodes = [network.NodeAddress(index) for index in range(3)]
    assert [line for line in network.node_links(nodes[1], nodes) if line.startswith("route")] == [
        "route add default via 10.97.0.1",
        "route add 10.98.0.0/24 via 10.97.0.10",
        "route add 10.98.2.0/24 via 10.97.0.12",
    ]


def test_the_control_plane_reaches_services_through_the_first_node() -> None:
    assert "route add 10.96.0.0/16 via 10.97.0.10" in network.links([network.NodeAddress(0)])
    assert not any("10.96" in line for line in network.links([]))


def test_node_addresses_have_room_for_one_digit() -> None:
    with pytest.raises(ValueError, match="at most 10 nodes"):
        network.NodeAddress(10)


def test_tokens_are_quoted_as_the_api_server_reads_them() -> None:
    user = kubeconfig.User("system:node:node-0", ("system:nodes", "others"), token="t0")  # noqa: S106 - no secret
    assert kubeconfig.token_file([user]) == 't0,system:node:node-0,system:node:node-0,"system:nodes,others"\n'


def test_kubeconfigs_are_for_their_owner_only(tmp_path: Path) -> None:
    path = kubeconfig.write(tmp_path / "new" / "admin", kubeconfig.User("admin"), b"certificate")
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["clusters"][0]["cluster"]["server"] == "https://10.97.0.1:6443"


def test_an_image_archive_says_its_size_and_name(tmp_path: Path) -> None:
    source = tmp_path / "pause"
    source.write_bytes(b"program")
    layer = oci.layer_of({"/pause": source})
    archive = oci.write_archive(
        tmp_path / "image.tar",
        "localhost/pause:e2e",
        layer,
        architecture="amd64",
        config={"Entrypoint": ["/pause"]},
    )
    assert archive.size_bytes() == len(layer)
    with tarfile.open(archive.path) as image:
        names = image.getnames()
        index = json.loads((image.extractfile("index.json") or pytest.fail("no index")).read())
    assert "oci-layout" in names
    (manifest,) = index["manifests"]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": "localhost/pause:e2e"}
    assert f"blobs/{manifest['digest'].replace(':', '/')}" in names
