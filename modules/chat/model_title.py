"""A title for a chat, written by the model after the first exchange. It must not know when it is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from loaders.base import Report
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation
from modules.chat.prompt.build import ChatPrompt
from modules.chat.reply_settings import ReplySettings
from modules.chat.unsaved_reply import write_unsaved
from modules.families.saved_reply import split_reply
from modules.generation.session import ModelSession
from modules.generation.stream import TextStream

ASK = (
    "Write a title for this conversation: at most six words, in the language of the conversation. "
    "Answer with the title only, without quotation marks."
)
#: A title that is longer than this is none, and so is one for which these tokens are not enough.
_WORDS, _CHARACTERS, _TOKENS = 12, 80, 40
#: Replies in a chat after which it is no longer new.
_REPLIES = 3
_AROUND = " \t\"'`*_#“”„‘’«»"
_LEAD = re.compile(r"^(title|titel|название|заголовок)\s*:\s*", re.IGNORECASE)

#: Makes a prompt: (session, conversation, messages, settings) to the prompt and the parameters.
MakePrompt = Callable[..., tuple[ChatPrompt, SamplingParams]]


def wants_title(conversation: Conversation) -> bool:
    """Whether it is a new chat that nobody has named, with a first exchange."""
    replies = [each for each in conversation.path() if each.role == "assistant" and not each.is_greeting]
    return not conversation.title and 1 <= len(replies) <= _REPLIES


def clean_title(text: str) -> str:
    """The title in a model's answer; "" if there is none."""
    lines = [line.strip() for line in split_reply(text).answer.strip().splitlines()]
    lines = [line for line in lines if line]
    if len(lines) != 1:
        return ""
    title = _LEAD.sub("", lines[0].strip(_AROUND)).strip(_AROUND).rstrip(".")
    fits = len(title) <= _CHARACTERS and len(title.split()) <= _WORDS and sum(map(str.isalpha, title)) >= 2
    return title if fits and not re.search(r"[<>|{}\[\]]", title) else ""


def write_title(
    session: ModelSession,
    conversation: Conversation,
    turn: ReplySettings,
    make_prompt: MakePrompt,
    attach: Callable[[TextStream], None],
) -> tuple[str, Report]:
    """A title ("" if the model gives none) for a conversation, a copy that is the caller's own. Raises: UserError.

    The prompt continues the chat's own as far as possible, so that little of it must be read. A thought is ended at
    once.
    """
    last = conversation.last()
    conversation.add("user", ASK, last.id if last else None)
    same = {name: getattr(turn.params, name) for name in ("add_bos_token", "truncation_length", "truncation_keep")}
    params = SamplingParams(do_sample=False, max_new_tokens=_TOKENS).changed(**same)
    turn = replace(turn, mode="instruct", params=params, start_with="", thinking=False, effort="", own=())
    prompt, params = make_prompt(session, conversation, conversation.path(), turn)
    label = f"{conversation.id}: title"
    made, report = write_unsaved(
        session, conversation, prompt, params, turn, label=label, attach=attach, max_tokens=_TOKENS, thinking_budget=0
    )
    ended = made is not None and made.meta.get("finish") == "stop"
    return (clean_title(made.text) if made and ended else ""), report
