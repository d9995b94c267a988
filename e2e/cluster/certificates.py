"""Certificates that are their own authority, for what the API server calls and is called by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.sandbox import Sandbox

DAYS = 365


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as files in one folder under the names that Kubernetes gives such pairs."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"


def self_signed(
    sandbox: Sandbox, folder: Path, name: str, address: str, others: Sequence[str] = ()
) -> Certificate:
    """A fresh one for a common name, an IP address and others as openssl writes them (`DNS:...`). Raises CommandError."""
    folder.mkdir(parents=True)
    made = Certificate(folder)
    sandbox.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", made.key, "-out", made.certificate, "-days", str(DAYS)),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={','.join([f'IP:{address}', *others])}"),
        ]
    )
    return made
