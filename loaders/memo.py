"""Caches of results for the whole run of the program, also if they were computed in a model's own process.

Like functools.lru_cache, but the results can be passed from one process to another. It must not know what they are.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_ALL: dict[str, Remembered[Any, Any]] = {}  # every cached function, by its full name


class Remembered(Generic[P, R]):
    """A function with cached results. Exceptions are not cached."""

    def __init__(self, function: Callable[P, R], most: int, key: Callable[P, Any]) -> None:
        self._function = function
        self._most = most
        self._key = key
        self._results: dict[Any, R] = {}
        self._guard = threading.Lock()
        update_wrapper(self, function)
        _ALL[f"{function.__module__}.{function.__qualname__}"] = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = self._key(*args, **kwargs)
        with self._guard:
            if key in self._results:
                return self._results[key]
        result = self._function(*args, **kwargs)
        self.keep({key: result})
        return result

    def cache_clear(self) -> None:
        """Delete all results."""
        with self._guard:
            self._results.clear()

    def keep(self, results: dict[Any, R]) -> None:
        """Add these; if there are too many, the last ones are kept."""
        with self._guard:
            self._results.update(results)
            for old in list(self._results)[: -self._most]:
                del self._results[old]

    def results(self) -> dict[Any, R]:
        """All cached results, by key."""
        with self._guard:
            return dict(self._results)


def remembered(most: int, key: Callable[..., Any] = lambda *args: args) -> Callable[[Callable[P, R]], Remembered[P, R]]:
    """Cache this many results of a function. `key` creates the cache key from its arguments; key and result must be
    hashable and picklable.
    """
    return lambda function: Remembered(function, most, key)


def export_results() -> bytes:
    """All results of all functions, for another process of this program."""
    return pickle.dumps({name: function.results() for name, function in _ALL.items()})


def import_results(exported: bytes) -> None:
    """Add the results of another process of this program; functions that this one lacks are skipped."""
    with contextlib.suppress(pickle.PickleError, ImportError, AttributeError):
        for name, results in pickle.loads(exported).items():
            if name in _ALL:
                _ALL[name].keep(results)
