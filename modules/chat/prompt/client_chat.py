"""Builds prompts from the messages of API clients. Nothing is stored.

The messages are rendered with the model's own template, with tools and the beginning of a reply; in the chat modes they
are lines of a dialogue with a character. This module knows nothing of HTTP.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from errors import InvalidInput, PromptTooLong, TooMany, Unsupported, encode_utf8
from loaders import safe_json
from loaders.banned.entries import join_banned_strings
from loaders.params import SamplingParams
from modules.chat.characters import Characters, insert_names
from modules.chat.conversation import Message
from modules.chat.hooks import ChatHooks
from modules.chat.prompt.build import PromptContext, build_prompt
from modules.chat.prompt.chat_fields import ClientChat
from modules.chat.prompt.tool_grammar import tool_call_grammar
from modules.extensions import HookContext
from modules.families.reply_format import TAIL, ReplyFormat
from modules.families.saved_reply import continue_reply, join_reply, thought_keys
from modules.families.table import family_of
from modules.generation.completions import GenerationRequest
from modules.generation.generator import Generator
from modules.generation.prompt_text import PromptText
from modules.generation.session import ModelSession
from modules.prompts.message_forms import THOUGHTS, TemplateMessage
from modules.prompts.template_renderer import TemplateRenderer
from modules.prompts.templates import Templates

MOST_MESSAGES, MOST_TOOLS = 4096, 128

#: What templates get from the conversation, and never from the client's values.
_OURS = frozenset({"messages", "tools", "add_generation_prompt"})
_NOTHING_BEGUN = "continue_ requires the last message to be the assistant's."


class ChatPromptBuilder:
    """Builds prompts for clients' chats. May be used from several threads."""

    def __init__(self, templates: Templates, characters: Characters, generator: Generator) -> None:
        self._templates = templates
        self._extensions = generator.extensions
        self._hooks = ChatHooks(self._extensions)
        self._characters = characters
        self._generator = generator

    def open(self, dialogue: ClientChat, params: SamplingParams) -> GenerationRequest:
        """The prompt, its stop strings, how the reply is parsed, and the model for which all this was built.

        Raises: UserError: an invalid message, a template that fails, a prompt that is too long.
        """
        if not dialogue.messages:
            raise InvalidInput("messages is empty. Send at least one message.")
        if len(dialogue.messages) > MOST_MESSAGES:
            raise TooMany("messages", MOST_MESSAGES)
        lines = [_line(message, place) for place, message in enumerate(_renewed(dialogue.messages))]
        session = self._generator.session(dialogue.model)
        context = self._extensions.begin(
            params, is_chat=True, words=session, mode=dialogue.mode, name1=dialogue.your_name or "You",
            user_bio=dialogue.user_bio,
        )  # fmt: skip
        last = next((line for line in reversed(lines) if line["role"] == "user"), None)
        if last:
            last["content"], _ = self._extensions.message(last["content"], html.escape(last["content"]), context)
        if dialogue.mode == "instruct":
            opened = self._instructed(dialogue, lines, session, params)
        else:
            opened = self._played(dialogue, lines, context, session)
            banned = self._characters.load(dialogue.character).banned_strings if dialogue.character else ""
            if banned:
                lists = [context.params.banned_strings, banned]
                context = replace(context, params=context.params.changed(banned_strings=join_banned_strings(lists)))
        return replace(opened, params=context.params, context=context, session=session)

    # --- instruct ---

    def _instructed(
        self, dialogue: ClientChat, lines: list[TemplateMessage], session: ModelSession, params: SamplingParams
    ) -> GenerationRequest:
        tokenizer = session.model.tokenizer
        tools = _tools(dialogue)
        template = self._template(dialogue, session)
        notes: list[str] = []
        keys = thought_keys(template)
        thought = str(lines[-1].get("thought", ""))
        lines = [_with_thought(line, keys) for line in lines]
        notes += _strangers(dialogue.messages, lines, template)
        values = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, **dialogue.template_values()}
        notes += self._unasked(dialogue, template)

        def render(template: str, messages: Sequence[Mapping[str, Any]], *, name: str, **more: Any) -> str:
            # the client chose the names, so they cannot be keyword arguments: one of them may be `name`
            return self._templates.render_with(template, messages, {**values, **more}, name=name)

        literal = session.literally(params)
        script = TemplateRenderer(render, template, "of instruct mode", tools=list(tools) or None, literally=literal)
        begun = ""
        went_on = bool(lines) and lines[-1]["role"] == "assistant" and "tool_calls" not in lines[-1]
        if went_on:
            begun = (
                lines.pop()["content"] or ""
            )  # the message is continued: a second turn of the same side would make no sense
        elif dialogue.continues:
            raise InvalidInput(_NOTHING_BEGUN)
        family = family_of(template)
        if thought and (keys or family.own_thought.opening in template) and went_on:
            before = PromptText.of(script.opened(lines, ""))
            begun = continue_reply(join_reply(thought, begun), ReplyFormat(family, before[-TAIL:]))
        text = PromptText.of(script.opened(lines, begun))
        notes += script.notes
        ignored = (tokenizer.bos_token, tokenizer.eos_token, "<s>", "</s>")
        reading = ReplyFormat(
            family,
            text.removesuffix(begun)[-TAIL:],
            begun,
            {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools},
        )
        grammar = tool_call_grammar(dialogue.tool_choice, tools, reading, notes, template)
        stops = tuple(script.stops(ignored))
        return GenerationRequest([text], stop=stops, tool_grammar=grammar, reading=reading, notes=notes)

    def _unasked(self, dialogue: ClientChat, template: str) -> list[str]:
        """A sentence for each of the client's values that has no effect."""
        if not (values := dialogue.template_values()):
            return []
        asked = self._templates.asks_for(template) - _OURS
        idle = [name for name in values if name not in asked]
        return [f"{name[:60]} has no effect: the template does not use it." for name in idle[:20]]

    def _template(self, dialogue: ClientChat, session: ModelSession) -> str:
        if dialogue.instruction_template_str:
            return dialogue.instruction_template_str
        if dialogue.instruction_template:
            return self._templates.load(dialogue.instruction_template)
        return self._templates.detect(session.model)[0]

    # --- chat, chat-instruct ---

    def _played(
        self, dialogue: ClientChat, lines: list[TemplateMessage], hooks: HookContext, session: ModelSession
    ) -> GenerationRequest:
        params = hooks.params
        if dialogue.tools:
            raise Unsupported("Tools require the mode instruct; the chat modes do not support them.")
        tokenizer = session.model.tokenizer
        character = self._characters.load(dialogue.character) if dialogue.character else None
        name1 = dialogue.your_name or (character.your_name if character else "") or "You"
        name2 = dialogue.bots_name or (character.name if character else "") or "AI"
        context = dialogue.context or (character.context if character else "")
        greeting = dialogue.greeting or (character.greeting if character else "")
        system = "\n\n".join(line["content"] for line in lines if line["role"] == "system")
        context = "\n\n".join(part for part in (insert_names(context, name1, name2), system) if part.strip())
        said = [line for line in lines if line["role"] in ("user", "assistant")]
        if dialogue.continues and not (said and said[-1]["role"] == "assistant"):
            raise InvalidInput(_NOTHING_BEGUN)
        notes = _strangers(dialogue.messages, lines, "")
        if any(line["role"] == "tool" or "tool_calls" in line for line in lines):
            notes.append(f"Tool calls and their results were left out: {dialogue.mode} mode does not support tools.")
        begun = said.pop()["content"] if said and said[-1]["role"] == "assistant" else ""
        if greeting:
            said.insert(0, {"role": "assistant", "content": insert_names(greeting, name1, name2)})
        numbers = itertools.count()
        history = [
            Message(str(next(numbers)), None, "user" if line["role"] == "user" else "assistant", line["content"], 0.0)
            for line in said
        ]
        stage = PromptContext(
            mode=dialogue.mode,
            instruction_template=self._template(dialogue, session),
            name1=name1,
            name2=name2,
            context=context,
            user_bio=insert_names(dialogue.user_bio, name1, name2),
            chat_template=dialogue.chat_template_str,
            command=dialogue.chat_instruct_command,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
        )
        room = session.max_prompt(params, min(params.max_new_tokens, session.context(params) // 2))
        if room < 1:
            raise PromptTooLong(1, room, more=session.model.larger_context)
        prompt = build_prompt(
            history,
            stage,
            render=self._templates.render,
            count=lambda text: session.count_prompt(text, params),
            room=room,
            keep=params.truncation_keep,
            begun=begun,
            lead="" if dialogue.continues else self._hooks.lead(name2, hooks),
            literally=session.literally(params),
            larger_context=session.model.larger_context,
        )
        return GenerationRequest([prompt.text], stop=prompt.stop, reading=ReplyFormat(), notes=(*notes, *prompt.notes))


def _line(message: Mapping[str, Any], place: int) -> TemplateMessage:
    """One message as templates need it. Fields that they do not know (names, refusals) are removed."""
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool", "function"):
        raise InvalidInput(
            f"messages.{place}.role must be system, developer, user, assistant or tool (got {_short(role)})."
        )
    content = _content(message.get("content"), place)
    if content is None and role not in ("assistant", "tool", "function"):
        raise InvalidInput(f"messages.{place}.content is missing. Send a string or a list of parts.")
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    encode_utf8(content or "", f"messages.{place}.content")
    line: dict[str, Any] = {"role": _ROLES.get(role, role), "content": content or ""}
    if role == "assistant" and message.get("tool_calls"):
        line["tool_calls"] = [_past_call(call, place) for call in _list(message["tool_calls"], place)]
    if line["role"] == "tool":
        line.update({key: message[key] for key in ("tool_call_id", "name") if isinstance(message.get(key), str)})
    thought = next((message[key] for key in THOUGHTS if isinstance(message.get(key), str)), "")
    if role == "assistant" and thought:
        encode_utf8(thought, f"messages.{place}.reasoning_content")
        line["thought"] = thought
    return line


def _renewed(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Convert calls in the format before tools: `function_call`, and results by name only."""
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


#: Fields of a message that have a meaning here, or never one.
_KNOWN = frozenset(
    ["role", "content", "tool_calls", "tool_call_id", "function_call", "refusal", "annotations", "id", *THOUGHTS]
)


def _strangers(messages: Sequence[Mapping[str, Any]], lines: Sequence[TemplateMessage], template: str) -> list[str]:
    """Pass the fields that the template uses, and return a sentence for each of the others."""
    idle: dict[str, int] = {}
    asked: dict[str, bool] = {}
    for place, (message, line) in enumerate(zip(messages, lines, strict=True)):
        for key, value in message.items():
            if key in _KNOWN or value in (None, [], "", False) or (key == "name" and line["role"] == "tool"):
                continue
            if key in ("images", "audio", "videos", "files"):
                raise Unsupported(
                    f"messages.{place}: this model only accepts text, but the message contains {_short(key)}."
                )
            if key not in asked:
                asked[key] = re.search(rf"[.'\"]{re.escape(key)}\b", template) is not None
            if asked[key]:
                line[key] = value
            else:
                idle.setdefault(key, place)
    why = "has no effect: the template does not use it."
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
        raise InvalidInput(f"messages.{place}.content must be a string or a list of parts (got {_short(content)}).")
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
            raise InvalidInput(f"messages.{place}.content: a part of type {_short(kind)} has no text.")
        elif kind in _MEDIA:
            raise Unsupported(
                f"messages.{place}: this model only accepts text, but the message contains {_short(kind)}."
            )
        else:
            raise InvalidInput(f"messages.{place}.content: unknown part type {_short(kind)}.")
    return "".join(texts)


def _past_call(call: Any, place: int) -> dict[str, Any]:
    """An earlier call: templates need the arguments as values, clients send them as JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not _is_name(function.get("name")):
        raise InvalidInput(f"messages.{place}.tool_calls: each call must have a function with a name and arguments.")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        encode_utf8(arguments, f"messages.{place}.tool_calls")
        try:
            arguments = safe_json.loads(arguments)
        except ValueError:  # a model wrote it so, and the conversation should continue anyway
            arguments = str(arguments)
    return {
        "id": call.get("id", ""),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _is_name(value: Any) -> bool:
    """Whether a function can be called by it."""
    return isinstance(value, str) and bool(value.strip())


def _tools(dialogue: ClientChat) -> list[Mapping[str, Any]]:
    if dialogue.tool_choice == "none":
        return []
    if len(dialogue.tools) > MOST_TOOLS:
        raise TooMany("tools", MOST_TOOLS)
    for place, tool in enumerate(dialogue.tools):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not _is_name(function.get("name")):
            raise InvalidInput(f"tools.{place} must have a function with a name.")
        if not isinstance(function.get("parameters") or {}, Mapping):
            raise InvalidInput(f"tools.{place}.function.parameters must be a JSON schema (an object).")
    return list(dialogue.tools)


def _with_thought(line: TemplateMessage, keys: Sequence[str]) -> TemplateMessage:
    """A message with its reasoning, under the names that the template uses."""
    if "thought" not in line:
        return line
    thought = line.pop("thought")
    return {**line, **dict.fromkeys(keys, thought)}


def _list(value: Any, place: int) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"messages.{place}: expected a list, got {_short(value)}.")
    return value


def _short(value: Any) -> str:
    return ascii(value)[:60]
