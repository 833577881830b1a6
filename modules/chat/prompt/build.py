"""Builds the prompt for a branch of a conversation: template, names, and as much history as fits.

History is removed from its oldest end, in whole messages, and in steps, so that many prompts in a row begin alike; the
system message, the character's context and the message to answer are never removed. Each message is tokenized once for
counting. This module knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from errors import PromptTooLong
from loaders.base import Model
from modules.chat.conversation import Message, Role
from modules.chat.formats.attached import full_text, unseen_pictures
from modules.chat.prompt.parts import Kind, PromptPart, mark_text, split_prompt
from modules.families.reply_format import TAIL, ReplyFormat
from modules.families.saved_calls import to_template_messages
from modules.families.saved_reply import continue_reply, split_reply, to_template_message
from modules.families.table import GENERAL, family_of
from modules.generation.prompt_text import PromptText
from modules.prompts.message_forms import TemplateMessage
from modules.prompts.template_renderer import RenderTemplate, TemplateRenderer

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

#: The default command of chat-instruct mode; both placeholders are filled in.
COMMAND = (
    'Continue the chat dialogue below. Write a single reply for the character "<|character|>". '
    "Answer as that character would, and write nothing for anybody else.\n\n<|prompt|>"
)


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt that fits, and its stop strings. `dropped`: how many of the oldest messages were left out.

    `room`: the tokens that it may have; `parts`: which characters belong to whose text.
    """

    text: str
    stop: tuple[str, ...]
    tokens: int
    dropped: int
    notes: tuple[str, ...] = ()
    room: int = 0
    parts: tuple[PromptPart, ...] = ()
    why: str = ""  # where the instruction template comes from
    others: tuple[str, ...] = ()  # names with which the answer must not begin
    reading: ReplyFormat = ReplyFormat()  # how the reply is parsed

    def keeps(self, token: str) -> bool:
        """Whether a control token with this text stays in the reply, because it is a mark for the parser."""
        return self.reading.family.keeps(token)


@dataclass(frozen=True)
class PromptContext:
    """Everything in a prompt that is not history. Names are already inserted in `context`.

    `system` is the instruction template's system message; `context` the character's, for the chat modes, `user_bio`
    what the user says about themselves there, and `after` the text that the character wants after the history. `why`:
    where the instruction template comes from.
    """

    mode: Mode
    instruction_template: str
    name1: str = "You"
    name2: str = "AI"
    system: str = ""
    context: str = ""
    user_bio: str = ""
    after: str = ""
    chat_template: str = ""
    command: str = ""
    bos_token: str = ""
    eos_token: str = ""
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # further variables of the instruction template


