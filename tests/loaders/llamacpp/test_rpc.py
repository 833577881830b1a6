"""Other machines that lend their memory: their addresses, what they answer, and what happens when one goes away."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import EngineDied, InvalidInput, Unavailable, UserError
from loaders.base import Request
from loaders.llamacpp import draft_loading, rpc, rpc_node
from loaders.llamacpp.loader import LlamaCpp
from loaders.llamacpp.options import LlamaCppOptions
from loaders.params import SamplingParams
from loaders.process import load_in_this_process
from loaders.process.proxy import ProcessModel
from tests.conftest import keep_going
from tests.loaders.llamacpp import rpc_cards

ROOT = Path(__file__).parents[3]
needs_rpc = pytest.mark.skipif(
    not rpc_cards.has_rpc(), reason="this llama.cpp was built without RPC: the installer's own build has it"
)


# --- addresses ---


def test_a_list_of_addresses() -> None:
    assert rpc.parse_addresses("") == ()
    assert rpc.parse_addresses("10.0.0.1:5, box ,") == ("10.0.0.1:5", f"box:{rpc.PORT}")


MANY = ",".join(f"h{number}" for number in range(17))


@pytest.mark.parametrize("text", ["a b", "http://a:1", "a:0", "a:99999", "a:x", "[::1]:5", "a:1,a:1", "-x", MANY])
def test_what_is_no_list_of_addresses(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^rpc lists .*\.$"):
        LlamaCppOptions.parse({"rpc": text}).parse_rpc()


@given(st.text(alphabet="ab1.:-, [/]é", max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_list_of_addresses_or_an_error(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        found = rpc.parse_addresses(text)
        assert rpc.parse_addresses(",".join(found)) == found


def test_a_draft_model_stays_on_this_machine() -> None:
    def devices(asked: str) -> str:
        options = LlamaCppOptions.parse({"rpc": "a:1", "devices": asked})
        own = draft_loading._draft_options(options)
        assert not own.rpc
        return own.devices

    assert [devices(each) for each in ("", "RPC0", "RPC0, CUDA0", "CUDA1")] == ["", "none", "CUDA0", "CUDA1"]


# --- what answers there ---


@contextlib.contextmanager
def listener(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that does this with its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(100)
                    answer(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
    thread.join(10)


def hello(major: int) -> bytes:
    return struct.pack("<QBBBB", 28, major, 0, 0, 0) + bytes(24)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda _: None, "is not llama.cpp's RPC server"),
        (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(40)), "is not llama.cpp's RPC server"),
        (lambda c: c.sendall(hello(6)), "speaks version 6"),
        (lambda c: c.recv(1), "does not answer"),  # busy with another client
    ],
)
def test_what_does_not_answer_as_it_should_is_a_sentence(
    answer: Callable[[socket.socket], object], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "_ANSWER", 0.3)
    with listener(answer) as address, pytest.raises(Unavailable, match=part) as failure:
        rpc.check_machines([address])
    assert address in str(failure.value)


def test_the_right_answer_is_enough() -> None:
    with listener(lambda c: c.sendall(hello(rpc._VERSION))) as address:
        rpc.check_machines([address])


# --- lending this machine ---


def test_an_address_that_is_taken_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert rpc_node.main(["--port", str(port)]) == 1
    assert f"Cannot listen at 127.0.0.1:{port}: " in capsys.readouterr().err


@needs_rpc
def test_a_device_that_does_not_exist_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert rpc_node.main(["--port", "0", "--devices", "CPU,CUDA77"]) == 1
    told = capsys.readouterr()
    assert "no device CUDA77" in told.err
    assert "WARNING" in told.out
    assert "trusted networks only" in told.out


def test_who_can_use_a_machine_is_said() -> None:
    assert "programs on this machine can use it" in rpc_node.warning("127.0.0.1")
    assert "everyone who can reach 0.0.0.0 can use it" in rpc_node.warning("0.0.0.0")


@contextlib.contextmanager
def nodes(number: int) -> Iterator[tuple[list[subprocess.Popen[str]], str]]:
    """Machines of our own command, and their addresses as the option takes them."""
    ports = [rpc_cards._free_port() for _ in range(number)]
    command = [sys.executable, "-m", "loaders.llamacpp.rpc_node", "--threads", "1", "--port"]
    quiet = subprocess.DEVNULL
    made = [subprocess.Popen([*command, str(port)], cwd=ROOT, stdout=quiet, stderr=quiet, text=True) for port in ports]
    try:
        for port, process in zip(ports, made, strict=True):
            rpc_cards._wait_for(port, process)  # type: ignore[arg-type]
        yield made, ",".join(f"127.0.0.1:{port}" for port in ports)
    finally:
        for process in made:
            process.kill()
            process.wait()


@needs_rpc
def test_a_machine_that_goes_away_ends_its_model_and_not_the_program(demo_model_path: Path) -> None:
    """Also where models are loaded into the program's own process; the next load says which machine is missing."""
    options = {"n_ctx": 512, "threads": 1, "no_mmap": True, "flash_attn": "on", "kv_disk": "0"}
    greedy = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
    request = [100, 200, 300, 400, 500]

    def reply(model: object) -> list[int]:
        return [token.id for token in model.generate(Request(request, greedy, 8))]  # type: ignore[attr-defined]

    with LlamaCpp.load(demo_model_path, LlamaCppOptions.parse(options), keep_going) as here:
        expected = reply(here)
    with nodes(2) as (processes, addresses):
        asked = LlamaCppOptions.parse({**options, "rpc": addresses})
        forecast = LlamaCpp.forecast(demo_model_path, asked)
        assert forecast
        assert {device.name for device in forecast.devices} == {"memory", *addresses.split(",")}
        model = load_in_this_process(LlamaCpp, demo_model_path, asked, keep_going)
        with model:
            assert isinstance(model, ProcessModel)
            assert reply(model) == expected
            assert all(address in " ".join(model.notes) for address in addresses.split(","))
            processes[1].kill()
            processes[1].wait()
            with pytest.raises(EngineDied):
                reply(model)
        with pytest.raises(UserError, match=rf"{addresses.split(',')[1]} \(rpc\) is not reachable"):
            load_in_this_process(LlamaCpp, demo_model_path, asked, keep_going)
