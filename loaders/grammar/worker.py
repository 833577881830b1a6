"""`python -m loaders.grammar.worker`: follows grammars with llguidance for the process that started it.

Questions come in by the standard input and answers go out by the standard output, one after the other (messages.py).
A process of its own, for the library's work on a hostile grammar can neither be interrupted nor kept from exhausting
the stack: here a step that takes too long, or too much memory, ends this process alone. It must not know of models.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

import llguidance

from loaders import gbnf
from loaders.grammar.lark import NoSuchToken, Tokens, translate
from loaders.grammar.messages import Ask, Reply, Vocabulary, read, write
from loaders.worker_process import bounded, stand_back

#: Seconds of processor time for one step, and for reading a grammar. Honest ones take milliseconds.
_STEP, _OPENING = 1.0, 5.0
#: Seconds of it for a whole text: so many, and so many more for each token.
_TEXT, _TOKEN = 5.0, 0.05
_MEMORY, _STACK = 4 << 30, 512 << 20  # bytes; the library calls itself for each rule in a chain
_LIMITS = llguidance.LLParserLimits(
    max_items_in_row=10_000, step_max_items=50_000, max_lexer_states=50_000, verbose_errors=False
)
#: How llguidance's error begins where no token can go on.
_NO_TOKEN = "NoExtensionBias"
#: Between the place in the translated grammar, which nobody has seen, and what is wrong with a JSON schema; and how
#: that begins where nothing is wrong but the size.
_IN_SCHEMA = "failed to compile JSON schema: "
_TOO_BIG = re.compile(r"(?i)[^\n]*\b(?:too (?:big|large|many|complex)|limit|fuel)\b")


class _TooComplex(Exception):
    """The library's own limits are reached."""


class _BadSchema(Exception):
    """A JSON schema in the grammar that the library cannot keep to: its own words."""


class _DeadEnd(Exception):
    """The grammar asks for a text that no token of the vocabulary can begin."""


class Tokenizer:
    """The vocabulary as llguidance wants it, and as grammars name it."""

    is_tokenizer_wrapper = True  # llguidance asks for these names
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        """One token is added that nothing means: llguidance's own end token, for ours may be none or several."""
        self.eos_token_id = len(vocabulary.texts)
        control = vocabulary.control
        self.tokens = [b"\xff" + text if token in control else text for token, text in enumerate(vocabulary.texts)]
        self.tokens.append(b"\xff<end of the grammar>")
        self.special_token_ids: Sequence[int] = []
        self.ends = vocabulary.ends
        self.unusable = {token for token, text in enumerate(vocabulary.texts) if not text} | self.ends
        named: dict[bytes, int] = {}
        for token, text in enumerate(vocabulary.texts):
            if text and (text not in named or token in control):
                named[text] = token
        texts = {vocabulary.texts[token].decode("utf-8", "replace"): token for token in control - self.ends}
        self.names = Tokens(lambda text: named.get(text.encode()), texts, self.ends, self.eos_token_id)
        self.usable_mask = _mask(set(range(self.eos_token_id)) - self.unusable, self.eos_token_id)
        self.ends_mask = _mask(self.ends, self.eos_token_id)
        self.ll = llguidance.LLTokenizer(self, eos_token=self.eos_token_id, slices=[])

    def __call__(self, text: str) -> list[int]:
        """Llguidance never needs it: nothing is tokenized here."""
        del text
        return []


