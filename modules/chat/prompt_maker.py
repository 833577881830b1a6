"""Makes the prompt of a reply from its settings and messages, with what extensions change in it. It must not know how
conversations are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from modules.chat.characters import Characters
from modules.chat.conversation import Message, Role
from modules.chat.hooks import ChatHooks
from modules.chat.prompt.build import ChatPrompt, build_prompt
from modules.chat.reply_settings import ReplySettings
from modules.extensions import HookContext
from modules.generation.session import ModelSession
from modules.prompts.templates import Templates


class PromptMaker:
    """May be used from several threads."""

    def __init__(self, templates: Templates, characters: Characters, hooks: ChatHooks) -> None:
        self._templates = templates
        self._characters = characters
        self._hooks = hooks

    def make(
        self,
        session: ModelSession,
        history: Sequence[Message],
        turn: ReplySettings,
        begun: str,
        role: Role = "assistant",
        context: HookContext | None = None,
        **how: bool,
    ) -> ChatPrompt:
        """The prompt after which `role` continues with the `begun` part of its message. Without a `context`, extensions
        are not called, because nothing will be sent. `how` is passed to them. Raises: UserError.
        """
        count = partial(session.count_prompt, params=turn.params)
        stage = turn.stage(session.model, self._templates, self._characters)
        path = self._hooks.history(history, context)
        spoken = role == "assistant" and turn.mode != "instruct" and not how.get("_continue")
        prompt = build_prompt(
            path,
            stage,
            render=self._templates.render,
            count=count,
            room=session.max_prompt(turn.params),
            keep=turn.params.truncation_keep,
            begun=begun,
            role=role,
            lead=self._hooks.lead(stage.name2, context) if spoken else "",
            literally=session.literally(turn.params),
            larger_context=session.model.larger_context,
        )
        prompt = replace(prompt, notes=(*prompt.notes, *turn.without_effect(stage)))
        return self._hooks.prompt(prompt, path, context, count, **how)
