"""From a branch of a conversation to the text that the model gets: template, names, and as much history as fits.

History is cut from its oldest end, by whole messages; the system message or the character's context never is, nor
is the message that is to be answered. Each message is counted once. This module knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from errors import PromptTooLong
from modules.chat.conversation import Message, Role
from modules.chat.forms import Line
from modules.chat.prompt_parts import Kind, Part, marked, parts_of
from modules.chat.script import Renderer, Script
from modules.families.kept import as_line, continued, split
from modules.families.kept_calls import as_lines
from modules.families.reading import TAIL, Reading
from modules.families.table import GENERAL, family_of
from modules.generation.prompt_text import PromptText

Mode = Literal["instruct", "chat", "chat-instruct"]
_KINDS: Mapping[str, Kind] = {"user": "user", "assistant": "assistant", "system": "system", "tool": "user"}

#: Plain dialogue: a context, then lines that begin with the speaker's name.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {{- message['content'] + '\\n\\n' if message['content'] -}}
    {%- else -%}
        {{- (name1 if message['role'] == 'user' else name2) + ': ' + message['content'] + '\\n' -}}
    {%- endif -%}
{%- endfor -%}"""

#: What chat-instruct mode says to the model; both marks are filled in.
COMMAND = (
    'Continue the chat dialogue below. Write a single reply for the character "<|character|>". '
    "Answer as that character would, and write nothing for anybody else.\n\n<|prompt|>"
)


@dataclass(frozen=True)
class Prompt:
    """A prompt that fits, and where the reply has to stop. `dropped`: how many of the oldest messages are not in it.

    `room`: the tokens that it may have; `parts`: which of its characters are whose words.
    """

    text: str
    stop: tuple[str, ...]
    tokens: int
    dropped: int
    notes: tuple[str, ...] = ()
    room: int = 0
    parts: tuple[Part, ...] = ()
    why: str = ""  # where the instruction template came from
    others: tuple[str, ...] = ()  # whose name the answer must not begin with
    reading: Reading = Reading()  # how the reply is taken apart

    def keeps(self, token: str) -> bool:
        """Whether a control token of this text stays in the reply, to be read as a mark."""
        return self.reading.family.keeps(token)


@dataclass(frozen=True)
class Stage:
    """All of a prompt that is not history. Names have been put into `context` already.

    `system` is the instruction template's system message; `context` is the character's, of the chat modes, and `after`
    what it wants said after the history. `why`: where the instruction template came from.
    """

    mode: Mode
    instruction_template: str
    name1: str = "You"
    name2: str = "AI"
    system: str = ""
    context: str = ""
    after: str = ""
    chat_template: str = ""
    command: str = ""
    bos_token: str = ""
    eos_token: str = ""
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # further ones that the instruction template knows


def build(
    history: Sequence[Message],
    stage: Stage,
    *,
    render: Renderer,
    count: Callable[[str], int],
    room: int,
    begun: str = "",
    role: Role = "assistant",
    lead: str = "",
    literally: Callable[[Any], Any] = lambda value: value,
) -> Prompt:
    """The prompt after which `role` goes on with what is `begun` of its message (which is not in the history).

    `lead` stands before it and is no part of the message: the model only reads it.
    `count` tells a text's tokens as a prompt, `room` how many may be used. `literally`: see `ModelSession.literally`.
    Raises: PromptTooLong, when not even the last message fits; TemplateFailed.
    """
    writer = _Writer(stage, render, f"{lead} {begun}".strip() if lead else begun, role, literally)
    template = stage.instruction_template if stage.mode == "instruct" else ""
    as_kept = as_lines if stage.mode == "instruct" else lambda *said: [as_line(*said)]
    lines: list[Line] = [line for message in history for line in as_kept(message.role, message.text.strip(), template)]
    lines = [line for line in lines if line["content"] or line.get("tool_calls")]
    start, text, tokens = _fit(lines, writer, count, room)
    notes = writer.notes()
    if start:
        many = "message is" if start == 1 else "messages are"
        notes = (
            *notes,
            f"{start} older {many} left out: the context has no room for more than {room:,} tokens of prompt.",
        )
    return Prompt(
        text,
        tuple(writer.stops()),
        tokens,
        start,
        notes,
        room,
        writer.parts(text, lines[start:]),
        stage.why,
        () if begun else writer.others(),
        writer.reading(text),
    )


