"""The settings with which a page requests a reply, and the parts of them that go into the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from loaders.banned.entries import join_banned_strings
from loaders.base import Model
from loaders.params import SamplingParams
from modules.chat.characters import Characters, insert_names
from modules.chat.conversation import Conversation
from modules.chat.prompt.build import ChatPrompt, Mode, PromptContext
from modules.chat.prompt_knobs import PromptKnobs
from modules.chat.store.prompt_log import PromptRecord
from modules.config.thinking_knobs import SWITCHES
from modules.prompts.templates import Templates


@dataclass(frozen=True)
class ReplySettings:
    """How to generate a reply. `revision` is the one that the page shows; None skips the check.

    Those of PromptKnobs are declared there; `own`: the names of those that the chat sets itself. `context` replaces the
    character's; `notes` are shown with a reply.
    """

    mode: Mode = "instruct"
    character: str = "Assistant"
    params: SamplingParams = SamplingParams()
    name1: str = "You"
    user_bio: str = ""
    start_with: str = ""
    custom_system_message: str = ""
    revision: int | None = None
    instruction_template: str = ""
    chat_template: str = ""
    command: str = ""
    thinking: bool = True
    effort: str = ""
    context: str = ""
    notes: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def record(self, prompt: ChatPrompt) -> PromptRecord:
        """The settings to save with a reply."""
        return PromptRecord(
            prompt.text,
            prompt.parts,
            tokens=prompt.tokens,
            room=prompt.room,
            left_out=prompt.dropped,
            stop=prompt.stop,
            mode=self.mode,
            character=self.character if self.mode != "instruct" else "",
            template=prompt.why,
            params=self.params.differing(),
            notes=prompt.notes,
        )

    def ban(self, params: SamplingParams, conversation: Conversation, characters: Characters) -> SamplingParams:
        """The parameters, with the strings that this chat and its character exclude. Raises: UserError."""
        character = characters.load(self.character).banned_strings if self.mode != "instruct" else ""
        lists = (params.banned_strings, character, conversation.banned_strings)
        return params.changed(banned_strings=join_banned_strings(lists)) if any(lists[1:]) else params

    def stage(self, model: Model, templates: Templates, characters: Characters) -> PromptContext:
        """Everything around the history. Raises: UnknownName, InvalidName, BadFile."""
        character = characters.load(self.character) if self.mode != "instruct" else None
        name2 = character.name if character else "AI"
        place = "kept with this chat" if "instruction_template" in self.own else "custom, from the Parameters tab"
        own = (self.instruction_template, place)
        template, why = own if self.instruction_template else templates.detect(model)
        wanted = {variable: getattr(self, name) for name, variable in SWITCHES.items()}
        return PromptContext(
            mode=self.mode,
            instruction_template=template,
            why=why if self.mode != "chat" else "",
            name1=self.name1,
            name2=name2,
            system=self.custom_system_message,
            context=insert_names(self.context or character.context, self.name1, name2) if character else "",
            user_bio=insert_names(self.user_bio, self.name1, name2) if character else "",
            after=insert_names(character.after, self.name1, name2) if character else "",
            chat_template=self.chat_template,
            command=self.command,
            bos_token=model.tokenizer.bos_token,
            eos_token=model.tokenizer.eos_token,
            values={name: wanted[name] for name in templates.switches(template) if wanted[name] != ""},
        )

    def without_effect(self, stage: PromptContext) -> tuple[str, ...]:
        """A sentence about each switch that the chat sets and that changes nothing in this prompt."""
        notes = []
        for name, variable in SWITCHES.items():
            knob = PromptKnobs.knobs()[name]
            if name not in self.own or getattr(self, name) == knob.default:
                continue
            if stage.mode == "chat":
                notes.append(f'"{knob.label}" of this chat has no effect: chat mode uses no instruction template.')
            elif variable not in stage.values:
                notes.append(f'"{knob.label}" of this chat has no effect: the instruction template has no {variable}.')
        return tuple(notes)
