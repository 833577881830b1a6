"""Who may change how the program starts if other machines can open the page: only the administrator, and never code."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import InvalidInput, NotAllowed
from loaders import LOADERS
from modules.app import App
from modules.config.flags import read_flags
from modules.config.permissions import Permissions, read_accounts
from modules.config.server_flags import ServerFlags
from modules.config.session import Session

OPEN = (["--listen"], ["--share"], ["--listen-host", "0.0.0.0"], ["--listen-host", "::"], ["--listen-host", "box"],
        ["--cors-origin", "https://chat.example"], ["--cors-origin", "*"], ["--cors-origin", "chat.example"],
        ["--cors-origin", "null"], ["--cors-origin", "http://10.0.0.7:80"], ["--cors-origin", "https://[::2]"],
        ["--cors-origin", "http://localhost:3000,https://chat.example"],
        ["--cors-origin", "http://localhost.chat.example"], ["--cors-origin", "http://["])  # fmt: skip
CLOSED: tuple[list[str], ...] = (
          [], ["--listen-host", "127.0.0.1"], ["--listen-host", "::1"], ["--listen-host", "localhost"],
          ["--cors-origin", "http://localhost:3000"], ["--cors-origin", "http://127.0.0.1:8000,http://[::1]:1"],
          ["--cors-origin", "localhost:3000"])  # fmt: skip
ONE = ["--gradio-auth", "boss:x"]
TWO = ["--gradio-auth", "boss:x,guest:y"]

#: Options that let code run, as text of CMD_FLAGS.txt.
CODE = (
    "--trust-remote-code", "--trust_remote_code", "--trust-remote-code=true", "--allow-pickle", "--extensions gallery",
    "--extensions=a,gallery", "--settings elsewhere.yaml", "# mine\n--api\n--listen --trust-remote-code\n",
)  # fmt: skip


def session(root: Path, *argv: str) -> Session:
    root.mkdir(exist_ok=True)
    return Session(root, argv, read_flags(argv, root, LOADERS), LOADERS, root / "settings.yaml")


def attempts(now: Session, user: str | None) -> None:
    """Everything that changes how the program starts; either all must be refused, or all must be done."""
    now.save_flags("--verbose", user)
    now.restart(["verbose"], [], keep=True, user=user)


@pytest.mark.parametrize("flags", CLOSED)
@pytest.mark.parametrize("more", [[], ONE])
def test_on_this_machine_alone_everyone_may(tmp_path: Path, flags: list[str], more: list[str]) -> None:
    now = session(tmp_path, *flags, *more)
    for user in (None, "boss", "guest"):
        attempts(now, user)
        assert now.rights.refusal(user) is None
    for text in CODE:
        now.save_flags(text.replace("gallery", "any"))


@pytest.mark.parametrize("flags", OPEN)
@pytest.mark.parametrize(
    ("more", "user"), [([], None), ([], "boss"), (TWO, None), (TWO, "guest"), (TWO, "Boss"), (TWO, "")]
)
def test_from_other_machines_nobody_else_may(
    tmp_path: Path, flags: list[str], more: list[str], user: str | None
) -> None:
    (tmp_path / "CMD_FLAGS.txt").write_text("--api\n")
    now = session(tmp_path, *flags, *more)
    with pytest.raises(NotAllowed, match="gradio-auth"):
        now.save_flags("--verbose", user)
    for keep in (True, False):
        with pytest.raises(NotAllowed, match="gradio-auth"):
            now.restart(["verbose"], [], keep=keep, user=user)
    assert not now.asked.is_set()
    assert (tmp_path / "CMD_FLAGS.txt").read_text() == "--api\n"


@pytest.mark.parametrize("flags", CLOSED)
@pytest.mark.parametrize("file", [False, True])
def test_of_several_accounts_the_first_one_may(tmp_path: Path, flags: list[str], file: bool) -> None:
    (tmp_path / "accounts").write_text("boss:x\nguest:y\n")
    now = session(tmp_path, *flags, *(["--gradio-auth-path", str(tmp_path / "accounts")] if file else TWO))
    for user in (None, "guest"):
        with pytest.raises(NotAllowed):
            now.save_flags("--verbose", user)
    attempts(now, "boss")
    with pytest.raises(NotAllowed, match="on the machine"):
        now.save_flags("--trust-remote-code", "boss")


@pytest.mark.parametrize("flags", [*OPEN, *CLOSED])
def test_the_start_says_who_can_use_the_page(flags: list[str]) -> None:
    given = read_flags(flags, Path("/nowhere"), LOADERS)
    assert any("Anyone who can reach" in note for note in given.notes) is (flags in OPEN)


@pytest.mark.parametrize("flags", OPEN)
def test_the_first_account_may_but_switches_on_no_code(tmp_path: Path, flags: list[str]) -> None:
    now = session(tmp_path, *flags, *TWO)
    attempts(now, "boss")
    before = (tmp_path / "CMD_FLAGS.txt").read_text()
    for text in CODE:
        with pytest.raises(NotAllowed, match="on the machine"):
            now.save_flags(text, "boss")
    for keep in (True, False):
        with pytest.raises(NotAllowed, match="--extensions gallery"):
            now.restart([], ["gallery"], keep=keep, user="boss")
    assert (tmp_path / "CMD_FLAGS.txt").read_text() == before


def test_an_argument_of_this_start_hides_nothing(tmp_path: Path) -> None:
    now = session(tmp_path, "--listen", *TWO, "--trust-remote-code=false", "--extensions=")
    for text in CODE:
        with pytest.raises(NotAllowed):
            now.save_flags(text, "boss")


def test_code_that_is_on_already_may_stay_and_go(tmp_path: Path) -> None:
    (tmp_path / "CMD_FLAGS.txt").write_text("--trust-remote-code --extensions gallery\n")
    (tmp_path / "settings.yaml").write_text("default_extensions: [own]\n")
    now = session(tmp_path, "--listen", *TWO)
    now.save_flags("--trust-remote-code --extensions gallery --verbose\n", "boss")
    now.restart([], ["gallery", "own"], keep=True, user="boss")
    now.restart([], [], keep=True, user="boss")
    now.save_flags("--verbose\n", "boss")


def test_an_installation_is_the_administrator_s(tmp_path: Path) -> None:
    folder = tmp_path / "extensions" / "mine"
    folder.mkdir(parents=True)
    (folder / "script.py").write_text('"""Nothing."""\n')
    app = App.build(tmp_path, ["--listen", *TWO])
    for user in (None, "guest"):
        with pytest.raises(NotAllowed):
            app.install_extension("mine", user)
    with pytest.raises(InvalidInput, match="requirements"):  # it goes on: this one has none
        list(app.install_extension("mine", "boss"))
    app.close()


def test_rights_without_a_page_need_no_accounts() -> None:
    assert not Permissions.of(ServerFlags(listen=True, nowebui=True)).is_open
    assert Permissions.of(ServerFlags(listen=True, gradio_auth="a:b, c:d")).names == ("a", "c")
    with pytest.raises(InvalidInput, match="user:password"):
        Permissions.of(ServerFlags(listen=True, gradio_auth="nobody"))
    assert read_accounts(ServerFlags()) is None
