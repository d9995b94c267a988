"""TLS contexts from configuration. Files that are wrong are named."""

import ssl
from pathlib import Path

from pointsman.api.config_file import ConfigError, Problem
from pointsman.api.router_config import RouterConfig, ServerTls


def server_context(file: Path, tls: ServerTls) -> ssl.SSLContext:
    """Towards clients. Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(file, context, "listen.tls", tls.certificate, tls.key)
    if tls.client_ca is not None:
        load_authorities(file, context, "listen.tls.client_ca", tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def engine_context(file: Path, config: RouterConfig) -> ssl.SSLContext | None:
    """Towards engines; None when none is behind TLS. Raises ConfigError."""
    if not any(instance.url.startswith("https:") for model in config.models for instance in model.instances):
        return None
    tls = config.engine_tls
    context = ssl.create_default_context()
    if tls.ca is not None:
        # The given authorities instead of the system's, not besides.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load_authorities(file, context, "engine_tls.ca", tls.ca)
    if tls.certificate is not None and tls.key is not None:
        load_certificate(file, context, "engine_tls", tls.certificate, tls.key)
    return context


def load_certificate(file: Path, context: ssl.SSLContext, path: str, certificate: Path, key: Path) -> None:
    """Raises ConfigError."""
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        message = f"{certificate} and {key} are no certificate and its key in PEM: {error}"
        raise ConfigError(file, [Problem(path, message)]) from error


def load_authorities(file: Path, context: ssl.SSLContext, path: str, authorities: Path) -> None:
    """Raises ConfigError."""
    try:
        context.load_verify_locations(authorities)
    except (OSError, ValueError) as error:
        raise ConfigError(
            file, [Problem(path, f"{authorities} holds no certificates in PEM: {error}")]
        ) from error


def _no_password() -> str:
    """Instead of OpenSSL's prompt on the terminal."""
    raise ValueError("the key must not be protected by a password")
