"""The variables of what is started: pip's settings get through, other Pythons do not."""

from __future__ import annotations

import pytest

from installer.layout import Layout
from installer.variables import clean_environ, uv_settings
from tests.installer.stage import make_environment


def test_pips_settings_are_told_to_uv() -> None:
    config = "\n".join(
        (
            ":env:.find-links='/opt/wheels /more'",
            "global.find-links='/ignored'",
            "global.index-url='http://mirror/simple'",
            "global.extra-index-url='\\nfile:///a\\nfile:///b'",
            "global.cert='/etc/ca.crt'",
            "WARNING: a line that is no setting",
        )
    )
    assert uv_settings(config, {"SSL_CERT_FILE": "mine"}) == {
        "UV_DEFAULT_INDEX": "http://mirror/simple",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/opt/wheels,/more",
    }
    assert uv_settings("", {}) == {}


def test_other_pythons_do_not_leak_in(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    environ = clean_environ(layout)
    assert not {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} & set(environ)
    assert environ["PYTHONNOUSERSITE"] == "1"

    make_environment(layout)
    libraries = layout.site_packages / "nvidia" / "cublas" / "lib"
    libraries.mkdir(parents=True)
    assert clean_environ(layout)["LD_LIBRARY_PATH"] == str(libraries)
