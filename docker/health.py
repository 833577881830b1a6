"""The container's health check: exit code 0 if the page or the API answers on this machine.

The ports are those of the image. Whoever changes them with flags sets WEBUI_PORTS="7999 5001".
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import urllib.error
import urllib.request

PATHS = {"7860": "/", "5000": "/v1/internal/health"}


def answers(port: str) -> bool:
    """Whether a server answers there, with or without HTTPS, even if it asks for a login."""
    return any(_answers(f"{scheme}://127.0.0.1:{port}{PATHS.get(port, '/')}") for scheme in ("http", "https"))


def _answers(url: str) -> bool:
    try:
        # the certificate is for the name that the clients use, not for this address
        urllib.request.urlopen(url, timeout=4, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if any(answers(port) for port in os.environ.get("WEBUI_PORTS", " ".join(PATHS)).split()) else 1)