def _mask(tokens: set[int] | frozenset[int], count: int) -> int:
    flags = bytearray(count // 8 + 1)
    for token in tokens:
        flags[token // 8] |= 1 << token % 8
    return int.from_bytes(flags, "little")


class Follower:
    """One grammar and how far a text has come in it."""

    def __init__(self, tokenizer: Tokenizer, lark: str) -> None:
        """Raises: _BadSchema, _TooComplex, _DeadEnd; the last two are raised by all that follows, too."""
        self._tokenizer = tokenizer
        grammar = llguidance.LLMatcher.grammar_from_lark(lark)
        self.spent = 0.0
        self.tokens = 0
        self._matcher: Any = llguidance.LLMatcher(tokenizer.ll, grammar, log_level=0, limits=_LIMITS)
        self._checked()

    def allows(self, token: int) -> bool:
        if token in self._tokenizer.ends:
            return bool(self._matcher.is_accepting())
        if token in self._tokenizer.unusable or self._matcher.is_stopped():
            return False
        allowed = int(self._matcher.validate_tokens([token])) == 1
        self._checked()
        return allowed

    def spend(self, seconds: float) -> None:
        """Count processor time. Raises: _TooComplex, when the text has had all of its own."""
        self.spent += seconds
        if self.spent > _TEXT + _TOKEN * self.tokens:
            raise _TooComplex

    def accept(self, token: int) -> None:
        self.tokens += 1
        if token not in self._tokenizer.ends:
            self._matcher.consume_token(token)
            self._checked()

    def mask(self) -> bytes:
        """A bit for each token that may come next."""
        allowed = 0
        if not self._matcher.is_stopped():
            allowed = int.from_bytes(self._matcher.compute_bitmask(), "little") & self._tokenizer.usable_mask
            self._checked()
        if self._matcher.is_accepting():
            allowed |= self._tokenizer.ends_mask
        elif not allowed:
            raise _DeadEnd
        return allowed.to_bytes(self._tokenizer.eos_token_id // 8 + 1, "little")

    def _checked(self) -> None:
        if self._matcher.is_error():
            said = str(self._matcher.get_error())
            _, in_schema, why = said.partition(_IN_SCHEMA)
            if in_schema and not _TOO_BIG.match(why):
                raise _BadSchema(why.partition("\n   1 | ")[0])
            raise _DeadEnd if said.startswith(_NO_TOKEN) else _TooComplex


class Worker:
    """Answers the questions."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokenizer = Tokenizer(vocabulary)
        self._followers: dict[int, Follower] = {}

    def answer(self, ask: Ask, session: int, payload: bytes) -> tuple[Reply, bytes]:
        """What there is to say to a question."""
        try:
            with bounded(_OPENING if ask is Ask.OPEN else _STEP):
                return self._answer(ask, session, payload)
        except NoSuchToken as error:
            return Reply.INVALID, f"{error}.".encode()
        except _BadSchema as error:
            why = " ".join(str(error).split())[:300]
            return Reply.INVALID, f"its JSON schema is one that no grammar is made of: {why}.".encode()
        except _DeadEnd:
            follower = self._followers.pop(session, None)
            count = follower.tokens if follower else 0
            where = f"after {count:,} token{'s' * (count > 1)}" if count else "at the beginning"
            said = f"no token of this model's vocabulary can write what it asks for {where}. Use characters that the "
            return Reply.INVALID, f"{said}model can write, or another model.".encode()
        except (_TooComplex, RecursionError, MemoryError):
            self._followers.pop(session, None)
            return Reply.TOO_COMPLEX, b""

    def _answer(self, ask: Ask, session: int, payload: bytes) -> tuple[Reply, bytes]:
        if ask is Ask.OPEN:
            grammar, problems = gbnf.read(payload.decode())
            if problems:
                return Reply.INVALID, str(problems[0]).encode()
            self._followers[session] = Follower(self._tokenizer, translate(grammar, self._tokenizer.names))
            return Reply.YES, b""
        if ask is Ask.CLOSE:
            self._followers.pop(session, None)
            return Reply.YES, b""
        follower = self._followers[session]
        began = time.process_time()
        reply = self._followed(follower, ask, payload)
        follower.spend(time.process_time() - began)
        return reply

    def _followed(self, follower: Follower, ask: Ask, payload: bytes) -> tuple[Reply, bytes]:
        if ask is Ask.MASK:
            return Reply.NO, follower.mask()
        tokens = [int.from_bytes(payload[at : at + 4], "little") for at in range(0, len(payload), 4)]
        if ask is Ask.ALLOWS:
            return (Reply.YES if follower.allows(tokens[0]) else Reply.NO), b""
        if ask is Ask.TRY and not follower.allows(tokens[0]):
            return Reply.NO, follower.mask()
        for token in tokens:
            follower.accept(token)
        return Reply.YES, b""


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer until the source ends. The first message is the vocabulary."""
    first = read(source)
    if first is None:
        return
    worker = Worker(Vocabulary.unpacked(first[2]))
    write(target, Reply.YES, 0, b"")
    while message := read(source):
        kind, session, payload = message
        reply, answer = worker.answer(Ask(kind), session, payload)
        write(target, reply, session, answer)


def main() -> None:
    stand_back(_MEMORY)
    threading.stack_size(_STACK)
    thread = threading.Thread(target=serve, args=(sys.stdin.buffer, sys.stdout.buffer), name="grammars")
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
