"""The program's own flags, each declared once. Load options and sampling parameters are declared elsewhere.

This module must not know how flags are read or shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from loaders.knobs import Knobs, knob
from loaders.params import Text

#: The groups of flags in display order.
GROUPS: Mapping[str, str] = {
    "basic": "Basic",
    "loader": "Model loader",
    "server": "Server",
    "api": "API",
}


def _strings(value: Any) -> Any:
    """A tuple of texts from a list or from one comma-separated text."""
    given = [value] if isinstance(value, str) else value or ()
    return tuple(name.strip() for each in given for name in str(each).split(",") if name.strip())


Strings = Annotated[tuple[str, ...], BeforeValidator(_strings)]


class ServerFlags(Knobs):
    """The flags of this start of the program."""

    # --- basic ---
    model: str = knob(
        "", group="basic",
        help="Model to load at startup, by its name in models/. `none` starts without a model.",
    )  # fmt: skip
    model_menu: bool = knob(False, group="basic", help="Ask in the terminal which model to load.")
    lora: Strings = knob((), group="basic", help="LoRAs to apply to the model, by name.")
    user_data_dir: str = knob(
        "", group="basic",
        help="The folder for your files: models, LoRAs, chats, presets, settings. Default: the folder of server.py.",
    )  # fmt: skip
    model_dir: str = knob("models", group="basic", help="The folder that contains the models.")
    lora_dir: str = knob("loras", group="basic", help="The folder that contains the LoRAs.")
    character: str = knob("", group="basic", help="The character selected in the chat at startup.")
    settings: str = knob(
        "", group="basic",
        help="The file with the interface's default settings. Default: settings.yaml, else settings.json.",
    )  # fmt: skip
    extensions: Strings = knob((), group="basic", help="Extensions to load, by name, in this order.")
    multi_user: bool = knob(False, group="basic", help="Disable controls that change the program for all users.")
    verbose: bool = knob(False, group="basic", help="Print prompts and detailed logs.")

    # --- model loader ---
    loader: str = knob("", group="loader", help="The loader to use. Default: the best one for the model.")

    in_process: bool = knob(
        False, group="loader",
        help="Load models into the program's own process, for debugging: if a model crashes, the program ends. "
        "Default: each model has its own process; if it crashes, the program keeps running and reloads the model.",
    )  # fmt: skip

    max_models: int = knob(
        1, ge=1, le=64, group="loader",
        help="How many models may be in memory at a time. At the limit, the least recently used one is unloaded.",
    )  # fmt: skip
    max_models_memory: float = knob(
        0.0, ge=0, group="loader",
        help="GB of memory that all models may use together; the least recently used ones are unloaded. 0: no limit.",
    )  # fmt: skip
    load_on_demand: bool = knob(
        False, group="loader",
        help="Load the model that an API request names, if it is in the models folder. Without this flag, the loaded "
        "model answers.",
    )  # fmt: skip
    strict_model: bool = knob(
        False, group="loader",
        help="Refuse API requests for a model that is not loaded (404) instead of answering with another model.",
    )  # fmt: skip
    remote: str = knob(
        "", group="loader",
        help="The address of another server (vLLM, SGLang, llama-server, TabbyAPI, or any with OpenAI's routes) whose "
        "model is used, such as http://192.168.0.5:8000; several of the same model separated by commas. It is added "
        "to the models folder.",
    )  # fmt: skip
    remote_kind: str = knob(
        "", group="loader",
        help="The kind of the server of --remote: vllm, sglang, llama-server, tabbyapi or openai. Default: asked.",
    )  # fmt: skip
    remote_model: str = knob(
        "", group="loader", help="The name of the model on the server of --remote. Default: the first in its list."
    )
    remote_key_env: str = knob(
        "", group="loader", help="The environment variable that contains the key for the server of --remote."
    )
    embedding_model: str = knob(
        "", group="loader",
        help="The model for /v1/embeddings. It is loaded at the first such request, in addition to the others.",
    )  # fmt: skip
    idle_timeout: float = knob(
        0.0, ge=0, group="loader",
        help="Unload a model after this many minutes without use; the next request loads it again. 0: never.",
    )  # fmt: skip

    # --- server ---
    listen: bool = knob(False, group="server", help="Make the page available to other machines on the network.")
    listen_host: str = knob("", group="server", help="The address to listen on. Default: this machine only.")
    listen_port: int = knob(7860, ge=1, le=65535, group="server", help="The port of the page.")
    share: bool = knob(
        False, group="server",
        help="Create a public link through Gradio's servers. Without it, no data leaves the machine.",
    )  # fmt: skip
    auto_launch: bool = knob(False, group="server", help="Open the page in the browser at startup.")
    gradio_auth: Text = knob(
        "",
        group="server",
        help="Accounts that can log in to the page: `user:password`, separated by commas. The first is the "
        "administrator: with several accounts, --listen, --share or --cors-origin, nobody else can change flags and "
        "extensions in the page.",
    )
    gradio_auth_path: str = knob(
        "", group="server", help="A file with such accounts, separated by commas or one per line."
    )
    max_upload: int = knob(512, ge=1, le=65536, group="server", help="Maximum size of an upload to the page, in MiB.")
    ssl_keyfile: str = knob("", group="server", help="The private key file for HTTPS.")
    ssl_certfile: str = knob("", group="server", help="The certificate file for HTTPS.")

    # --- API ---
    api: bool = knob(False, group="api", help="Serve the OpenAI-compatible API.")
    api_port: int = knob(5000, ge=1, le=65535, group="api", help="The port of the API.")
    api_key: str = knob("", group="api", help="The key that API clients must send.")
    admin_key: str = knob(
        "", group="api", help="The key for loading and unloading models. Default: the same as --api-key."
    )
    nowebui: bool = knob(False, group="api", help="Serve the API only, without the page.")
    cors_origin: Strings = knob(
        (), group="api",
        help="Websites that may use the API and the page from a browser, such as `https://chat.example`; * for all.",
    )  # fmt: skip
    api_max_body: int = knob(32, ge=1, le=4096, group="api", help="Maximum size of an API request, in MiB.")
    api_max_requests: int = knob(
        128,
        ge=1,
        le=4096,
        group="api",
        help="Maximum number of API replies running or waiting at once; each of `n` and of each prompt counts.",
    )

    @property
    def host(self) -> str:
        """The address on which the page is served."""
        return self.listen_host or ("0.0.0.0" if self.listen else "127.0.0.1")

    @property
    def is_open(self) -> bool:
        """Whether anyone but this machine can open the page, including through a proxy."""
        return self.share or not is_local(self.host) or self.is_named_elsewhere

    @property
    def is_named_elsewhere(self) -> bool:
        """Whether pages of other hosts were allowed: a proxy with its own name needs that."""
        return any(not is_local(_host_of(each)) for each in self.cors_origin)

    @property
    def serves_api(self) -> bool:
        """Whether the API is served; without the page it always is."""
        return self.api or self.nowebui

    @property
    def address(self) -> str:
        """The address at which a person on this machine opens the page."""
        return self.address_of(self.listen_port)

    def address_of(self, port: int) -> str:
        """The address of one of our servers, as a person on this machine types it."""
        scheme = "https" if self.ssl_certfile and self.ssl_keyfile else "http"
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_local(host: str) -> bool:
    """Whether a server that listens there can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_of(origin: str) -> str:
    """The host of an origin; what is not an address of this machine counts as another one."""
    try:
        return urlsplit(origin if "://" in origin else f"//{origin}").hostname or origin
    except ValueError:
        return origin


#: Flags whose feature does not exist yet: accepted, kept, and reported when given.
NOT_YET: Mapping[str, str] = {
    "multi_user": "every browser tab already has its own chat; disabling the other controls is not implemented yet.",
}


def openness_warnings(flags: ServerFlags) -> list[str]:
    """What the user should know about who can reach the page with these flags."""
    notes = []
    guarded = bool(flags.gradio_auth or flags.gradio_auth_path)
    if flags.share:
        notes.append("--share: the page gets a public link, and its traffic passes through Gradio's servers.")
    if flags.serves_api and not flags.api_key and not is_local(flags.host):
        notes.append(
            "WARNING: anyone who can reach this machine can use the API, because no key is set. Set one with --api-key."
        )
    if flags.is_open and not guarded and not flags.nowebui:
        where = "this address" if flags.share or not is_local(flags.host) else "the page through --cors-origin"
        notes.append(
            f"Anyone who can reach {where} can use the page and read your chats; set a password with "
            "--gradio-auth. Until then, flags and extensions cannot be changed in the page."
        )
    return notes
