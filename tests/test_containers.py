"""Dockerfile, compose.yaml and the health check name what is there. No container engine is needed, and none is run."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import ssl
import subprocess
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from installer.hardware.gpu import GPUS
from installer.llama_cpp.llama_builds import plan_llama_builds
from installer.preset_answers import GPU, LAUNCH, NEVER
from loaders import LOADERS
from modules.config.flag_catalog import FlagCatalog
from modules.config.user_data import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
#: What an image needs besides the packages of the program.
NEEDED = [
    "start_linux.sh",
    "one_click.py",
    "server.py",
    "errors/__init__.py",
    "docker/health.py",
    "installer/__init__.py",
]


def _left_out(name: str) -> bool:
    """Whether .dockerignore leaves a file out: the last pattern that matches it, or a folder of it, counts."""
    out = False
    parts = [str(each) for each in (Path(name), *Path(name).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        patterns = (pattern, pattern.removeprefix("**/"))  # ** matches no folder, too
        if line and not line.startswith("#") and any(fnmatch(part, each) for part in parts for each in patterns):
            out = not line.startswith("!")
    return out


def test_what_is_copied_is_there_and_not_left_out() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert list(ROOT.glob(name)) if name != "." else True, name
    shipped = [
        each.relative_to(ROOT).as_posix() for name in SHIPPED for each in [ROOT / name, *(ROOT / name).glob("*")]
    ]
    assert [name for name in [*NEEDED, *shipped] if name != "training/datasets/.gitkeep" and _left_out(name)] == []
    for name in ("installer_files/env/x", "models/big.gguf", "logs/chat/x.json", "settings.yaml", ".git/config"):
        assert _left_out(name), name


def test_what_git_ignores_is_not_in_the_image() -> None:
    """Installations, the user's files and what tools leave; `.dockerignore` has another syntax."""
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = [line for line in lines if line and not line.startswith(("#", "!"))]
    assert len(ignored) > 15
    for line in ignored:
        name = line.strip("/").replace("*", "x").replace("[cod]", "c")
        assert _left_out(name), line
    assert [name for name in ("modules/.DS_Store", "modules/__pycache__/x.pyc") if not _left_out(name)] == []


def test_every_kind_of_gpu_has_its_answer_and_its_stage() -> None:
    kinds = dict(re.findall(r"(\w+)\) choice=(\w)", DOCKERFILE))
    assert set(kinds) == {"cpu", "cuda", "vulkan"} == set(re.findall(r"FROM base AS run-(\w+)", DOCKERFILE))
    assert set(kinds.values()) <= set(GPUS)
    told = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "docker.md").read_text("utf-8"), re.MULTILINE)
    assert set(told) - {"GPU"} == set(kinds)
    assert all(name in DOCKERFILE for name in (f"{GPU}=", f"{LAUNCH}=no", f"{NEVER}=yes"))


def test_a_build_for_a_gpu_finds_the_drivers_library_and_fails_without_its_llama() -> None:
    """There is no GPU where an image is built: llama.cpp loads only with the driver's library, else it is the CPU's."""
    build = DOCKERFILE.partition(" AS build\n")[2].partition("\nFROM ")[0]
    drivers = dict(re.findall(r"(\w+)\) driver=(\w*)", build))
    assert drivers == {"cuda": "libcuda1", "vulkan": "libvulkan1", "cpu": ""}
    built = dict(re.findall(r"(\w+)\) built=(\w*)", build))
    kinds = {"cuda": plan_llama_builds("A", False, [], True), "vulkan": plan_llama_builds("D", False, [])}
    for kind, builds in kinds.items():
        assert builds[0].name.startswith(built[kind])
        assert not any(each.name.startswith(built[kind]) for each in builds if not each.kind)
    check = re.search(r"grep -q (\"\S+ \S+\") installer_files/state.json", build)
    assert check
    for kind, name, code in (("CUDA", "CUDA 12.4", 0), ("CUDA", "the processor", 1), ("", "the processor", 0)):
        state = json.dumps({"gpu": "A", "llama": name}, indent=2)
        ran = subprocess.run(
            ["sh", "-c", f"grep -q {check[1]}"], input=state, text=True, env={"built": kind}, check=False
        )
        assert ran.returncode == code, name


def test_it_is_not_root_and_its_flags_exist() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert last.index("\nUSER webui") < last.index("\nENTRYPOINT")
    known = set(FlagCatalog.of(LOADERS).spellings())
    given = re.findall(r'"(--[\w-]+)"', last) + [
        word for each in COMPOSE["services"]["webui"]["command"] for word in [each] if word.startswith("--")
    ]
    assert given
    assert set(given) <= known


def test_compose_publishes_to_this_machine_only_and_keeps_the_files() -> None:
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    webui = COMPOSE["services"]["webui"]
    assert "data:/data" in webui["volumes"]
    assert "data" in COMPOSE["volumes"]
    assert "VOLUME /data" in DOCKERFILE
    assert COMPOSE["services"]["vllm"]["profiles"] == ["vllm"]


@pytest.mark.parametrize("secure", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (303, 0), (500, 1), (None, 1)])
def test_health(tmp_path: Path, status: int | None, code: int, secure: bool) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/login" else status or 200)
            self.send_header("Location", "/login")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    port = server.server_address[1]
    if secure:
        if not shutil.which("openssl"):
            pytest.skip("openssl makes the certificate")
        pem = tmp_path / "own.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ours"]
        subprocess.run([*command, "-keyout", pem, "-out", tmp_path / "cert"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert", pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, "-I", str(ROOT / "docker" / "health.py")]
    ran = subprocess.run(command, env={"WEBUI_PORTS": f"1 {port}"}, check=False, timeout=30)
    if status is not None:
        server.shutdown()
        server.server_close()
    assert ran.returncode == code


def test_the_start_needs_no_package_that_the_images_python_lacks() -> None:
    """Debian's python3 without python3-venv."""
    hide = "import sys; sys.modules.update(ensurepip=None, venv=None, pip=None); import one_click"
    ran = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
