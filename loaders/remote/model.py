"""A model on other servers, as `loaders.base.Model`: requests go straight through, and nothing is computed here.

It must not know how its servers are asked.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from errors import InvalidInput, ModelClosed, PromptTooLong, Unsupported
from loaders.base import Model, QueueEntry, Request, TokenStream
from loaders.cancel import CancelEvent
from loaders.params import LoadOptions
from loaders.remote import questions
from loaders.remote.questions import ServerFacts
from loaders.remote.server import Server
from loaders.remote.stream import ServerStream
from loaders.remote.tokenizers import EstimatedTokenizer, ServerTokenizer
from loaders.sampling.biases import bounded_bias, known_biases
from loaders.sampling.chain import choose_seed

#: Without the server's word and without an option: what nearly every server of today has.
_USUAL_CONTEXT = 8192
_UNCHECKED = (
    "This server does not say which token ids its model has, so those of logit_bias and custom_token_bans were passed "
    "on unchecked."
)


class RemoteModel(Model):
    """May be used from several threads."""

    loader = "remote"
    template_place = "the server"

    def __init__(self, name: str, server: Server, facts: ServerFacts, options: LoadOptions, length: int) -> None:
        """`length`: the context length that the user gave, 0 for the server's. Raises: UserError."""
        self.name = name
        self.options = options
        self._server = server
        self.context_length = length or facts.context_length or _USUAL_CONTEXT
        if facts.context_length:
            self.context_length = min(self.context_length, facts.context_length)
        self.larger_context = "start the server with a larger context, then load the model again"
        if length and self.context_length == length and facts.context_length != length:
            self.larger_context = "load the model with a larger remote_context"
        self._n_vocab = facts.n_vocab
        self.tokenizer: ServerTokenizer | EstimatedTokenizer = questions.make_tokenizer(server, facts)
        server.piece = lambda token: self.tokenizer.piece(token, special=True)
        server.text_of = self.tokenizer.text
        server.end_ids = self.tokenizer.end_ids
        kind = server.kind
        self.unsupported: Mapping[str, str] = kind.unsupported()
        self.caveats: Mapping[str, str] = {}
        if kind.most_logprobs:
            self.caveats = {
                "logits": f"{kind.name} tells the {kind.most_logprobs} most likely tokens only; probabilities are "
                "shares of these."
            }
        self._running: weakref.WeakSet[ServerStream] = weakref.WeakSet()
        self._adding = threading.Lock()  # a set that grows cannot be read
        self._leaving: SimpleQueue[ServerStream | None] = SimpleQueue()
        # replies are cancelled from anywhere, even by the garbage collector while the pool of connections is locked
        threading.Thread(target=self._free_cancelled, name="cancelled requests", daemon=True).start()

    def generate(self, request: Request) -> TokenStream:
        """Raises: ModelClosed, PromptTooLong, Unsupported, InvalidInput."""
        if self._server.closed:
            raise ModelClosed
        if request.params.guidance_scale != 1:
            raise Unsupported(f"guidance_scale cannot be used: {self.unsupported['guidance_scale']} Set it to 1.")
        if len(request.ids) >= self.context_length:
            raise PromptTooLong(len(request.ids), self.context_length - 1, more=self.larger_context)
        warnings = self._server.kind.unused(request.params)
        request, fewer = self._server.kind.fewer_logprobs(request)
        warnings += [fewer] if fewer else []
        bias = self._biases(request, warnings)
        # the seed is reported with the reply; bans are among the biases
        changed = {"seed": choose_seed(request.params.seed), "custom_token_bans": ""}
        request = replace(request, params=request.params.model_copy(update=changed), logit_bias=bias)
        self._server.kind.fields(request, "", "")  # a bad value is reported now
        stream = ServerStream(self._server, request, self._leaving.put)
        stream.report.warnings += warnings
        with self._adding:
            self._running.add(stream)
        return stream

    def _biases(self, request: Request, warnings: list[str]) -> dict[int, float]:
        """Those of tokens that the model has, as far as the server says. Raises: InvalidInput."""
        known = known_biases(request.params, request.logit_bias, self._n_vocab or self.tokenizer.n_vocab, warnings)
        if known and not self._n_vocab:
            warnings.append(_UNCHECKED)
        return {token: bounded_bias(value) for token, value in known.items()}

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        """Minus infinity for tokens of which the server tells nothing."""
        if "logits" in self.unsupported:
            return super().next_logits(request)
        tokenizer = self.tokenizer
        assert isinstance(tokenizer, ServerTokenizer)
        found = questions.top_logprobs(self._server, request, tokenizer.n_vocab, tokenizer.learn)
        logits = np.full(tokenizer.n_vocab, -np.inf, np.float32)
        for token, value in found.items():
            if not 0 <= token < len(logits):
                raise InvalidInput(f"The server returned the token {token}, which its vocabulary does not have.")
            logits[token] = value
        return logits

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        del grammar
        raise Unsupported(self.unsupported.get("grammar_string", "the server applies it, which is not shown here."))

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        if "score" in self.unsupported:
            return super().score(ids, cancel, start)
        if len(ids) < 2:
            return np.zeros(0, np.float32)
        if len(ids) > self.context_length:
            raise PromptTooLong(len(ids), self.context_length, more=self.larger_context)
        return questions.prompt_logprobs(self._server, Request(ids, cancel=cancel or CancelEvent()))

    def queue(self) -> Sequence[QueueEntry]:
        """All that run: which of them wait is known to the server only."""
        streams = sorted(self._streams(), key=lambda each: each.request.id)
        return [
            QueueEntry(
                each.request.id,
                each.request.label,
                0,
                each.report.prompt_tokens,
                each.report.new_tokens,
                each.tokens_per_second,
                each.request.cancel,
            )
            for each in streams
            if each.running
        ]

    def close(self) -> None:
        if not self._server.closed:
            self._server.closed = True
            for stream in self._streams():
                stream.abort()
            self._leaving.put(None)
            self._server.close()

    def _streams(self) -> Sequence[ServerStream]:
        with self._adding:
            return tuple(self._running)

    def _free_cancelled(self) -> None:
        while (stream := self._leaving.get()) is not None:
            stream.give_up()