def build_prompt(
    history: Sequence[Message],
    stage: PromptContext,
    *,
    render: RenderTemplate,
    count: Callable[[str], int],
    room: int,
    keep: float = 1.0,
    begun: str = "",
    role: Role = "assistant",
    lead: str = "",
    literally: Callable[[Any], Any] = lambda value: value,
    larger_context: str = Model.larger_context,
) -> ChatPrompt:
    """The prompt after which `role` continues with the `begun` part of its message (which is not in the history).

    `lead` comes before it and is not part of the message: only the model reads it. `count` returns a text's number of
    tokens as a prompt, `room` is the maximum; if it is exceeded, about `keep` times as much is used. `literally`: see
    `ModelSession.literally`; `larger_context`: see `Model`. Raises: PromptTooLong if not even the last message fits;
    TemplateFailed.
    """
    writer = _Writer(stage, render, f"{lead} {begun}".strip() if lead else begun, role, literally)
    template = stage.instruction_template if stage.mode == "instruct" else ""
    as_kept = to_template_messages if stage.mode == "instruct" else lambda *said: [to_template_message(*said)]
    lines: list[TemplateMessage] = [
        line for message in history for line in as_kept(message.role, full_text(message).strip(), template)
    ]
    lines = [line for line in lines if line["content"] or line.get("tool_calls")]
    start, text, tokens = _fit(lines, writer, count, room, keep, larger_context)
    notes = writer.notes()
    if start:
        many = "message was" if start == 1 else "messages were"
        notes = (
            *notes,
            f"{start} older {many} left out: the prompt may use at most {room:,} tokens of the context.{_why(keep)}",
        )
    if pictures := unseen_pictures(history):
        many = "picture is" if pictures == 1 else "pictures are"
        notes = (*notes, f"{pictures} attached {many} not passed to the model: it reads text only.")
    return ChatPrompt(
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

    def __init__(
        self, stage: PromptContext, render: RenderTemplate, begun: str, role: Role, literally: Callable[[Any], Any]
    ) -> None:
        values = {
            "name1": stage.name1,
            "name2": stage.name2,
            "bos_token": stage.bos_token,
            "eos_token": stage.eos_token,
        }
        self._render, self._literally = render, literally
        self._stage, self._begun, self._role = stage, begun, role
        self._written = begun  # as in the prompt
        self._family = GENERAL if stage.mode == "chat" else family_of(stage.instruction_template)
        self._instruction = TemplateRenderer(
            render,
            stage.instruction_template,
            "of instruct mode",
            {**stage.values, **values},
            literally=literally,
        )
        template = stage.chat_template or CHAT_TEMPLATE
        # a template that has its own place for it, which is in each system message
        self._placed = bool(stage.user_bio.strip()) and "user_bio" in template and not stage.after.strip()
        values["user_bio"] = literally(stage.user_bio.strip()) if self._placed else ""
        self._chat = TemplateRenderer(render, template, "of chat mode", values, literally=literally)

    def text(self, lines: Sequence[TemplateMessage]) -> PromptText:
        return PromptText.of(self._text(lines))

    def _text(self, lines: Sequence[TemplateMessage]) -> str:
        stage = self._stage
        if stage.mode == "instruct":
            said = [*_system(stage.system), *lines]
            if self._role == "assistant" and split_reply(self._begun).length:  # in the family's own marks
                before = self._instruction.opened(said, "", role=self._role)
                self._written = continue_reply(self._begun, ReplyFormat(self._family, before[-TAIL:]))
                return before + self._written
            return self._instruction.opened(said, self._begun, role=self._role)
        dialogue = [*self._introduction(), *lines, *_system(stage.after)]
        if stage.mode == "chat":
            return self._chat.opened(dialogue, self._begun, role=self._role)
        return self._commanded(self._chat.text(dialogue))

    def _introduction(self) -> list[TemplateMessage]:
        """The character's context, and what the user says about themselves."""
        context, bio = self._stage.context.strip(), self._stage.user_bio.strip()
        if self._placed:
            return [{"role": "system", "content": context}]
        return _system("\n\n".join(part for part in (context, bio) if part))

    def parts(self, text: str, lines: Sequence[TemplateMessage]) -> tuple[PromptPart, ...]:
        """Whose text is where in `text`, which was built from these lines."""
        stage = self._stage
        texts = (stage.system, stage.context, stage.user_bio, stage.after)
        system, context, bio, after = (each.strip() for each in texts)
        same = replace(
            stage,
            system=system and mark_text("system", system),
            context=context and mark_text("system", context),
            user_bio=bio and mark_text("system", bio),
            after=after and mark_text("system", after),
        )
        said: list[tuple[Kind, str]] = [("system", system), ("system", context), ("system", bio)]
        said += [(_KINDS[line["role"]], line["content"]) for line in lines]
        said.append(("system", after))

        def again() -> str:
            told = [{**line, "content": mark_text(_KINDS[line["role"]], line["content"])} for line in lines]
            return _Writer(same, self._render, self._begun, self._role, self._literally).text(told)

        return split_prompt(text, said, self._written, again)

    def reading(self, text: str) -> ReplyFormat:
        """How the model's output after this prompt is parsed."""
        if self._role != "assistant":
            return ReplyFormat()
        begun = self._written if text.endswith(self._written) else ""
        return ReplyFormat(self._family, text[: len(text) - len(begun)][-TAIL:], begun)

    def stops(self) -> list[str]:
        stage = self._stage
        ignored = (stage.bos_token, stage.eos_token, "<s>", "</s>")  # the end token ends a reply anyway
        found: list[str] = []
        if stage.mode != "instruct":
            found += [f"\n{name}:" for name in (stage.name1, stage.name2) if name.strip()]
            found += self._chat.stops(ignored)
        if stage.mode != "chat":
            found += self._instruction.stops(ignored)
        return list(dict.fromkeys(found))

    def notes(self) -> tuple[str, ...]:
        """Notes on how the messages were adapted for the template."""
        used = {"chat": (self._chat,), "instruct": (self._instruction,)}.get(
            self._stage.mode, (self._chat, self._instruction)
        )
        return tuple(dict.fromkeys(note for script in used for note in script.notes))

    def others(self) -> tuple[str, ...]:
        """The other speakers of a dialogue."""
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


def _system(text: str) -> list[TemplateMessage]:
    return [{"role": "system", "content": text.strip()}] if text.strip() else []


def _why(keep: float) -> str:
    """The second sentence of the note about what was left out."""
    if keep >= 1:
        return ""
    return f" It was cut to about {round(100 * keep)} % of that, so that the next prompts begin alike and are reused."


def _fit(
    lines: list[TemplateMessage], writer: _Writer, count: Callable[[str], int], room: int, keep: float, more: str
) -> tuple[int, str, int]:
    """The first line that is used, the prompt from there on, and its number of tokens."""
    last = max(0, len(lines) - 1)
    text = writer.text(lines[last:])
    tokens = count(text)
    if tokens > room:
        raise PromptTooLong(tokens, room, more=more)
    costs = _costs(lines[:last], writer, count, room - tokens)  # newest first
    kept = len(costs) if sum(costs) <= room - tokens else len(costs) - 1
    # tokens can span messages, so the sum is only an estimate: the prompt itself is counted
    while kept:
        start = last - kept
        if start and keep < 1:
            start = _next_step(lines[:last], start, round((1 - keep) * room), count)
        longer = writer.text(lines[start:])
        needed = count(longer)
        if needed <= room:
            return start, longer, needed
        excess = needed - room
        while kept and excess > 0:
            kept -= 1
            excess -= costs[kept]
    return last, text, tokens


def _next_step(lines: Sequence[TemplateMessage], first: int, step: int, count: Callable[[str], int]) -> int:
    """The first line at or after `first` at which another `step` tokens of the whole history are over; `first` if there
    is none.

    Nothing about earlier prompts is known here. Steps are counted from the beginning of the history, in bytes, of which
    the oldest lines tell how many a token has: so they stay where they are while the history grows.
    """
    oldest = "".join(line["content"] for line in lines)[:_SAMPLE]
    size = max(1.0, step * len(oldest.encode()) / max(1, count(oldest) - count("")))
    before = steps = 0
    for at, line in enumerate(lines):
        if at >= first and int(before / size) > steps:
            return at
        steps = int(before / size)
        before += len(line["content"].encode()) + _AROUND
    return first


#: Characters of the oldest lines that are tokenized to estimate the size of a step, and what a template adds to a line.
_SAMPLE, _AROUND = 4000, 20


def _costs(lines: list[TemplateMessage], writer: _Writer, count: Callable[[str], int], left: int) -> list[int]:
    """The tokens of each line from the last backwards, with the template's part, until `left` is used up."""
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
    """The tokens that the template adds to a message: half of what it adds to two."""
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}
    more = count(writer.text([user, assistant, user])) - count(writer.text([user]))
    return max(0, more // 2 - (count("a") - count("")))
