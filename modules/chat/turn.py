"""What a page says about the reply that it asks for, and what of it becomes a part of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from loaders.base import Model
from loaders.params import SamplingParams
from modules.chat.characters import Characters, with_names
from modules.chat.prompt import Mode, Prompt, Stage
from modules.chat.records import Record
from modules.prompts.templates import Templates


@dataclass(frozen=True)
class Turn:
    """How a reply is to be made. `revision` is the one that the page shows; None does not ask for a match.

    Empty templates and an empty command stand for the usual ones: the instruction template is then the one that fits.
    `thinking` and `effort` reach templates that know them.
    """

    mode: Mode = "instruct"
    character: str = "Assistant"
    params: SamplingParams = SamplingParams()
    name1: str = "You"
    start_with: str = ""
    custom_system_message: str = ""
    revision: int | None = None
    instruction_template: str = ""
    chat_template: str = ""
    command: str = ""
    thinking: bool = True
    effort: str = ""

    def record(self, prompt: Prompt) -> Record:
        """What is kept of how a reply was asked for."""
        return Record(
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

    def stage(self, model: Model, templates: Templates, characters: Characters) -> Stage:
        """What stands around the history. Raises: UnknownName, InvalidName, BadFile."""
        character = characters.load(self.character) if self.mode != "instruct" else None
        name2 = character.name if character else "AI"
        own = (self.instruction_template, "your own, from the Parameters tab")
        template, why = own if self.instruction_template else templates.detect(model)
        wanted = {"enable_thinking": self.thinking, "reasoning_effort": self.effort or None}
        return Stage(
            mode=self.mode,
            instruction_template=template,
            why=why if self.mode != "chat" else "",
            name1=self.name1,
            name2=name2,
            system=self.custom_system_message,
            context=with_names(character.context, self.name1, name2) if character else "",
            after=with_names(character.after, self.name1, name2) if character else "",
            chat_template=self.chat_template,
            command=self.command,
            bos_token=model.tokenizer.bos_token,
            eos_token=model.tokenizer.eos_token,
            values={name: wanted[name] for name in templates.switches(template) if wanted[name] is not None},
        )
