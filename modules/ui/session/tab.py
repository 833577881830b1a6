"""The Session tab: what is running, flags and extensions for the next start, and the settings of the interface."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.config.server_flags import ServerFlags
from modules.ui.parts.events import Updates, on, show_error, show_info, show_warning, then
from modules.ui.parts.formatting import escape, format_gigabytes, join_facts, table_html
from modules.ui.parts.sentences import translated
from modules.ui.session.queue_view import QueueView
from modules.ui.session.settings_saver import SettingsSaver
from modules.ui.texts import knob_help, tr

#: Never shown: not everybody who can open the page may know them.
_SECRET = frozenset({"gradio_auth", "api_key", "admin_key"})

#: Packages that are shown with their versions.
_PACKAGES = (
    ("Gradio", "gradio"), ("llama.cpp", "llama-cpp-python"), ("Torch", "torch"), ("Transformers", "transformers"),
    ("ExLlamaV2", "exllamav2"),
)  # fmt: skip

_RESTARTING = "() => Page.restarting()"


class SessionTab:
    """The tab. The page header updates `queue`."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_id="session"):
            gr.HTML(f"<h1>{tr('tab.session')}</h1>", elem_classes="page-head")
            self._note = gr.HTML(note_html(app.session.rights.refusal(None)), elem_id="rights-note")
            self.queue = QueueView(app)
            self._next_start()
            self.saver = SettingsSaver(app)
            self._file()
            gr.HTML(table_html(flags_html(app), tr("session.flags_active")))
            with gr.Accordion(tr("session.system"), open=False, elem_id="session-system", elem_classes="rest"):
                self._running = gr.HTML(table_html(running_html(app), tr("session.system")))

    def _next_start(self) -> None:
        session = self._app.session
        with gr.Column(elem_classes="card", elem_id="next-start"):
            gr.HTML(f"<h2>{tr('session.next_title')}</h2><p>{tr('session.next_about')}</p>", elem_classes="card-head")
            self._switches = gr.CheckboxGroup(
                [(f"{knob.flag}: {knob_help(knob, 'flag')}", knob.name) for knob in session.switches()],
                value=session.switched_on(), label=tr("session.flags"), elem_id="switches", elem_classes="rows",
            )  # fmt: skip
            self._extensions = gr.CheckboxGroup(
                self._extension_choices(), value=self._active_extensions(), label=tr("session.extensions"),
                elem_id="extension-choices", elem_classes="rows", info=tr("session.extensions_info"),
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._refresh = gr.Button(tr("button.refresh"), size="sm", elem_id="extensions-refresh")
                self._to_install = gr.Dropdown(
                    self._lacking_packages(), show_label=False, container=False, elem_id="extension-needy",
                    visible=bool(self._lacking_packages()), label=tr("session.needy"),
                )  # fmt: skip
                self._install = gr.Button(
                    tr("session.install"), size="sm", elem_id="extension-install",
                    visible=bool(self._lacking_packages()), interactive=self._may_change(None),
                )  # fmt: skip
            self._log = gr.Textbox(
                label=tr("session.pip"), lines=6, max_lines=6, visible=False, elem_id="extension-log", interactive=False
            )
            self._keep = gr.Checkbox(False, label=tr("session.keep"), elem_id="keep-flags")
            self._apply = gr.Button(
                tr("session.apply"), variant="primary", elem_id="apply-restart", interactive=self._may_change(None)
            )

    def _file(self) -> None:
        with gr.Accordion("CMD_FLAGS.txt", open=False, elem_id="flags-file"):
            gr.HTML(f"<p>{tr('session.file_about')}</p>")
            self._text = gr.Textbox(
                self._flags_text(None), show_label=False, label="CMD_FLAGS.txt", lines=6, max_lines=16,
                elem_id="flags-text", container=False,
            )  # fmt: skip
            self._write = gr.Button(tr("session.write"), elem_id="flags-save", interactive=self._may_change(None))

    # --- events ---

    def wire(self, tab: gr.Tab) -> None:
        """Connect the events; `tab` is its own tab."""
        shown = [self._running, self._note, self._apply, self._install, self._write, self._text]
        on(tab.select, self._show_rights, [self._text], shown)
        look = [self.saver.dark, self.saver.language]
        asked = on(
            self._apply.click, self._restart, [self._switches, self._extensions, self._keep, *look], None, js=None
        )
        asked.success(None, None, None, js=_RESTARTING)
        lists = [self._extensions, self._to_install, self._install]
        on(self._refresh.click, self._refresh_extensions, [self._extensions], lists)
        begun = on(self._install.click, lambda: gr.update(value="", visible=True), None, [self._log])
        done = then(begun, self._install_requirements, [self._to_install], [self._log])
        then(done, self._refresh_extensions, [self._extensions], lists)
        on(self._write.click, self._save_flags_file, [self._text])

    def _show_rights(self, text: str, request: gr.Request) -> Updates:
        """Enable what this user may do. Only who may change the flags file sees it, since it may contain keys."""
        user = request.username
        able = gr.update(interactive=self._may_change(user))
        return {
            self._running: table_html(running_html(self._app), tr("session.system")),
            self._note: note_html(self._app.session.rights.refusal(user)),
            **dict.fromkeys((self._apply, self._install, self._write), able),
            **({} if text else {self._text: self._flags_text(user)}),
        }

    def _may_change(self, user: str | None) -> bool:
        return self._app.session.rights.refusal(user) is None

    def _restart(
        self,
        switches: Sequence[str],
        extensions: Sequence[str],
        keep: bool,
        dark: bool | None,
        language: str | None,
        request: gr.Request,
    ) -> None:
        self._app.session.rights.check(request.username)
        self.saver.keep_look(dark, language)
        self._app.session.restart(switches, extensions, keep=keep, user=request.username)

    def _refresh_extensions(self, ticked: Sequence[str]) -> Updates:
        lacking = self._lacking_packages()
        known = self._app.extensions.available()
        return {
            self._extensions: gr.update(
                choices=self._extension_choices(), value=[each for each in ticked if each in known]
            ),
            self._to_install: gr.update(choices=lacking, value=lacking[0] if lacking else None, visible=bool(lacking)),
            self._install: gr.update(visible=bool(lacking)),
        }

    def _install_requirements(self, name: str, request: gr.Request) -> Iterator[str]:
        lines: list[str] = []
        try:
            for line in self._app.install_extension(name, request.username):
                lines.append(line)
                yield "\n".join(lines[-200:])
            show_info(tr("session.installed", name=name))
        except UserError as error:
            show_error(error)

    def _save_flags_file(self, text: str, request: gr.Request) -> None:
        for note in self._app.session.save_flags(text, request.username):
            show_warning(note)
        show_info(tr("session.written"))

    # --- contents ---

    def _flags_text(self, user: str | None) -> str:
        try:
            return self._app.session.flags_text() if self._may_change(user) else ""
        except UserError:
            return ""

    def _active_extensions(self) -> list[str]:
        return [each.name for each in (*self._app.extensions.active, *self._app.extensions.failed)]

    def _extension_choices(self) -> list[tuple[str, str]]:
        return [(self._label(name), name) for name in self._app.extensions.available()]

    def _label(self, name: str) -> str:
        """The name, and what is wrong with it or what it does."""
        extensions = self._app.extensions
        known = next((each for each in (*extensions.active, *extensions.failed) if each.name == name), None)
        if known and known.problem:
            return f"{name}: {translated(known.problem)}"
        missing = extensions.missing(name)
        if extensions.is_included(name):
            return f"{name}: {tr(f'session.included.{name}')}"
        about = tr("session.needs", packages=", ".join(missing)) if missing else extensions.about(name)
        return f"{name}: {about}" if about else name

    def _lacking_packages(self) -> list[str]:
        extensions = self._app.extensions
        return [name for name in extensions.available() if extensions.missing(name)]


def note_html(why: str | None) -> str:
    """Why the tab is read-only for this user; empty if it is not."""
    return f"<p class='warning' role='note'>{escape(translated(why))}</p>" if why else ""


def running_html(app: App) -> list[tuple[str, str]]:
    """Rows of names and values: versions, devices, memory, folders."""
    free = app.system_memory.free()
    model = app.models.loaded
    held = format_gigabytes(model.memory) if model and model.memory else ""
    system = f"{platform.system()} {platform.machine()}"
    rows = [
        (tr("session.address"), app.launch.server.address),
        (
            tr("session.model"),
            join_facts(app.models.state.name, app.models.state.loader, held) if model else tr("session.none"),
        ),
        (
            tr("session.memory"),
            tr(
                "session.memory_free",
                free=format_gigabytes(free.memory),
                total=format_gigabytes(app.system_memory.total),
            ),
        ),
        (
            tr("session.gpu"),
            tr("session.gpu_none") if free.card is None else tr("session.gpu_free", free=format_gigabytes(free.card)),
        ),
        ("Python", tr("session.python", version=platform.python_version(), system=system)),
    ]
    for name, package in _PACKAGES:
        try:
            rows.append((name, version(package)))
        except PackageNotFoundError:
            rows.append((name, tr("session.not_installed")))
    return [*rows, (tr("session.models"), str(app.paths.models)), (tr("session.chats"), str(app.paths.logs))]


def flags_html(app: App) -> list[tuple[str, str]]:
    """The flags of this start, or a line that says there are none."""
    given: dict[str, Any] = {**app.launch.server.differing(), **app.launch.load_options}
    known = ServerFlags.knobs()
    rows = [
        ("--" + name.replace("_", "-"), tr("session.hidden") if name in _SECRET else join_facts(_word(value)))
        for name, value in given.items()
        if name in known or name in app.launch.load_options
    ]
    return rows or [(tr("session.flags_none"), tr("session.flags_default"))]


def _word(value: Any) -> str:
    if value is True:
        return tr("value.on")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
