"""A llama.cpp library that does not match the binding is refused with one sentence; a matching one is loaded once."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from errors import Unsupported
from loaders.llamacpp import library

ROOT = Path(library.__file__).parents[2]
_ASK = (
    "from loaders.llamacpp.placement import devices; from loaders.llamacpp import native; "
    "native.initialize(); devices.list_gpus(); print(native.library.FOLDER)"
)
_MAPS = "; print(*sorted({line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}), sep=chr(10))"

linux = pytest.mark.skipif(sys.platform != "linux", reason="libraries are told apart by /proc")
compiler = pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="there is no C compiler")
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="how much was written is seen on x86-64 alone")


def python(folder: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another Python, with the binding's libraries from a folder."""
    more = {"LLAMA_CPP_LIB_PATH": str(folder)} if folder else {}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | more, capture_output=True, text=True, check=False
    )


@linux
@pytest.mark.parametrize("elsewhere", [False, True])
def test_each_library_is_loaded_once_from_where_the_binding_took_it(tmp_path: Path, elsewhere: bool) -> None:
    folder = library.FOLDER
    if elsewhere:
        folder = Path(shutil.copytree(folder, tmp_path / "библиотеки llama", symlinks=True))
    ran = python(folder, "-c", _ASK + _MAPS)
    assert ran.returncode == 0, ran.stderr
    said, *loaded = ran.stdout.splitlines()
    assert said == str(folder)
    names = [Path(path).name.partition(".so")[0] for path in loaded]
    ours = sorted(name for name in names if name.startswith(("libggml", "libllama")))
    assert {"libggml", "libggml-base", "libllama"} <= set(ours)
    assert len(ours) == len(set(ours)), "two copies of a library, each with a list of cards of its own"


@linux
def test_the_self_test_passes_with_libraries_from_elsewhere(tmp_path: Path) -> None:
    ran = python(Path(shutil.copytree(library.FOLDER, tmp_path / "lib")), "-m", "loaders.llamacpp.self_test")
    assert ran.stdout.startswith("100 tokens read"), ran.stderr


#: A libllama that has all of the real one's functions, and overrides some.
_FAKE = """
struct params { char bytes[BYTES]; };
struct params NAME(void) {
    struct params made;
    for (int i = 0; i < BYTES; i++) made.bytes[i] = 0;
    return made;
}
"""
_COMMIT = 'const char * ggml_commit(void) { return "NAME"; }'
_BATCH = """
struct batch { int n_tokens; void * pointers[BYTES]; };
struct batch llama_batch_get_one(int * tokens, int n) {
    struct batch made = { n, { 0 } };
    made.pointers[0] = tokens;
    return made;
}
"""


def fake(folder: Path, source: str, name: str = "", size: int = 0, *, real: bool = True) -> Path:
    """A folder with a libllama compiled from `source`, which uses the real libraries."""
    folder.mkdir()
    path = folder / "llama.c"
    path.write_text(source.replace("NAME", name).replace("BYTES", str(size)))
    found = next(library.FOLDER.glob("libllama.so.0"), library.FOLDER / "libllama.so")
    behind = ["-Wl,--no-as-needed", str(found), f"-Wl,-rpath,{found.parent}"] if real else []
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "libllama.so"), str(path), *behind]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@compiler
@pytest.mark.parametrize(
    ("source", "name", "size", "words"),
    [
        pytest.param(_FAKE, "llama_model_default_params", 88, "writes 88 bytes, but 80 were expected", marks=x86),
        pytest.param(_FAKE, "llama_model_default_params", 72, "writes 72 bytes, but 80 were expected", marks=x86),
        pytest.param(_FAKE, "llama_context_default_params", 168, "writes 168 bytes, but 160 were expected", marks=x86),
        (_FAKE, "llama_context_default_params", 160, "returns other values for n_ctx, n_batch"),
        (_FAKE, "llama_model_default_params", 80, "returns other values for n_gpu_layers, split_mode"),
        pytest.param(_BATCH, "", 7, "llama_batch_get_one of the llama.cpp in .* writes 64 bytes", marks=x86),
        (_COMMIT, "1234567", 0, "was built from commit 1234567, but 0c1e57098 is required"),
        (_COMMIT, "1234567-dirty", 0, "was built from commit 1234567"),
    ],
)
def test_another_commits_library_is_refused_in_a_sentence(
    tmp_path: Path, source: str, name: str, size: int, words: str
) -> None:
    ran = python(fake(tmp_path / "fake", source, name, size), "-m", "loaders.llamacpp.self_test")
    sentence = ran.stderr.splitlines()[-1]
    assert ran.returncode == 1, ran
    assert sentence.startswith("llama.cpp cannot use the installed package llama-cpp-python: ")
    assert re.search(words, sentence), sentence
    assert "--repair" in sentence
    assert len(ran.stderr.splitlines()) == 1


