"""What a user does in two chats, as prompts of token ids: a pure function, the same for every loader.

Later prompts hold earlier replies, so the steps are made one by one from what `reply` answers. The caller compares
each reply with that of a model which has read nothing before. It must not know of models, loaders or text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Step(NamedTuple):
    """One thing that the user did: its name, the whole prompt, and the reply that came."""

    name: str
    prompt: list[int]
    reply: list[int]


#: The names of all steps, in order: the rows of a table "architecture x loader x what the user does".
NAMES = (
    "cold",
    "regenerate",
    "regenerate, longer",
    "regenerate, shorter again",
    "next turn",
    "regenerate the next turn",
    "edit the last message",
    "edit the middle of the first message",
    "back to the branch before",
    "another chat",
    "back to the first chat",
    "the other chat's next turn",
    "the first chat's next turn",
    "the other chat, regenerate",
    "cut a thought out of a past reply",
    "next turn after the cut",
    "a long message",
    "regenerate after it",
    "next turn after it",
    "another chat after it",
    "back to the long chat",
    "delete the last turns",
)


def walk(
    reply: Callable[[list[int], int], list[int]],
    *,
    vocab: range,
    length: int,
    seed: int,
    new: int = 24,
    message: int = 17,
    long: int | None = None,
) -> Iterator[Step]:
    """The steps of `NAMES`. `reply` answers a prompt with that many tokens: end tokens are best banned.

    The first messages have `length` tokens out of `vocab`, later ones `message`, the long one `long` (three times
    `length`, where it is not given). To pass a window choose a `length` above it, or a `long`. The longest prompt,
    with its reply, has `most(...)` tokens. Two walks with different seeds, each in a thread, are two users at once.
    """
    draw = random.Random(seed)
    long = 3 * length if long is None else long
    names = iter(NAMES)

    def said(count: int) -> list[int]:
        return [draw.choice(vocab) for _ in range(count)]

    def other(token: int) -> int:
        return vocab[(vocab.index(token) + 1 + draw.randrange(len(vocab) - 1)) % len(vocab)]

    def step(prompt: list[int], count: int = new) -> Step:
        return Step(next(names), prompt, reply(list(prompt), count))

    a = said(length)
    yield (first := step(a))
    yield step(a)
    yield step(a, 3 * new)
    yield step(a)
    turn = a + first.reply + said(message)
    yield (second := step(turn))
    yield step(turn)
    yield step(turn[:-message] + said(message))
    middle = length // 2
    edited = a[:middle] + [other(a[middle])] + a[middle + 1 :]
    yield step(edited)
    yield step(turn)

    b = said(length + 3)
    yield (others := step(b))
    yield step(turn)
    other_turn = b + others.reply + said(message)
    yield step(other_turn)
    third_turn = turn + second.reply + said(message)
    yield (third := step(third_turn))
    yield step(other_turn)

    # the first half of the past reply was a thought, which the next prompt leaves out
    without = a + first.reply[new // 2 :] + turn[length + len(first.reply) :] + second.reply[new // 2 :]
    cut_turn = without + said(message)
    yield (cut := step(cut_turn))
    yield (after := step(cut_turn + cut.reply + said(message)))

    long_turn = after.prompt + after.reply + said(long)
    yield (far := step(long_turn))
    yield step(long_turn)
    yield step(long_turn + far.reply + said(message))
    yield step(b + others.reply + said(message))
    yield step(long_turn)
    yield step(third_turn + third.reply[: new // 2])


def most(*, length: int, new: int = 24, message: int = 17, long: int | None = None) -> int:
    """Tokens of the longest prompt of such a walk with its reply, where all replies have their full length."""
    return length + 2 * (new - new // 2) + 4 * new + 4 * message + (3 * length if long is None else long)
