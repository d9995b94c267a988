"""Container images as files: OCI archives, written without a container tool."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """An OCI archive on disk and the name it has once imported."""

    path: Path
    reference: str

    def size_bytes(self) -> int:
        """What a registry would store: the sum of the layers, compressed if they are."""
        with tarfile.open(self.path) as archive:
            index = _read_json(archive, "index.json")
            manifest = _read_json(archive, _blob_name(index["manifests"][0]["digest"]))
        return sum(layer["size"] for layer in manifest["layers"])


def write_archive(
    path: Path, reference: str, layer: bytes, *, architecture: str, config: Mapping[str, Any]
) -> ImageArchive:
    """Write an image of one uncompressed layer (a tar file's bytes) with the given runtime configuration."""
    image = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": reference}],  # as many entries as layers, or builders refuse it as a base
    }
    config_blob = json.dumps(image).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config_blob),
        "layers": [_descriptor(LAYER, layer)],
    }
    manifest_blob = json.dumps(manifest).encode()
    described = _descriptor(MANIFEST, manifest_blob) | {"annotations": {REFERENCE_ANNOTATION: reference}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in (config_blob, manifest_blob, layer):
            _add(archive, _blob_name(_digest(blob)), blob)
    return ImageArchive(path, reference)


def layer_of(files: Mapping[str, Path]) -> bytes:
    """A layer that holds executable files at the given paths, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, source in files.items():
            _add(layer, name.lstrip("/"), source.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _read_json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    if member is None:
        raise ValueError(f"{name} is no file of the archive")
    return json.load(member)


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}
