"""`python -m loaders.grammar.worker`: matches grammars with llguidance for the process that started it.

Requests come from standard input and responses go to standard output, one after the other (messages.py). A separate
process, because the library's work on a hostile grammar can neither be interrupted nor kept from exhausting the stack:
here a step that takes too much time or memory ends only this process. It must not know of models.
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
from loaders.grammar.lark import GrammarTokens, UnknownToken, to_lark
from loaders.grammar.messages import GrammarVocabulary, RequestKind, ResponseKind, read_message, write_message
from loaders.worker_process import limit_time, lower_priority

#: CPU seconds for one step, and for parsing a grammar. Ordinary ones take milliseconds.
_STEP, _OPENING = 1.0, 5.0
#: CPU seconds for a whole text: a base amount, and more for each token.
_TEXT, _TOKEN = 5.0, 0.05
_MEMORY, _STACK = 4 << 30, 512 << 20  # bytes; the library recurses for each rule in a chain
_LIMITS = llguidance.LLParserLimits(
    max_items_in_row=10_000, step_max_items=50_000, max_lexer_states=50_000, verbose_errors=False
)
#: The beginning of llguidance's error if no token can follow.
_NO_TOKEN = "NoExtensionBias"
#: The text between the position in the translated grammar, which nobody has seen, and what is wrong with a JSON schema;
#: and its beginning if only the size is wrong.
_IN_SCHEMA = "failed to compile JSON schema: "
_TOO_BIG = re.compile(r"(?i)[^\n]*\b(?:too (?:big|large|many|complex)|limit|fuel)\b")


class _TooComplex(Exception):
    """The library's own limits are exceeded."""


class _BadSchema(Exception):
    """A JSON schema in the grammar that the library cannot enforce: its own message."""


class _DeadEnd(Exception):
    """The grammar requires a text that no token of the vocabulary can begin."""


class GrammarTokenizer:
    """The vocabulary as llguidance needs it, and as grammars name it."""

    is_tokenizer_wrapper = True  # llguidance requires these names
    bos_token_id = None

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        """Adds one token without a meaning: llguidance's own end token, because a vocabulary may have none or
        several.
        """
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
        self.names = GrammarTokens(lambda text: named.get(text.encode()), texts, self.ends, self.eos_token_id)
        self.usable_mask = _mask(set(range(self.eos_token_id)) - self.unusable, self.eos_token_id)
        self.ends_mask = _mask(self.ends, self.eos_token_id)
        self.ll = llguidance.LLTokenizer(self, eos_token=self.eos_token_id, slices=[])

    def __call__(self, text: str) -> list[int]:
        """Never called: llguidance tokenizes nothing here."""
        del text
        return []


def _mask(tokens: set[int] | frozenset[int], count: int) -> int:
    flags = bytearray(count // 8 + 1)
    for token in tokens:
        flags[token // 8] |= 1 << token % 8
    return int.from_bytes(flags, "little")


class WorkerMatcher:
    """One grammar and a text's position in it."""

    def __init__(self, tokenizer: GrammarTokenizer, lark: str) -> None:
        """Raises: _BadSchema, _TooComplex, _DeadEnd; all later methods raise the last two, too."""
        self._tokenizer = tokenizer
        grammar = llguidance.LLMatcher.grammar_from_lark(lark)
        self.spent = 0.0
        self.tokens = 0
        self._accepted: list[bool] = []  # of each token, whether the matcher has it
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
        """Count CPU time. Raises: _TooComplex when the text has used up its own."""
        self.spent += seconds
        if self.spent > _TEXT + _TOKEN * self.tokens:
            raise _TooComplex

    def accept(self, token: int) -> None:
        self.tokens += 1
        self._accepted.append(token not in self._tokenizer.ends)
        if self._accepted[-1]:
            self._matcher.consume_token(token)
            self._checked()

    def rewind(self, count: int) -> None:
        """Take back the last tokens. They still count as such, because they took time."""
        self._matcher.rollback(sum(self._accepted[-count:]))
        del self._accepted[-count:]
        self._checked()

    def mask(self) -> bytes:
        """One bit for each token that may come next."""
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


class GrammarWorker:
    """Answers requests."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self._tokenizer = GrammarTokenizer(vocabulary)
        self._followers: dict[int, WorkerMatcher] = {}

    def answer(self, ask: RequestKind, session: int, payload: bytes) -> tuple[ResponseKind, bytes]:
        """The response to a request."""
        try:
            with limit_time(_OPENING if ask is RequestKind.OPEN else _STEP):
                return self._answer(ask, session, payload)
        except UnknownToken as error:
            return ResponseKind.INVALID, f"{error}.".encode()
        except _BadSchema as error:
            why = " ".join(str(error).split())[:300]
            return ResponseKind.INVALID, f"its JSON schema is not supported: {why}.".encode()
        except _DeadEnd:
            follower = self._followers.pop(session, None)
            count = follower.tokens if follower else 0
            where = f"after {count:,} token{'s' * (count > 1)}" if count else "at the start"
            said = f"no token of this model's vocabulary matches what is required {where}. Use characters that the "
            return ResponseKind.INVALID, f"{said}model can produce, or use another model.".encode()
        except (_TooComplex, RecursionError, MemoryError):
            self._followers.pop(session, None)
            return ResponseKind.TOO_COMPLEX, b""

    def _answer(self, ask: RequestKind, session: int, payload: bytes) -> tuple[ResponseKind, bytes]:
        if ask is RequestKind.OPEN:
            grammar, problems = gbnf.read_grammar(payload.decode())
            if problems:
                return ResponseKind.INVALID, str(problems[0]).encode()
            self._followers[session] = WorkerMatcher(self._tokenizer, to_lark(grammar, self._tokenizer.names))
            return ResponseKind.YES, b""
        if ask is RequestKind.CLOSE:
            self._followers.pop(session, None)
            return ResponseKind.YES, b""
        follower = self._followers[session]
        began = time.process_time()
        reply = self._followed(follower, ask, payload)
        follower.spend(time.process_time() - began)
        return reply

    def _followed(self, follower: WorkerMatcher, ask: RequestKind, payload: bytes) -> tuple[ResponseKind, bytes]:
        if ask is RequestKind.MASK:
            return ResponseKind.NO, follower.mask()
        tokens = [int.from_bytes(payload[at : at + 4], "little") for at in range(0, len(payload), 4)]
        if ask is RequestKind.ALLOWS:
            return (ResponseKind.YES if follower.allows(tokens[0]) else ResponseKind.NO), b""
        if ask is RequestKind.TRY and not follower.allows(tokens[0]):
            return ResponseKind.NO, follower.mask()
        if ask is RequestKind.REWIND:
            follower.rewind(tokens[0])
            return ResponseKind.YES, b""
        for token in tokens:
            follower.accept(token)
        return ResponseKind.YES, b""


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer until the input ends. The first message is the vocabulary."""
    first = read_message(source)
    if first is None:
        return
    worker = GrammarWorker(GrammarVocabulary.unpacked(first[2]))
    write_message(target, ResponseKind.YES, 0, b"")
    while message := read_message(source):
        kind, session, payload = message
        reply, answer = worker.answer(RequestKind(kind), session, payload)
        write_message(target, reply, session, answer)


def main() -> None:
    lower_priority(_MEMORY)
    threading.stack_size(_STACK)
    thread = threading.Thread(target=serve, args=(sys.stdin.buffer, sys.stdout.buffer), name="grammars")
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
