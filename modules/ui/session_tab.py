"""The Session tab: what is running here, the flags and extensions of the next start, the interface's own settings."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.config.server_flags import ServerFlags
from modules.ui.events import on, report, say, tell, then
from modules.ui.queue_view import QueueView
from modules.ui.settings_saver import SettingsSaver
from modules.ui.words import escape, gigabytes, parts, table

#: Never shown: whoever can open the page need not know them.
_SECRET = frozenset({"gradio_auth", "api_key", "admin_key"})

#: What is worth naming with its version, if it is installed.
_PACKAGES = (
    ("Gradio", "gradio"), ("llama.cpp", "llama-cpp-python"), ("Torch", "torch"), ("Transformers", "transformers"),
    ("ExLlamaV2", "exllamav2"),
)  # fmt: skip

_RESTARTING = "() => Page.restarting()"


class SessionTab:
    """The tab. `queue` is what the frame keeps true."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_id="session"):
            gr.HTML("<h1>Session</h1>", elem_classes="page-head")
            self._note = gr.HTML(note_html(app.session.rights.refusal(None)), elem_id="rights-note")
            self.queue = QueueView(app)
            self._running = gr.HTML(table(running(app), "Running"))
            self._next_start()
            self.saver = SettingsSaver(app)
            self._file()
            gr.HTML(table(flags(app), "Flags in effect"))

    def _next_start(self) -> None:
        session = self._app.session
        with gr.Column(elem_classes="card", elem_id="next-start"):
            gr.HTML(
                "<h2>Flags and extensions</h2><p>They count after a restart. The page comes back by itself, and so "
                "does the model.</p>",
                elem_classes="card-head",
            )
            self._switches = gr.CheckboxGroup(
                [(f"{knob.flag}: {knob.help}", knob.name) for knob in session.switches()], value=session.switched_on(),
                label="Flags", elem_id="switches", elem_classes="rows",
            )  # fmt: skip
            self._extensions = gr.CheckboxGroup(
                self._choices(), value=self._active(), label="Extensions", elem_id="extension-choices",
                elem_classes="rows",
                info="From the folder extensions. They are asked in the order in which you tick them.",
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._refresh = gr.Button("Look for new ones", size="sm", elem_id="extensions-refresh")
                self._wanting = gr.Dropdown(
                    self._needy(), show_label=False, container=False, elem_id="extension-needy",
                    visible=bool(self._needy()), label="Extension that needs packages",
                )  # fmt: skip
                self._install = gr.Button(
                    "Install requirements", size="sm", elem_id="extension-install", visible=bool(self._needy()),
                    interactive=self._may(None),
                )  # fmt: skip
            self._log = gr.Textbox(
                label="What pip says", lines=6, max_lines=6, visible=False, elem_id="extension-log", interactive=False
            )
            self._keep = gr.Checkbox(False, label="Keep them for later starts, in CMD_FLAGS.txt", elem_id="keep-flags")
            self._apply = gr.Button(
                "Apply and restart", variant="primary", elem_id="apply-restart", interactive=self._may(None)
            )

    def _file(self) -> None:
        with gr.Accordion("CMD_FLAGS.txt", open=False, elem_id="flags-file"):
            gr.HTML(
                "<p>Flags of every start, on one line or many; # begins a comment. All flags: "
                "<code>python server.py --help</code>, and the README.</p>"
            )
            self._text = gr.Textbox(
                self._flags_text(None), show_label=False, label="CMD_FLAGS.txt", lines=6, max_lines=16,
                elem_id="flags-text", container=False,
            )  # fmt: skip
            self._write = gr.Button("Save CMD_FLAGS.txt", elem_id="flags-save", interactive=self._may(None))

    # --- what it does ---

    def wire(self, tab: gr.Tab) -> None:
        """Connect it; `tab` is its own."""
        shown = [self._running, self._note, self._apply, self._install, self._write, self._text]
        on(tab.select, self._opened, [self._text], shown)
        asked = on(self._apply.click, self._restart, [self._switches, self._extensions, self._keep], None, js=None)
        asked.success(None, None, None, js=_RESTARTING)
        on(self._refresh.click, self._look, [self._extensions], [self._extensions, self._wanting, self._install])
        begun = on(self._install.click, lambda: gr.update(value="", visible=True), None, [self._log])
        done = then(begun, self._installed, [self._wanting], [self._log], stream=True)
        then(done, self._look, [self._extensions], [self._extensions, self._wanting, self._install])
        on(self._write.click, self._save_file, [self._text])

    def _opened(self, text: str, request: gr.Request) -> list[Any]:
        """What the one who opens the tab may do; the file's text only for who may change it, since it may hold keys."""
        user = request.username
        able = gr.update(interactive=self._may(user))
        return [
            table(running(self._app), "Running"),
            note_html(self._app.session.rights.refusal(user)),
            *[able] * 3,
            gr.skip() if text else self._flags_text(user),
        ]

    def _may(self, user: str | None) -> bool:
        return self._app.session.rights.refusal(user) is None

    def _restart(self, switches: Sequence[str], extensions: Sequence[str], keep: bool, request: gr.Request) -> None:
        self._app.session.restart(switches, extensions, keep=keep, user=request.username)

    def _look(self, ticked: Sequence[str]) -> list[Any]:
        needy = self._needy()
        known = self._app.extensions.available()
        return [
            gr.update(choices=self._choices(), value=[each for each in ticked if each in known]),
            gr.update(choices=needy, value=needy[0] if needy else None, visible=bool(needy)),
            gr.update(visible=bool(needy)),
        ]

    def _installed(self, name: str, request: gr.Request) -> Iterator[str]:
        lines: list[str] = []
        try:
            for line in self._app.install_extension(name, request.username):
                lines.append(line)
                yield "\n".join(lines[-200:])
            say(f"What {name} needs is installed. It is there after a restart.")
        except UserError as error:
            report(error)

    def _save_file(self, text: str, request: gr.Request) -> None:
        for note in self._app.session.save_flags(text, request.username):
            tell(note)
        say("CMD_FLAGS.txt is saved; it counts from the next start.")

    # --- what it shows ---

    def _flags_text(self, user: str | None) -> str:
        try:
            return self._app.session.flags_text() if self._may(user) else ""
        except UserError:
            return ""

    def _active(self) -> list[str]:
        return [each.name for each in (*self._app.extensions.active, *self._app.extensions.failed)]

    def _choices(self) -> list[tuple[str, str]]:
        return [(self._label(name), name) for name in self._app.extensions.available()]

    def _label(self, name: str) -> str:
        """The name, and how it is with this one."""
        extensions = self._app.extensions
        known = next((each for each in (*extensions.active, *extensions.failed) if each.name == name), None)
        if known and known.problem:
            return f"{name}: {known.problem}"
        missing = extensions.missing(name)
        about = f"needs {', '.join(missing)}" if missing else extensions.about(name)
        return f"{name}: {about}" if about else name

    def _needy(self) -> list[str]:
        extensions = self._app.extensions
        return [name for name in extensions.available() if extensions.missing(name)]


def note_html(why: str | None) -> str:
    """Why the tab is read-only for this visitor; nothing where it is not."""
    return f"<p class='warning' role='note'>{escape(why)}</p>" if why else ""


def running(app: App) -> list[tuple[str, str]]:
    """Versions, devices, memory and places."""
    free = app.machine.free()
    model = app.models.loaded
    held = gigabytes(model.memory) if model and model.memory else ""
    rows = [
        ("Address", app.launch.server.address),
        ("Model", parts(app.models.state.name, app.models.state.loader, held) if model else "none"),
        ("Memory", f"{gigabytes(free.memory)} free of {gigabytes(app.machine.total)}"),
        (
            "Graphics card",
            f"{gigabytes(free.card)} free" if free.card is not None else "none that NVIDIA's driver lists",
        ),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
    ]
    for name, package in _PACKAGES:
        try:
            rows.append((name, version(package)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return [*rows, ("Models", str(app.paths.models)), ("Chats", str(app.paths.logs))]


def flags(app: App) -> list[tuple[str, str]]:
    """What was given, else a line that says that nothing was."""
    given: dict[str, Any] = {**app.launch.server.differing(), **app.launch.load_options}
    known = ServerFlags.knobs()
    rows = [
        ("--" + name.replace("_", "-"), "(hidden)" if name in _SECRET else parts(_word(value)))
        for name, value in given.items()
        if name in known or name in app.launch.load_options
    ]
    return rows or [("None", "everything is at its default")]


def _word(value: Any) -> str:
    if value is True:
        return "on"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
