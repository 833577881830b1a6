"""The Model tab: on the left the models in models/, on the right how the selected one is loaded.

Loaders, their options and missing packages come from the declarations; this file names no loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from errors import InvalidInput, UserError
from loaders import LOADERS
from loaders.base import Loader, Lora
from loaders.knobs import Knob
from loaders.params import LOAD_GROUPS
from modules.app import App
from modules.library import demo_model
from modules.ui.model.catalog_view import catalog_html, loader_choices, notes_html, now_html, title_html
from modules.ui.model.download_panel import DownloadPanel
from modules.ui.model.forecast_view import forecast_html
from modules.ui.model.remote_panel import RemotePanel
from modules.ui.parameters import knob_controls
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.parts.formatting import escape, short_name
from modules.ui.parts.list_picker import make_picker
from modules.ui.parts.sentences import translated
from modules.ui.texts import option_scope, tr

#: A loader chosen right after a model belongs to that model.
_AFTER_CHOICE = "async (...values) => { await Answers.settled('loader'); return values; }"


class ModelTab:
    """The tab. The page header shows a load in `progress`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._knobs: dict[str, list[Knob]] = {
            name: list(kind.Options.knobs().values()) for name, kind in LOADERS.items()
        }
        self._controls: dict[str, list[gr.components.Component]] = {}
        self._panels: dict[str, gr.Column] = {}
        self.chosen = gr.State("")
        with gr.Row(elem_id="model"):
            with gr.Column(elem_id="catalog"):
                with gr.Row(elem_classes="head"):
                    gr.HTML(f"<h2>{tr('model.heading')}</h2>")
                    self.refresh = gr.Button(tr("button.refresh"), size="sm", elem_id="catalog-refresh")
                with gr.Row(elem_id="loaded-now"):
                    self.now = gr.HTML("", elem_id="loaded-name", padding=False)
                    self.unload = gr.Button(tr("model.unload"), size="sm", elem_id="unload-model")
                self.autoload = gr.Checkbox(
                    app.settings.autoload_model, label=tr("model.autoload"), elem_id="autoload", elem_classes="switch"
                )
                self.catalog = make_picker("catalog-list")
                self.fetch = gr.Button(
                    tr("model.fetch_demo", n=demo_model.PACKAGE_SIZE / 1e6),
                    visible=False,
                    elem_id="fetch-demo",
                )
                self.downloads = DownloadPanel(app)
                self.remote = RemotePanel(app)
                gr.HTML(tr("model.where", folder=escape(app.paths.models)), elem_id="where")
            with gr.Column(elem_id="load"):
                self.downloads.hub_view()
                self._load_side()

    def _load_side(self) -> None:
        self.title = gr.HTML("", elem_id="model-title")
        # not empty: what is empty has no height, and the buttons below it would move when the forecast comes
        self.forecast = gr.HTML("<div class='forecast'></div>", elem_id="forecast", padding=False)
        with gr.Row(elem_id="load-bar"):
            self.load = gr.Button(tr("model.load"), variant="primary", elem_id="load-model")
            self.cancel = gr.Button(tr("button.cancel"), variant="stop", elem_id="cancel-load", visible="hidden")
            self.reload = gr.Button(tr("model.reload"), elem_id="reload-model")
            self.save = gr.Button(tr("model.save_options"), elem_id="save-options")
        self.progress = gr.HTML("", elem_id="load-progress")
        self.notes = gr.HTML("", elem_id="load-notes")
        with gr.Row(elem_id="loras", visible=False) as self.loras_row:
            self.loras = gr.Dropdown(
                [], value=[], multiselect=True, label=tr("model.loras"), elem_id="lora-menu",
                info=tr("model.loras_info"),
            )  # fmt: skip
            self.apply_loras = gr.Button(tr("model.loras_apply"), size="sm", elem_id="apply-loras")
        first = next(iter(LOADERS))
        with gr.Column(elem_id="how", visible=False) as self.how:
            self.loader = gr.Radio(list(LOADERS), label=tr("model.loader"), elem_id="loader", value=first)
            self.missing = gr.HTML("", elem_id="loader-missing")
            self.reason = gr.HTML("", elem_id="options-reason")
            for name in LOADERS:
                with gr.Column(elem_classes="options", visible=name == first) as panel:
                    self._options(name)
                self._panels[name] = panel

    def _options(self, loader: str) -> None:
        made: dict[str, gr.components.Component] = {}
        rest: list[tuple[str, list[Knob]]] = []
        for group in LOAD_GROUPS:
            knobs = [knob for knob in self._knobs[loader] if knob.group == group]
            if group != "main":
                rest.append((group, knobs))
                continue
            with gr.Column(elem_classes="card"):
                gr.HTML(knob_controls.group_head("option_group", group), elem_classes="card-head")
                made |= {knob.name: self._control(loader, knob) for knob in knobs}
        with gr.Accordion(tr("model.more_options"), open=False, elem_classes="rest"):
            for group, knobs in rest:
                if knobs:
                    with gr.Column(elem_classes="card"):
                        gr.HTML(knob_controls.group_head("option_group", group), elem_classes="card-head")
                        made |= {knob.name: self._control(loader, knob) for knob in knobs}
        self._controls[loader] = [made[knob.name] for knob in self._knobs[loader]]

    def _control(self, loader: str, knob: Knob) -> gr.components.Component:
        prefix = f"option-{loader.replace('.', '-')}"
        return knob_controls.make_control(knob, knob.default, prefix=prefix, scope=option_scope(loader))

    # --- events ---

    @property
    def _options_of_all(self) -> list[gr.components.Component]:
        return [control for name in LOADERS for control in self._controls[name]]

    def wire(self, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer, model: gr.State) -> None:
        """Connect the events. `tab` contains it; `model` changes with the model."""
        selected_outputs = [
            self.chosen, self.catalog, self.fetch, self.title, self.load, self.reload, self.save, self.how, self.loader,
            self.missing, self.reason, *self._panels.values(), *self._options_of_all,
        ]  # fmt: skip
        self._timer = timer
        state = [self.catalog, self.now, self.notes, self.load, self.cancel, self.unload, self.reload]
        state += [self.loras_row, self.loras]
        self.downloads.wire(page, timer, self.catalog.click)
        self.remote.wire()
        chosen = on(self.catalog.click, self._select, None, selected_outputs)
        on(page.load, partial(self._refresh, fresh=True), [self.chosen], selected_outputs)
        on(self.downloads.finished.change, self._refresh, [self.chosen], selected_outputs)
        added = on(self.remote.added.change, self._refresh, [self.remote.added], selected_outputs)
        on([page.load, model.change], self._show_state, [self.chosen], state)
        shown = [
            chosen,
            added,
            on(tab.select, None),
            on(self.refresh.click, self._refresh, [self.chosen], selected_outputs),
            on(self.loader.input, self._select_loader, [self.chosen, self.loader], selected_outputs, js=_AFTER_CHOICE),
        ]
        load_inputs = [self.chosen, self.loader, *self._options_of_all]
        loading_outputs = [timer, self.load, self.cancel, self.unload, self.reload, self.fetch]
        for button, function, inputs in (
            (self.load, self._load, load_inputs),
            (self.reload, self._load, load_inputs),
            (self.fetch, self._load_demo, None),
        ):
            done = then(on(button.click, self._show_loading, None, loading_outputs), function, inputs)
            shown.append(
                then(then(done, self._show_state, [self.chosen], state), self._refresh, [self.chosen], selected_outputs)
            )
        done = then(chosen, self._autoload, [self.autoload, *load_inputs])
        then(then(done, self._show_state, [self.chosen], state), self._refresh, [self.chosen], selected_outputs)
        changes = [control.input for name in LOADERS for control in self._memory_controls(name)]
        on(changes, self._forecast, load_inputs, [self.forecast], latest=True)
        for event in shown:
            then(event, self._forecast, load_inputs, [self.forecast], latest=True)
        on(self.apply_loras.click, self._apply_loras, [self.loras])
        on(self.cancel.click, self._cancel, queue=False)
        then(on(self.unload.click, self._unload, [self.chosen]), self._show_state, [self.chosen], state)
        on(self.save.click, self._save, load_inputs)

    def _memory_controls(self, loader: str) -> list[gr.components.Component]:
        """The controls on which the forecast depends; none if the loader has none. Following all of them is slow."""
        if LOADERS[loader].forecast.__func__ is Loader.forecast.__func__:  # type: ignore[attr-defined]
            return []
        pairs = zip(self._knobs[loader], self._controls[loader], strict=True)
        return [control for knob, control in pairs if knob.group in ("main", "memory", "speed")]

    def _refresh(self, chosen: str, *, fresh: bool = False) -> Updates:
        """The catalog, and the selected model. `fresh`: the page was just loaded, its controls have their defaults."""
        items = self._app.catalog.items()
        names = [item.name for item in items]
        wanted = next((name for name in (chosen, self._app.models.state.name) if name in names), None)
        usable = next((item.name for item in items if not item.problem), "")
        return self._show_selected(wanted or usable, fresh=fresh)

    def _select(self, event: gr.EventData) -> Updates:
        return self._show_selected(event.pick)

    def _select_loader(self, chosen: str, loader: str) -> Updates:
        return self._show_selected(chosen, loader)

    def _list(self, chosen: str) -> str:
        return catalog_html(self._app.catalog.items(), chosen, self._loaded, self._app.badges.of)

    def _show_selected(self, name: str, loader: str = "", *, fresh: bool = False) -> Updates:
        """Everything that depends on the selected model."""
        items = self._app.catalog.items()
        lists = {
            self.chosen: name,
            self.catalog: self._list(name),
            self.fetch: gr.update(visible=not any(each.name == demo_model.NAME for each in items)),
        }
        load, reload = self._if_loaded(name, False), self._if_loaded(name, True)
        if not name:
            off = gr.update(interactive=False)
            return {
                **lists,
                self.title: title_html(None),
                self.load: {**load, **off},
                self.reload: reload,
                self.save: off,
                self.how: gr.update(visible=False),
            }
        item = self._app.catalog.find(name)
        choices = self._app.models.loaders_for(name)
        plan = self._app.models.shown(name, loader)
        loader = plan.loader
        missing = next((choice.missing for choice in choices if choice.name == loader), None)
        knobs = self._knobs[loader]
        shown = {knob.name: knob.default for knob in knobs} if fresh else None
        values = knob_controls.control_updates(knobs, plan.options.model_dump(), shown=shown)
        return {
            **lists,
            self.title: title_html(item),
            self.load: {**load, **gr.update(interactive=not item.problem and not missing)},
            self.reload: reload,
            self.save: gr.update(interactive=not item.problem),
            self.how: gr.update(visible=not item.problem),
            self.loader: gr.update(choices=loader_choices(choices), value=loader),
            self.missing: f"<p class='warning'>{escape(translated(missing))}</p>" if missing else "",
            self.reason: f"<p>{tr('model.options_reason', reason=escape(translated(plan.reason)))}</p>",
            **{panel: gr.update(visible=each == loader) for each, panel in self._panels.items()},
            **knob_controls.changed_updates(self._controls[loader], values),
        }

    @property
    def _loaded(self) -> set[str]:
        return {each.name for each in self._app.models.memory.all}

    def _if_loaded(self, chosen: str, loaded: bool) -> dict[str, Any]:
        """An update that shows a button if the chosen model is loaded, or is not; none while one is being loaded."""
        idle, here = self._app.models.state.phase != "loading", chosen in self._loaded
        return dict(gr.update(visible=(idle and here == loaded) or "hidden"))

    def _unloads(self, chosen: str) -> str:
        """What Unload unloads: the chosen model if it is loaded, else the first one shown in the header."""
        state = self._app.models.state
        return chosen if chosen in self._loaded else state.idle or (state.name if state.phase == "loaded" else "")

    def _show_state(self, chosen: str) -> Updates:
        """What is loaded, the buttons that this allows, and the notes about it."""
        state = self._app.models.state
        listed = {self.catalog: self._list(chosen)} if chosen else {}  # it says of each whether it is loaded
        chosen = chosen or state.name  # of a page that is just being loaded
        now = self._unloads(chosen)
        load, reload = self._if_loaded(chosen, False), self._if_loaded(chosen, True)
        busy, loaded = state.phase in ("loading", "unloading"), state.phase == "loaded"
        names = self._app.lora_names()
        # the right side is about the chosen model; the list and the page's header say which one is loaded
        notes = state.notes if chosen in ("", state.name) else ()
        return {
            **listed,
            self.now: now_html(now, idle=now == state.idle),
            self.notes: notes_html(notes, state.error, short_name(state.name)),
            self.load: {**load, **gr.update(interactive=bool(chosen) and not busy)},
            self.cancel: gr.update(visible=state.phase == "loading" or "hidden"),
            self.unload: gr.update(interactive=bool(now)),
            self.reload: {**reload, **gr.update(interactive=loaded)},
            self.loras_row: gr.update(visible=loaded and bool(names)),
            self.loras: gr.update(choices=names, value=[each.path.name for each in self._loras_now()]),
        }

    def _loras_now(self) -> Sequence[Lora]:
        model = self._app.models.loaded
        return model.loras if model else ()

    def _show_loading(self) -> Updates:
        off = gr.update(interactive=False)
        return {
            self._timer: gr.Timer(0.3),
            self.load: gr.update(visible="hidden"),
            self.cancel: gr.update(visible=True),
            self.unload: off,
            self.reload: gr.update(visible="hidden"),
            self.fetch: gr.update(visible=False),
        }

    def _load_demo(self) -> None:
        """Download the demo model from the package index and load it."""
        self._app.models.load(demo_model.NAME, obtain=demo_model.DemoModel(self._app.paths).fetch)

    def _load(self, name: str, loader: str, *values: Any) -> None:
        if not name:
            raise InvalidInput(tr("model.choose"))
        self._app.models.load(name, loader, self._parse_options(loader, values))

    def _cancel(self) -> None:
        self._app.models.cancel_load()

    def _unload(self, chosen: str) -> None:
        """Unload what the line above the list names."""
        memory = self._app.models.memory
        entry = memory.find(chosen) if chosen else None
        entry = entry or memory.default
        self._app.models.unload(entry.name if entry else "")

    def _autoload(self, autoload: bool, name: str, loader: str, *_: Any) -> None:
        """Load the selected model at once, if the user wants that."""
        state = self._app.models.state
        if autoload and name and state.name != name and state.phase in ("none", "loaded"):
            options, _reason = self._app.models.default_options(name, loader)
            self._app.models.load(name, loader, options.model_dump())

    def _forecast(self, name: str, loader: str, *values: Any) -> str:
        """The memory forecast with the current options."""
        if not name:
            return ""
        try:
            found = self._app.badges.forecast(name, loader, self._parse_options(loader, values))
        except UserError:  # an incomplete value, or a file that cannot be loaded, which the tab shows elsewhere
            return ""
        model = self._app.models.loaded
        taken = model.memory if model and self._app.models.state.name == name else 0
        return forecast_html(found, taken)

    def _apply_loras(self, names: Sequence[str]) -> None:
        self._app.use_loras(list(names or ()))
        show_info(tr("model.loras_on" if names else "model.loras_off"))

    def _save(self, name: str, loader: str, *values: Any) -> None:
        if not name:
            raise InvalidInput(tr("model.choose"))
        self._app.models.save_options(name, loader, self._parse_options(loader, values))
        show_info(tr("model.saved", name=short_name(name)))

    def _parse_options(self, loader: str, values: Sequence[Any]) -> dict[str, Any]:
        start = 0
        for name in LOADERS:
            count = len(self._knobs[name])
            if name == loader:
                own = values[start : start + count]
                return dict(knob_controls.parse_controls(LOADERS[name].Options, own).model_dump())
            start += count
        raise InvalidInput(tr("model.choose_loader"))