@compiler
@pytest.mark.parametrize("told", ["0c1e570", "0c1e57098", "0c1e570-dirty", "unknown", ""])
def test_the_right_commit_is_taken_and_one_that_is_not_told_as_well(tmp_path: Path, told: str) -> None:
    ran = python(fake(tmp_path / "fake", _COMMIT, told), "-c", "import loaders.llamacpp.library")
    assert ran.returncode == 0, ran.stderr


@compiler
def test_a_library_that_lacks_functions_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ran = python(fake(tmp_path / "fake", "int nothing;", real=False), "-m", "loaders.llamacpp.self_test")
    assert ran.returncode == 1
    assert "is missing or incompatible" in ran.stderr
    assert "undefined symbol: llama_" in ran.stderr


@pytest.mark.parametrize("folder", ["empty", "gone", "text"])
def test_libraries_that_are_not_there_are_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    for name in ("libllama.so", "libllama.dylib", "llama.dll"):
        (tmp_path / "text" / name).write_text("<html>not found</html>")
    ran = python(tmp_path / folder, "-m", "loaders.llamacpp.self_test")
    assert ran.returncode == 1
    (sentence,) = ran.stderr.splitlines()
    assert f"llama.cpp's library (in {tmp_path / folder}) is missing or incompatible" in sentence


def test_where_no_struct_can_be_measured_its_values_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    library.check_library()
    monkeypatch.setitem(library.DEFAULTS, "llama_model_default_params", {"n_gpu_layers": 1, "main_gpu": 0})  # type: ignore[attr-defined]
    with pytest.raises(library.BrokenPackage, match="returns other values for n_gpu_layers"):
        library.check_library()
    monkeypatch.setattr(library, "BINDING", "another")  # its values are not known
    library.check_library()


def test_a_function_that_is_missing_is_named() -> None:
    with pytest.raises(library.BrokenPackage, match="lacks the function ggml_no_such_thing"):
        library.declare_function(library.base, "ggml_no_such_thing", None)


def test_without_a_backend_that_computes_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(library, "reg_count", lambda: 0)
    monkeypatch.setattr(library, "load_all", asked.append)
    with pytest.raises(library.BrokenPackage, match="finds no backend that runs"):
        library.load_backends()
    assert asked == [os.fsencode(library.FOLDER)]


@compiler
def test_a_backend_takes_the_cuda_that_came_with_it(tmp_path: Path) -> None:
    for place in ("ours", "torch"):
        (tmp_path / place).mkdir()
        (tmp_path / "cuda.c").write_text(f'const char * which(void) {{ return "{place}"; }}')
        _compile(tmp_path / place / "libcudart.so.12", tmp_path / "cuda.c", "-Wl,-soname,libcudart.so.12")
    (tmp_path / "ours" / "libcublas.so.12").write_text("not a library")
    (tmp_path / "backend.c").write_text("const char * which(void); const char * asked(void) { return which(); }")
    backend, ours = tmp_path / "ours" / "libggml-cuda.so", tmp_path / "ours"
    _compile(backend, tmp_path / "backend.c", str(ours / "libcudart.so.12"), f"-Wl,-rpath,{ours},--enable-new-dtags")
    ask = "; b = ctypes.CDLL(sys.argv[1]); b.asked.restype = ctypes.c_char_p; print(b.asked().decode())"
    start, found = "import ctypes, pathlib, sys; from loaders.llamacpp import library", []
    for first in ("", f"; library.load_runtime(pathlib.Path({str(ours)!r}))"):
        ran = subprocess.run(
            [sys.executable, "-c", f"{start}{first}{ask}", backend],
            cwd=ROOT, env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path / "torch")}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found.append(ran.stdout.strip())
    assert found == ["torch", "ours"]


def test_rpc_is_found_where_the_backends_are_libraries_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "ggml", object())  # without the RPC functions, as in a release
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.raises(Unsupported, match=r"built without RPC.*-DGGML_RPC=ON"):
        library.load_rpc()
    (tmp_path / "rpc.c").write_text("int ggml_backend_rpc_add_server(void) { return 7; }\n")
    _compile(tmp_path / "libggml-rpc.so", tmp_path / "rpc.c")
    assert library.load_rpc().ggml_backend_rpc_add_server() == 7


def _compile(target: Path, *arguments: Path | str) -> None:
    subprocess.run(["cc", "-shared", "-fPIC", "-o", target, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("complaint", "full"),
    [
        ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", True),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 512.00 MiB on device 0: cudaMalloc failed",
            True,
        ),
        ("ggml_gallocr_reserve_n_impl: failed to allocate Vulkan0 buffer of size 1234", True),
        ("llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache", True),
        (
            "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
            True,
        ),
        ("llama_model_load: error loading model: unknown model architecture: 'x'", False),
        ("llama_init_from_model: V cache quantization requires flash_attn", False),
    ],
)
def test_what_a_full_card_says(complaint: str, full: bool) -> None:
    from loaders.llamacpp import native

    assert bool(native._FULL.search(complaint)) == full
