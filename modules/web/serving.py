"""What both servers need before they serve: a port, a certificate, accounts, keys.

`check_serving` refuses what would stop one of them, before a model begins to load. Knows nothing of what is served.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from errors import InvalidInput, Unavailable
from modules.config.permissions import read_accounts
from modules.config.server_flags import ServerFlags
from modules.web.port import free_port, is_free


def check_serving(flags: ServerFlags) -> None:
    """Raises: InvalidInput, Unavailable, as the servers themselves would."""
    certificate(flags)
    is_free(flags.host, 0)  # any port: the address counts, for usual ports too
    if flags.serves_api and not flags.nowebui and flags.api_port == flags.listen_port:
        raise InvalidInput(
            f"The page and the API cannot both use port {flags.api_port}. Choose another port for one of them with "
            "--listen-port or --api-port."
        )
    if flags.serves_api:
        check_key("--api-key", flags.api_key)
        check_key("--admin-key", flags.admin_key)
        if _is_fixed(flags, "api_port"):
            api_port(flags)
    if not flags.nowebui:
        read_accounts(flags)
        if _is_fixed(flags, "listen_port"):
            page_port(flags)


def api_port(flags: ServerFlags) -> int:
    """The API's port. Raises: Unavailable."""
    fixed = _is_fixed(flags, "api_port")
    return free_port(flags.host, flags.api_port, what="API", flag="--api-port", fixed=fixed)


def page_port(flags: ServerFlags) -> int:
    """The page's port. Raises: Unavailable."""
    fixed = _is_fixed(flags, "listen_port")
    return free_port(flags.host, flags.listen_port, what="page", flag="--listen-port", fixed=fixed)


def certificate(flags: ServerFlags) -> dict[str, str]:
    """The files of the certificate, as uvicorn and Gradio call them; none without HTTPS. Raises: InvalidInput."""
    if not (flags.ssl_keyfile or flags.ssl_certfile):
        return {}
    if not (flags.ssl_keyfile and flags.ssl_certfile):  # whoever expects HTTPS must not get a page without it
        absent, given = (
            ("--ssl-certfile", "--ssl-keyfile") if flags.ssl_keyfile else ("--ssl-keyfile", "--ssl-certfile")
        )
        raise InvalidInput(
            f"{absent} is missing: HTTPS requires a key and a certificate. Set it, or remove {given} to serve without "
            "HTTPS."
        )
    found = {"ssl_keyfile": Path(flags.ssl_keyfile).expanduser(), "ssl_certfile": Path(flags.ssl_certfile).expanduser()}
    for name, path in found.items():
        if not path.is_file():
            flag = f"--{name.replace('_', '-')}"
            raise InvalidInput(f"HTTPS file not found: {path}. Correct {flag}, or remove it to serve without HTTPS.")
    _try_certificate(found["ssl_certfile"], found["ssl_keyfile"])
    return {name: str(path) for name, path in found.items()}


def _try_certificate(certificate: Path, key: Path) -> None:
    """Raises: InvalidInput if a server could not use these files."""

    def ask() -> NoReturn:  # otherwise OpenSSL would ask in the terminal, once for each server
        raise InvalidInput(
            f"The key {key} is encrypted. Decrypt it, for example with openssl pkey, or use another one with "
            "--ssl-keyfile."
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, ask)
    except ssl.SSLError as error:
        reason = (error.reason or "unknown reason").lower().replace("_", " ")
        raise InvalidInput(
            f"{certificate} and {key} are not a certificate and its key in PEM format ({reason}). Correct "
            "--ssl-certfile and --ssl-keyfile, or remove both to serve without HTTPS."
        ) from None
    except OSError as error:
        raise Unavailable(
            f"{certificate} or {key} cannot be read ({error.strerror}). Check the files' permissions."
        ) from None


def check_key(flag: str, key: str) -> None:
    """Raises: InvalidInput for a key that clients could not send."""
    # clients encode other characters of a header differently, and spaces around its value are removed
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise InvalidInput(
            f"The key of {flag} contains characters that not every client can send in a header. Use only "
            "A to Z, digits and characters such as - and _, without spaces at the start or end."
        )


def _is_fixed(flags: ServerFlags, name: str) -> bool:
    """Whether the user has chosen this port: no other is taken instead of it."""
    return name in flags.model_fields_set
