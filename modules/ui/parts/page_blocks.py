"""gr.Blocks in which the cost of an update depends on what a handler changes, not on the number of its outputs.

A handler that returns `{component: value}` does not change the other outputs. gradio would still process each of them
at each update send an empty difference for it, search all events of the page for those that follow a state, and
send the last update of a stream twice. This module must not know any tab.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from gradio import utils
from gradio.blocks import Block
from gradio.components.base import _Keywords
from gradio.data_classes import GradioModel, GradioRootModel

#: The value of an output that stays as it is.
_SKIP = gr.skip()
#: Seconds between two looks of gradio's queue for new events, and for their progress. It looks a thousand times per
#: second elsewhere than on Windows, which takes a twentieth of a core from the model all the time.
_LOOK, _PROGRESS_LOOK = 0.01, 0.1


class PageBlocks(gr.Blocks):  # type: ignore[misc]  # gradio has no types
    """Blocks for a page whose handlers have many outputs and change few of them at a time."""

    def __init__(self, *args: Any, **how: Any) -> None:
        # by a session's configuration: how many events it had, and the components whose changes start one
        self._watched: WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = WeakKeyDictionary()
        # by an event's function: copies of it with only some of its outputs
        self._narrowed: WeakKeyDictionary[Any, dict[tuple[tuple[Block, ...], bool], Any]] = WeakKeyDictionary()
        super().__init__(*args, **how)

    def queue(self, *args: Any, **how: Any) -> Any:
        """As gradio's, but it is idle while there are no events."""
        made = super().queue(*args, **how)
        self._queue.sleep_when_free = max(_LOOK, self._queue.sleep_when_free)
        self._queue.progress_update_sleep_when_free = _PROGRESS_LOOK
        return made

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """Values for the browser, one for each output; only the named ones are processed."""
        if _changes_nothing(predictions, len(block_fn.outputs)):
            return [_SKIP] * len(block_fn.outputs)
        if not _names_outputs(predictions, block_fn.outputs):
            return list(await super().postprocess_data(block_fn, predictions, state))
        named = tuple(predictions)
        if len(named) == 1 and _is_plain(named[0], predictions[named[0]]):
            # the growing part of a reply: gradio would make the update in another thread, which takes longer than
            # making it
            value = _make_value(named[0], predictions[named[0]], state)
            narrowed = self._narrow(block_fn, named, postprocess=False)
            made = await super().postprocess_data(narrowed, {named[0]: value}, state)
        else:
            made = await super().postprocess_data(self._narrow(block_fn, named), predictions, state)
        values = dict(zip(named, made, strict=True))
        return [values.get(output, _SKIP) for output in block_fn.outputs]

    def get_state_ids_to_track(self, block_fn: Any, state: Any) -> tuple[list[int], list[str]]:
        """The states among the outputs whose changes start events, and hashes of their values before the update."""
        if state is None:
            return [], []
        config = state.blocks_config
        count, watched = self._watched.get(config, (-1, frozenset()))
        if count != len(config.fns):
            targets = (target for fn in config.fns.values() for target in fn.targets)
            watched = frozenset(id for id, event in targets if event == "change")
            self._watched[config] = len(config.fns), watched
        ids = [output._id for output in block_fn.outputs if output._id in watched and output.stateful]
        return ids, [utils.deep_hash(state[id]) for id in ids]

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """The differences from the previous update. Unchanged outputs at the end are omitted: the browser assigns what
        it gets to the first ones. At the end of the stream nothing differs: the browser has the last update.

        Changes of properties are always sent as a whole. The browser applies a difference to the previous update as
        soon as it arrives, also if that one still waits to be shown: a property which the difference takes out of it,
        such as `visible` of Send at the end of a reply, would never be set.
        """
        ours = block_fn.api_visibility == "private"  # what other clients read gets gradio's own form
        if not (ours and session_hash and run) or simple_format:
            return list(super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format))
        before = self.pending_diff_streams[session_hash].get(run)
        if final or before is None:
            super().handle_streaming_diffs(block_fn, data, session_hash, run, final)
            return [_SKIP] * len(data) if final else data
        count = _count_changed(before, data)
        compared, earlier = self._narrow(block_fn, tuple(block_fn.outputs[:count])), before[:count]
        made = list(super().handle_streaming_diffs(compared, data[:count], session_hash, run, final))
        for at, (old, new) in enumerate(zip(earlier, data, strict=False)):
            if made[at] and utils.is_prop_update(old) and utils.is_prop_update(new):
                made[at] = [["replace", [], new]]
        return made

    async def handle_streaming_outputs(self, block_fn: Any, data: list[Any], **how: Any) -> list[Any]:
        """For outputs that play media while a handler runs; none of our handlers has any."""
        if block_fn.api_visibility == "private":
            return data
        return list(await super().handle_streaming_outputs(block_fn, data, **how))

    def _narrow(self, block_fn: Any, outputs: tuple[Block, ...], *, postprocess: bool = True) -> Any:
        """The event's function with only these outputs. Without `postprocess`, their values are final."""
        known, key = self._narrowed.setdefault(block_fn, {}), (outputs, postprocess)
        narrowed = known.get(key)
        if narrowed is None:
            narrowed = known[key] = copy.copy(block_fn)
            narrowed.outputs = list(outputs)
            narrowed.postprocess = postprocess and block_fn.postprocess
        return narrowed


def _count_changed(before: list[Any], data: list[Any]) -> int:
    """How many outputs there are up to the last one that is not skipped in both updates; 1 at least."""
    count = len(data)
    while count > 1 and _is_skip(data[count - 1]) and _is_skip(before[count - 1]):
        count -= 1
    return count


def _is_skip(value: Any) -> bool:
    return value is _SKIP or value == _SKIP  # gradio copies it where the page has a root path


def _changes_nothing(predictions: Any, outputs: int) -> bool:
    """Whether a handler skips all outputs, or a stream has ended; gradio would empty them if it never said anything."""
    if predictions is _Keywords.FINISHED_ITERATING:
        return True
    if isinstance(predictions, tuple):
        return bool(predictions) and all(each is _Keywords.FINISHED_ITERATING for each in predictions)
    return bool(predictions == gr.skip()) and outputs > 1


def _is_plain(component: Block, value: Any) -> bool:
    """Whether this is a value of a component, not an update of its properties."""
    if component.stateful or isinstance(value, Block | SimpleNamespace):
        return False
    return not utils.is_prop_update(value) and hasattr(component, "postprocess")


def _make_value(component: Any, value: Any, state: Any) -> Any:
    """A value in the form that the browser gets."""
    current = state[component._id] if state is not None and component._id in state else component
    made = current.postprocess(value)
    return made.model_dump() if isinstance(made, GradioModel | GradioRootModel) else made


def _names_outputs(predictions: Any, outputs: list[Any]) -> bool:
    """Whether these are values by component. A component that is not an output is left for gradio to report."""
    if not isinstance(predictions, dict) or not predictions:
        return False
    return all(isinstance(key, Block) and key in outputs for key in predictions)
