"""The flags of the program itself, each declared once. Loader options and sampling knobs are declared elsewhere.

This module must not know how flags are read or shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from loaders.knobs import Knobs, knob
from loaders.params import Text

#: The groups of flags, in the order in which they are shown.
GROUPS: Mapping[str, str] = {
    "basic": "Basic",
    "loader": "Model loader",
    "server": "Server",
    "api": "API",
}


def _strings(value: Any) -> Any:
    """A tuple of texts from a list, or from one text; commas part them as well."""
    given = [value] if isinstance(value, str) else value or ()
    return tuple(name.strip() for each in given for name in str(each).split(",") if name.strip())


Strings = Annotated[tuple[str, ...], BeforeValidator(_strings)]


class ServerFlags(Knobs):
    """How this start of the program was asked to be."""

    # --- basic ---
    model: str = knob(
        "", group="basic",
        help="Load this model at the start: its name as in models/. `none` starts without a model.",
    )  # fmt: skip
    model_menu: bool = knob(False, group="basic", help="Ask in the terminal which model to load.")
    lora: Strings = knob((), group="basic", help="LoRAs to apply to the model, by name.")
    user_data_dir: str = knob(
        "", group="basic",
        help="The folder of all that is yours: models, LoRAs, chats, presets, settings. Not given: beside server.py.",
    )  # fmt: skip
    model_dir: str = knob("models", group="basic", help="The folder of the models.")
    lora_dir: str = knob("loras", group="basic", help="The folder of the LoRAs.")
    character: str = knob("", group="basic", help="The character that the chat starts with.")
    settings: str = knob(
        "", group="basic",
        help="The file with the start values of the interface. Not given: settings.yaml, else settings.json.",
    )  # fmt: skip
    extensions: Strings = knob((), group="basic", help="Extensions to load, by name, in this order.")
    multi_user: bool = knob(False, group="basic", help="Grey out what changes the program for everyone.")
    verbose: bool = knob(False, group="basic", help="Print the prompts and more of what happens.")

    # --- model loader ---
    loader: str = knob("", group="loader", help="The loader to use. Not given: the one that suits the model best.")

    # --- server ---
    listen: bool = knob(False, group="server", help="Let other machines of the network open the page.")
    listen_host: str = knob("", group="server", help="The address to listen on. Not given: this machine only.")
    listen_port: int = knob(7860, ge=1, le=65535, group="server", help="The port of the page.")
    share: bool = knob(
        False, group="server",
        help="Make a public link through Gradio's servers. Without it nothing leaves the machine.",
    )  # fmt: skip
    auto_launch: bool = knob(False, group="server", help="Open the page in the browser.")
    gradio_auth: Text = knob(
        "",
        group="server",
        help="Names and passwords that may open the page: `user:password`, with commas between. The first is the "
        "administrator's: where there are more, or with --listen, --share or --cors-origin, nobody else may change "
        "flags and extensions in the page.",
    )
    gradio_auth_path: str = knob(
        "", group="server", help="A file with such names and passwords, with commas or one pair a line."
    )
    max_upload: int = knob(512, ge=1, le=65536, group="server", help="The largest upload to the page, in MiB.")
    ssl_keyfile: str = knob("", group="server", help="The private key for https.")
    ssl_certfile: str = knob("", group="server", help="The certificate for https.")

    # --- API ---
    api: bool = knob(False, group="api", help="Serve the OpenAI-compatible API.")
    api_port: int = knob(5000, ge=1, le=65535, group="api", help="The port of the API.")
    api_key: str = knob("", group="api", help="The key that API clients must send.")
    admin_key: str = knob(
        "", group="api", help="The key for loading and unloading models. Not given: the same as --api-key."
    )
    nowebui: bool = knob(False, group="api", help="Serve the API only, without the page.")
    cors_origin: Strings = knob(
        (), group="api",
        help="Pages of these addresses may use the API and the page from a browser: `https://chat.example`, * for all.",
    )  # fmt: skip
    api_max_body: int = knob(32, ge=1, le=4096, group="api", help="The largest request of an API client, in MiB.")
    api_max_requests: int = knob(
        128,
        ge=1,
        le=4096,
        group="api",
        help="How many replies of the API may run or wait at the same time; each of `n`, and of each prompt, is one.",
    )

    @property
    def host(self) -> str:
        """The address that the page is served on."""
        return self.listen_host or ("0.0.0.0" if self.listen else "127.0.0.1")

    @property
    def is_open(self) -> bool:
        """Whether anyone but this machine can open the page, a proxy's visitors included."""
        return self.share or not is_local(self.host) or self.is_named_elsewhere

    @property
    def is_named_elsewhere(self) -> bool:
        """Whether pages of other machines were let in: a proxy with a name of its own needs that."""
        return any(not is_local(_host_of(each)) for each in self.cors_origin)

    @property
    def serves_api(self) -> bool:
        """Whether the API is served: without the page there is nothing else to serve."""
        return self.api or self.nowebui

    @property
    def address(self) -> str:
        """Where a person on this machine opens the page."""
        return self.address_of(self.listen_port)

    def address_of(self, port: int) -> str:
        """The address of a server of ours, as a person on this machine types it."""
        scheme = "https" if self.ssl_certfile and self.ssl_keyfile else "http"
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_local(host: str) -> bool:
    """Whether a server that listens there can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_of(origin: str) -> str:
    """The host that an origin names; what is no address of this machine is somewhere else."""
    try:
        return urlsplit(origin if "://" in origin else f"//{origin}").hostname or origin
    except ValueError:
        return origin


#: Flags above whose part of the program does not stand yet: accepted, kept, and said so when given.
NOT_YET: Mapping[str, str] = {
    "multi_user": "every browser tab has its own chat already; greying out the rest comes later.",
}


def openness_warnings(flags: ServerFlags) -> list[str]:
    """What the user should know about who can reach the page with these flags."""
    notes = []
    guarded = bool(flags.gradio_auth or flags.gradio_auth_path)
    if flags.share:
        notes.append("--share: the page gets a public link; what you do there passes through Gradio's servers.")
    if flags.serves_api and not flags.api_key and not is_local(flags.host):
        notes.append(
            "WARNING: the API is open to everyone who reaches this machine, and no key is set. --api-key sets one."
        )
    if flags.is_open and not guarded and not flags.nowebui:
        where = "this address" if flags.share or not is_local(flags.host) else "the page through --cors-origin"
        notes.append(
            f"Anyone who reaches {where} can use the page and read your chats; --gradio-auth sets a password. "
            "Flags and extensions cannot be changed in the page then."
        )
    if bool(flags.ssl_keyfile) != bool(flags.ssl_certfile):
        absent = "--ssl-certfile" if flags.ssl_keyfile else "--ssl-keyfile"
        notes.append(f"{absent} is missing: https needs a key and a certificate, so the page is served without it.")
    for flag, file in (
        ("--ssl-keyfile", flags.ssl_keyfile),
        ("--ssl-certfile", flags.ssl_certfile),
        ("--gradio-auth-path", flags.gradio_auth_path),
    ):
        if file and not Path(file).expanduser().is_file():
            notes.append(f"{flag}: there is no file {file}.")
    return notes
