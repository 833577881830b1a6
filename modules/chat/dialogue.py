"""Messages that come from outside, made into a prompt: what an API client calls a chat. Nothing of it is stored.

The messages are rendered with the model's own template, with its tools and its open reply; in the chat modes they
are lines of a dialogue with a character. This module knows nothing of HTTP.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from errors import InvalidInput, PromptTooLong, TooMany, Unsupported, utf8
from loaders import plain_json
from loaders.params import SamplingParams
from modules.chat.characters import Characters, with_names
from modules.chat.conversation import Message
from modules.chat.forced import forced
from modules.chat.forms import THOUGHTS, Line
from modules.chat.hooks import ChatHooks
from modules.chat.prompt import Mode, Stage, build
from modules.chat.script import Script
from modules.extensions import Extensions, HookContext
from modules.families.kept import thought_keys
from modules.families.reading import TAIL, Reading
from modules.families.table import family_of
from modules.generation.generator import Generator
from modules.generation.prompt_text import PromptText
from modules.generation.session import ModelSession
from modules.prompts.templates import Templates

MOST_MESSAGES, MOST_TOOLS = 4096, 128

#: What a template asks the conversation for, and never the client's values.
_OURS = frozenset({"messages", "tools", "add_generation_prompt"})
_NOTHING_BEGUN = "continue_ goes on with the last message, which must be the assistant's."


@dataclass(frozen=True)
class Dialogue:
    """What a client sends. Empty texts stand for the usual ones."""

    messages: Sequence[Mapping[str, Any]]
    mode: Mode = "instruct"
    character: str = ""
    name1: str = ""
    name2: str = ""
    context: str = ""
    greeting: str = ""
    instruction_template: str = ""
    instruction_template_str: str = ""
    chat_template_str: str = ""
    command: str = ""
    continue_: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    template_values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """The prompt, where the reply stops, a grammar that forces a call of a tool, and how the reply is to be read."""

    text: str
    stop: tuple[str, ...] = ()
    grammar: str = ""
    reading: Reading = Reading()  # how the reply is taken apart
    notes: tuple[str, ...] = ()
    context: HookContext | None = None
    session: ModelSession | None = None  # whose template and tokens these are: the reply has to come from there


class Dialogues:
    """Makes prompts of dialogues. May be used from several threads."""

    def __init__(
        self, templates: Templates, characters: Characters, generator: Generator, extensions: Extensions | None = None
    ) -> None:
        self._templates = templates
        self._extensions = extensions or Extensions()
        self._hooks = ChatHooks(self._extensions)
        self._characters = characters
        self._generator = generator

    def open(self, dialogue: Dialogue, params: SamplingParams) -> Opened:
        """Raises: UserError: a message that cannot be understood, a template that fails, a prompt that is too long."""
        if not dialogue.messages:
            raise InvalidInput("messages is empty. Send at least one message.")
        if len(dialogue.messages) > MOST_MESSAGES:
            raise TooMany("messages", MOST_MESSAGES)
        lines = [_line(message, place) for place, message in enumerate(_renewed(dialogue.messages))]
        session = self._generator.session()
        context = self._extensions.begin(
            params, is_chat=True, words=session, mode=dialogue.mode, name1=dialogue.name1 or "You"
        )
        last = next((line for line in reversed(lines) if line["role"] == "user"), None)
        if last:
            last["content"], _ = self._extensions.message(last["content"], html.escape(last["content"]), context)
        if dialogue.mode == "instruct":
            opened = self._instructed(dialogue, lines, session, params)
        else:
            opened = self._played(dialogue, lines, context, session)
        return replace(opened, context=context, session=session)

    # --- instruct ---

    def _instructed(
        self, dialogue: Dialogue, lines: list[Line], session: ModelSession, params: SamplingParams
    ) -> Opened:
        tokenizer = session.model.tokenizer
        tools = _tools(dialogue)
        template = self._template(dialogue, session)
        notes: list[str] = []
        keys = thought_keys(template)
        lines = [_with_thought(line, keys) for line in lines]
        notes += _strangers(dialogue.messages, lines, template)
        values = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, **dialogue.template_values}
        notes += self._unasked(dialogue, template)

        def render(template: str, messages: Sequence[Mapping[str, Any]], *, name: str, **more: Any) -> str:
            # the client has named the values, so they cannot be keywords: one of them may be called `name`
            return self._templates.render_with(template, messages, {**values, **more}, name=name)

        literal = session.literally(params)
        script = Script(render, template, "of the instructions", tools=list(tools) or None, literally=literal)
        begun = ""
        if lines and lines[-1]["role"] == "assistant" and "tool_calls" not in lines[-1]:
            begun = (
                lines.pop()["content"] or ""
            )  # it is gone on with: a second turn of the same side would make no sense
        elif dialogue.continue_:
            raise InvalidInput(_NOTHING_BEGUN)
        text = PromptText.of(script.opened(lines, begun))
        notes += script.notes
        ignored = (tokenizer.bos_token, tokenizer.eos_token, "<s>", "</s>")
        reading = Reading(
            family_of(template),
            text.removesuffix(begun)[-TAIL:],
            begun,
            {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools},
        )
        grammar = forced(dialogue.tool_choice, tools, reading, notes, known="tools" in template)
        return Opened(text, tuple(script.stops(ignored)), grammar, reading, notes=tuple(notes))

    def _unasked(self, dialogue: Dialogue, template: str) -> list[str]:
        """A sentence for each of the client's values that changes nothing."""
        if not dialogue.template_values:
            return []
        asked = self._templates.asks_for(template) - _OURS
        idle = [name for name in dialogue.template_values if name not in asked]
        return [f"{name[:60]} has no effect: the template does not ask for such a value." for name in idle[:20]]

    def _template(self, dialogue: Dialogue, session: ModelSession) -> str:
        if dialogue.instruction_template_str:
            return dialogue.instruction_template_str
        if dialogue.instruction_template:
            return self._templates.load(dialogue.instruction_template)
        return self._templates.detect(session.model)[0]

    # --- chat, chat-instruct ---

    def _played(self, dialogue: Dialogue, lines: list[Line], hooks: HookContext, session: ModelSession) -> Opened:
        params = hooks.params
        if dialogue.tools:
            raise Unsupported("Tools need the mode instruct; the chat modes play a dialogue.")
        tokenizer = session.model.tokenizer
        character = self._characters.load(dialogue.character) if dialogue.character else None
        name1 = dialogue.name1 or (character.your_name if character else "") or "You"
        name2 = dialogue.name2 or (character.name if character else "") or "AI"
        context = dialogue.context or (character.context if character else "")
        greeting = dialogue.greeting or (character.greeting if character else "")
        system = "\n\n".join(line["content"] for line in lines if line["role"] == "system")
        context = "\n\n".join(part for part in (with_names(context, name1, name2), system) if part.strip())
        said = [line for line in lines if line["role"] in ("user", "assistant")]
        if dialogue.continue_ and not (said and said[-1]["role"] == "assistant"):
            raise InvalidInput(_NOTHING_BEGUN)
        notes = _strangers(dialogue.messages, lines, "")
        if any(line["role"] == "tool" or "tool_calls" in line for line in lines):
            notes.append(f"Calls of tools and their results are left out: the mode {dialogue.mode} knows no tools.")
        begun = said.pop()["content"] if said and said[-1]["role"] == "assistant" else ""
        if greeting:
            said.insert(0, {"role": "assistant", "content": with_names(greeting, name1, name2)})
        numbers = itertools.count()
        history = [
            Message(str(next(numbers)), None, "user" if line["role"] == "user" else "assistant", line["content"], 0.0)
            for line in said
        ]
        stage = Stage(
            mode=dialogue.mode,
            instruction_template=self._template(dialogue, session),
            name1=name1,
            name2=name2,
            context=context,
            chat_template=dialogue.chat_template_str,
            command=dialogue.command,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
        )
        room = session.max_prompt(params, min(params.max_new_tokens, session.context(params) // 2))
        if room < 1:
            raise PromptTooLong(1, room)
        prompt = build(
            history,
            stage,
            render=self._templates.render,
            count=lambda text: session.count_prompt(text, params),
            room=room,
            begun=begun,
            lead="" if dialogue.continue_ else self._hooks.lead(name2, hooks),
            literally=session.literally(params),
        )
        return Opened(prompt.text, prompt.stop, notes=(*notes, *prompt.notes))


def _line(message: Mapping[str, Any], place: int) -> Line:
    """One message as templates want it. What they do not know (names, refusals) is left away."""
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool", "function"):
        raise InvalidInput(
            f"messages.{place}.role is one of system, developer, user, assistant, tool (it was {_short(role)})."
        )
    content = _content(message.get("content"), place)
    if content is None and role not in ("assistant", "tool", "function"):
        raise InvalidInput(f"messages.{place}.content is missing. It is a text or a list of parts.")
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    utf8(content or "", f"messages.{place}.content")
    line: dict[str, Any] = {"role": _ROLES.get(role, role), "content": content or ""}
    if role == "assistant" and message.get("tool_calls"):
        line["tool_calls"] = [_past_call(call, place) for call in _list(message["tool_calls"], place)]
    if line["role"] == "tool":
        line.update({key: message[key] for key in ("tool_call_id", "name") if isinstance(message.get(key), str)})
    thought = next((message[key] for key in THOUGHTS if isinstance(message.get(key), str)), "")
    if role == "assistant" and thought:
        utf8(thought, f"messages.{place}.reasoning_content")
        line["thought"] = thought
    return line


def _renewed(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Calls in the form that came before tools: `function_call`, and results by name alone."""
    made: list[Mapping[str, Any]] = []
    last = ""
    for place, message in enumerate(messages):
        old = message.get("function_call")
        more: dict[str, Any] = {}
        if old and message.get("role") == "assistant" and not message.get("tool_calls"):
            last = f"call_{place}"
            more = {"tool_calls": [{"id": last, "type": "function", "function": old}]}
        elif message.get("role") == "function" and last and "tool_call_id" not in message:
            more = {"tool_call_id": last}
        made.append({**message, **more})
    return made


#: Fields of a message that mean something here, or nothing anywhere.
_KNOWN = frozenset(
    ["role", "content", "tool_calls", "tool_call_id", "function_call", "refusal", "annotations", "id", *THOUGHTS]
)


def _strangers(messages: Sequence[Mapping[str, Any]], lines: Sequence[Line], template: str) -> list[str]:
    """Give the template the fields that it asks for, and a sentence for each of the others."""
    idle: dict[str, int] = {}
    asked: dict[str, bool] = {}
    for place, (message, line) in enumerate(zip(messages, lines, strict=True)):
        for key, value in message.items():
            if key in _KNOWN or value in (None, [], "", False) or (key == "name" and line["role"] == "tool"):
                continue
            if key in ("images", "audio", "videos", "files"):
                raise Unsupported(f"messages.{place}: this model reads text only, and the message holds {_short(key)}.")
            if key not in asked:
                asked[key] = re.search(rf"[.'\"]{re.escape(key)}\b", template) is not None
            if asked[key]:
                line[key] = value
            else:
                idle.setdefault(key, place)
    why = "has no effect: the template does not ask for it."
    said = [f"messages.{place}.{key[:60]} {why}" for key, place in itertools.islice(idle.items(), 20)]
    return said


_ROLES = {"developer": "system", "function": "tool"}


_MEDIA = frozenset(
    [
        "image_url",
        "input_image",
        "image",
        "input_audio",
        "audio",
        "audio_url",
        "video",
        "video_url",
        "file",
        "input_file",
    ]
)


def _content(content: Any, place: int) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(f"messages.{place}.content is a text or a list of parts (it was {_short(content)}).")
    texts = []
    for part in _list(content, place):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal":
            texts.append(str(part.get("refusal", "")))
        elif kind in ("text", "input_text", "output_text"):
            raise InvalidInput(f"messages.{place}.content: a part of the type {_short(kind)} has no text.")
        elif kind in _MEDIA:
            raise Unsupported(f"messages.{place}: this model reads text only, and the message holds {_short(kind)}.")
        else:
            raise InvalidInput(f"messages.{place}.content: a part of it has the unknown type {_short(kind)}.")
    return "".join(texts)


def _past_call(call: Any, place: int) -> dict[str, Any]:
    """A call that was made: templates want the arguments as values, clients send them as JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidInput(f"messages.{place}.tool_calls: a call has a function with a name and arguments.")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        utf8(arguments, f"messages.{place}.tool_calls")
        try:
            arguments = plain_json.loads(arguments)
        except ValueError:  # a model wrote it so, and the conversation goes on all the same
            arguments = str(arguments)
    return {
        "id": call.get("id", ""),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _tools(dialogue: Dialogue) -> list[Mapping[str, Any]]:
    if dialogue.tool_choice == "none":
        return []
    if len(dialogue.tools) > MOST_TOOLS:
        raise TooMany("tools", MOST_TOOLS)
    for place, tool in enumerate(dialogue.tools):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidInput(f"tools.{place} needs a function with a name.")
        if not isinstance(function.get("parameters") or {}, Mapping):
            raise InvalidInput(f"tools.{place}.function.parameters is a JSON schema, an object.")
    return list(dialogue.tools)


def _with_thought(line: Line, keys: Sequence[str]) -> Line:
    """A line with what was thought, by the names that the template asks for."""
    if "thought" not in line:
        return line
    thought = line.pop("thought")
    return {**line, **dict.fromkeys(keys, thought)}


def _list(value: Any, place: int) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"messages.{place}: {_short(value)} stands where a list is wanted.")
    return value


def _short(value: Any) -> str:
    return ascii(value)[:60]
