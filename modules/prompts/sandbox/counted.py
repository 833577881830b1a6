"""Adds costs to the filters and tests of jinja2, which are called by name and bypass the interception of calls.

Iterating over a list costs a step per entry; comparing, hashing or writing values costs by their length. This module
knows jinja2's names for them, and nothing of templates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import jinja2

from modules.prompts.sandbox import limits
from modules.prompts.sandbox.budget import Budget

_Function = Callable[..., Any]

#: Filters that yield their entries one by one, that copy them, and that compare or hash them.
_ONE_BY_ONE = frozenset(["map", "reject", "rejectattr", "select", "selectattr"])
_COPYING = frozenset(["items", "list", "reverse", "sum"])
_COMPARING = frozenset(["dictsort", "groupby", "max", "min", "sort", "unique"])
#: Filters that create new entries.
_MAKING = frozenset(["dictsort", "groupby", "items", "map"])
#: Filters that read one entry or none.
_AT_ONCE = frozenset(["attr", "count", "d", "default", "first", "last", "length", "random"])
#: Filters that create an object for each word or letter.
_WORD_BY_WORD = frozenset(["title", "urlencode", "wordcount"])
#: Tests that compare or write their arguments.
_READING = frozenset(
    ["!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lower",
     "lt", "ne", "upper"]
)  # fmt: skip
_DIVIDING = frozenset(["divisibleby", "even", "odd"])


def filters(known: Mapping[str, _Function], budget: Budget) -> dict[str, _Function]:
    return {name: _filter(name, function, budget) for name, function in known.items()}


def tests(known: Mapping[str, _Function], budget: Budget) -> dict[str, _Function]:
    counted = dict(known)
    for name in _READING & known.keys():
        counted[name] = _reading(known[name], budget)
    for name in _DIVIDING & known.keys():
        counted[name] = _dividing(known[name])
    return counted


def _filter(name: str, function: _Function, budget: Budget) -> _Function:
    if name in _AT_ONCE:
        return function
    at = int(hasattr(function, "jinja_pass_arg"))  # the index of the value: the context or similar comes before it
    if name in _ONE_BY_ONE | _COPYING | _COMPARING:
        return _of_entries(name, function, at, budget)
    return _of_text(function, at, budget, by_word=name in _WORD_BY_WORD)


def _of_entries(name: str, function: _Function, at: int, budget: Budget) -> _Function:
    @functools.wraps(function)  # as marked by jinja2: the required first argument
    def counted(*args: Any, **named: Any) -> Any:
        if len(args) <= at:
            return function(*args, **named)  # it reports missing arguments itself
        value, more = args[at], args[at + 1 :]
        limits.check_attribute(name, more, named)
        if name in _ONE_BY_ONE:
            value = budget.counted(value) if _is_iterable(value) else value
        elif isinstance(value, Sized):
            budget.spend(len(value))
        elif _is_iterable(value):
            value = list(budget.counted(value))  # it can be read only once
        if name in _COMPARING:
            budget.read(value)
        made = function(*args[:at], value, *more, **named)
        if isinstance(made, Iterator):
            # read now: nested iterators recurse in C, when they are read and when they are freed
            return iter(budget.keep(list(made), deep=name in _MAKING))
        return budget.keep(made, deep=name in _MAKING)

    return counted


def _of_text(function: _Function, at: int, budget: Budget, *, by_word: bool) -> _Function:
    @functools.wraps(function)
    def counted(*args: Any, **named: Any) -> Any:
        if len(args) > at:
            value = args[at]
            if type(value) is not str:
                budget.read(value)
            elif by_word:
                budget.spend(len(value) // 4)
        made = function(*args, **named)
        if isinstance(made, str):
            budget.characters(len(made))
        return budget.keep(made)

    return counted


def _reading(function: _Function, budget: Budget) -> _Function:
    @functools.wraps(function)
    def counted(*args: Any) -> Any:
        for each in args:
            if isinstance(each, Sized):
                budget.read(each)
        return function(*args)

    return counted


def _dividing(function: _Function) -> _Function:
    @functools.wraps(function)
    def bounded(value: Any, *by: Any) -> Any:
        limits.check_operation("%", value, by[0] if by else 2)  # which writes it if the value is a string
        return function(value, *by)

    return bounded


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, jinja2.Undefined)