class _Writer:
    """Writes the prompt for any part of the history."""

    def __init__(self, stage: Stage, render: Renderer, begun: str, role: Role, literally: Callable[[Any], Any]) -> None:
        values = {
            "name1": stage.name1,
            "name2": stage.name2,
            "bos_token": stage.bos_token,
            "eos_token": stage.eos_token,
        }
        self._render, self._literally = render, literally
        self._stage, self._begun, self._role = stage, begun, role
        self._written = begun  # as it stands in the prompt
        self._family = GENERAL if stage.mode == "chat" else family_of(stage.instruction_template)
        self._instruction = Script(
            render,
            stage.instruction_template,
            "of the instructions",
            {**stage.values, **values},
            literally=literally,
        )
        self._chat = Script(render, stage.chat_template or CHAT_TEMPLATE, "of chat mode", values, literally=literally)

    def text(self, lines: Sequence[Line]) -> PromptText:
        return PromptText.of(self._text(lines))

    def _text(self, lines: Sequence[Line]) -> str:
        stage = self._stage
        if stage.mode == "instruct":
            said = [*_system(stage.system), *lines]
            if self._role == "assistant" and split(self._begun).length:  # in the family's own marks
                before = self._instruction.opened(said, "", role=self._role)
                self._written = continued(self._begun, Reading(self._family, before[-TAIL:]))
                return before + self._written
            return self._instruction.opened(said, self._begun, role=self._role)
        dialogue = [*_system(stage.context), *lines, *_system(stage.after)]
        if stage.mode == "chat":
            return self._chat.opened(dialogue, self._begun, role=self._role)
        return self._commanded(self._chat.text(dialogue))

    def parts(self, text: str, lines: Sequence[Line]) -> tuple[Part, ...]:
        """Whose words stand where in `text`, which was made of these lines."""
        stage = self._stage
        system, context, after = (each.strip() for each in (stage.system, stage.context, stage.after))
        same = replace(
            stage,
            system=system and marked("system", system),
            context=context and marked("system", context),
            after=after and marked("system", after),
        )
        said: list[tuple[Kind, str]] = [("system", system), ("system", context)]
        said += [(_KINDS[line["role"]], line["content"]) for line in lines]
        said.append(("system", after))

        def again() -> str:
            told = [{**line, "content": marked(_KINDS[line["role"]], line["content"])} for line in lines]
            return _Writer(same, self._render, self._begun, self._role, self._literally).text(told)

        return parts_of(text, said, self._written, again)

    def reading(self, text: str) -> Reading:
        """How what the model writes after this prompt is taken apart."""
        if self._role != "assistant":
            return Reading()
        begun = self._written if text.endswith(self._written) else ""
        return Reading(self._family, text[: len(text) - len(begun)][-TAIL:], begun)

    def stops(self) -> list[str]:
        stage = self._stage
        ignored = (stage.bos_token, stage.eos_token, "<s>", "</s>")  # the end token ends a reply by itself
        found: list[str] = []
        if stage.mode != "instruct":
            found += [f"\n{name}:" for name in (stage.name1, stage.name2) if name.strip()]
            found += self._chat.stops(ignored)
        if stage.mode != "chat":
            found += self._instruction.stops(ignored)
        return list(dict.fromkeys(found))

    def notes(self) -> tuple[str, ...]:
        """In which form the template got the messages."""
        used = {"chat": (self._chat,), "instruct": (self._instruction,)}.get(
            self._stage.mode, (self._chat, self._instruction)
        )
        return tuple(dict.fromkeys(note for script in used for note in script.notes))

    def others(self) -> tuple[str, ...]:
        """Who else speaks in a dialogue."""
        stage = self._stage
        speaker, other = (stage.name2, stage.name1) if self._role == "assistant" else (stage.name1, stage.name2)
        alone = stage.mode == "instruct" or not other.strip() or other == speaker
        return () if alone else (other,)

    def _commanded(self, dialogue: str) -> str:
        """The whole dialogue as one instruction; the answer begins with the speaker's name."""
        stage = self._stage
        for mark in ("<s>", "<|startoftext|>"):
            dialogue = dialogue.removeprefix(mark)
        speaker = stage.name2 if self._role == "assistant" else stage.name1
        command = (stage.command.strip() or COMMAND).replace("<|character|>", speaker)
        command = command.replace("<|prompt|>", dialogue.rstrip())
        name = self._chat.opened([], role=self._role).lstrip()
        begun = f"{name} {self._begun}" if self._begun else name
        return self._instruction.opened([*_system(stage.system), {"role": "user", "content": command}], begun)


def _system(text: str) -> list[Line]:
    return [{"role": "system", "content": text.strip()}] if text.strip() else []


def _fit(lines: list[Line], writer: _Writer, count: Callable[[str], int], room: int) -> tuple[int, str, int]:
    """The first line that is used, the prompt from there on, and its tokens."""
    last = max(0, len(lines) - 1)
    text = writer.text(lines[last:])
    tokens = count(text)
    if tokens > room:
        raise PromptTooLong(tokens, room)
    costs = _costs(lines[:last], writer, count, room - tokens)  # newest first
    kept = len(costs) if sum(costs) <= room - tokens else len(costs) - 1
    # tokens join across messages, so the sum is a good guess and no more: the prompt itself is counted
    while kept:
        longer = writer.text(lines[last - kept :])
        needed = count(longer)
        if needed <= room:
            return last - kept, longer, needed
        excess = needed - room
        while kept and excess > 0:
            kept -= 1
            excess -= costs[kept]
    return last, text, tokens


def _costs(lines: list[Line], writer: _Writer, count: Callable[[str], int], left: int) -> list[int]:
    """The tokens of each line from the last backwards, with what a template puts around it, until `left` is used up."""
    costs: list[int] = []
    if not lines:
        return costs
    nothing = count("")
    around = _around(writer, count)
    for line in reversed(lines):
        costs.append(count(line["content"]) - nothing + around)
        left -= costs[-1]
        if left < 0:
            break
    return costs


def _around(writer: _Writer, count: Callable[[str], int]) -> int:
    """The tokens that the template adds to a message; half of what it adds to two."""
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}
    more = count(writer.text([user, assistant, user])) - count(writer.text([user]))
    return max(0, more // 2 - (count("a") - count("")))
