"""Profiles of the user: files as the original writes them, and the picture that comes with them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from errors import BadFile, InvalidInput, InvalidName, Unavailable, UnknownName
from modules.chat.user_profile import Profile, UserProfile
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping


def picture(color: str, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(data, kind)
    return data.getvalue()


@pytest.fixture
def user(tmp_path: Path) -> UserProfile:
    paths = Paths.under(tmp_path)
    paths.ensure()
    return UserProfile(paths)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("Ann.yaml", "name: Ann B\nuser_bio: |-\n  Climbs.\n  Reads.\n", Profile("Ann B", "Climbs.\nReads.")),
        ("Ann.yml", "name: Ann B\n", Profile("Ann B")),
        ("Ann.json", '{"name": "Ann B", "user_bio": "Climbs."}', Profile("Ann B", "Climbs.")),
        ("Ann.yaml", "user_bio: null\nname: ''\n", Profile("Ann")),
        ("Ann.yaml", "name: 7\n", Profile("7")),
        ("Ann.yaml", "", Profile("Ann")),
    ],
)
def test_files_of_the_original(user: UserProfile, tmp_path: Path, file: str, text: str, expected: Profile) -> None:
    (tmp_path / "users" / file).write_text(text, "utf-8")
    assert user.names() == ["Ann"]
    assert user.use("Ann") == expected


def test_what_is_no_profile_is_a_sentence(user: UserProfile, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="profile"):
        user.use("Ann")
    with pytest.raises(InvalidName):
        user.use("../settings")
    (tmp_path / "users" / "Bad.yaml").write_text("- a list\n", "utf-8")
    with pytest.raises(BadFile, match=r"Bad\.yaml"):
        user.use("Bad")
    with pytest.raises(InvalidInput, match="Enter your name first"):
        user.keep(" ", "x")
    with pytest.raises(InvalidName):
        user.keep("a/b", "x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_the_picture_comes_and_goes_with_its_profile(user: UserProfile, tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "users"
    (folder / "Ann.yaml").write_text("name: Ann\n", "utf-8")
    (folder / f"Ann{suffix}").write_bytes(picture("red", "PNG" if suffix == ".png" else "JPEG"))
    (folder / "Bo.yaml").write_text("name: Bo\n", "utf-8")
    assert user.use("Ann").picture == folder / f"Ann{suffix}"
    assert user.picture is not None
    user.use("Bo")
    assert user.picture is None
    user.set_picture(picture("blue"))  # in no profile: nothing could bring it back
    user.use("Bo")
    assert user.picture is not None


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    user: UserProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "users" / "Ann.jpg"
    old.write_bytes(picture("red", "JPEG"))
    user.set_picture(picture("blue"))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modules.chat.user_profile.write_bytes", full)
    with pytest.raises(Unavailable, match="No space left"):
        user.keep("Ann", "")
    assert old.is_file()
    monkeypatch.undo()
    user.keep("Ann", "")
    assert sorted(path.name for path in old.parent.iterdir()) == ["Ann.png", "Ann.yaml"]


def test_a_profile_is_kept_and_used_again(user: UserProfile, tmp_path: Path) -> None:
    path = tmp_path / "users" / "Ann.yaml"
    path.write_text("name: Ann\nuser_bio: Old.\nmood: good\n", "utf-8")
    user.set_picture(picture("red"))
    assert user.keep(" Ann ", " New. ") == "Ann"
    assert read_mapping(path) == {"name": "Ann", "user_bio": "New.", "mood": "good"}
    user.set_picture(None)
    assert user.use("Ann") == Profile("Ann", "New.", path.with_suffix(".png"))
    assert user.picture is not None
    user.set_picture(None)
    user.keep("Ann", "New.")
    assert user.load("Ann").picture is None
