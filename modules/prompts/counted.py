"""jinja2's filters and tests with what they cost: they are called by name, and pass by everything that sees calls.

What goes through a list costs a step for each entry; what compares, hashes or writes values costs what they are long.
This module knows jinja2's names for them, and nothing of templates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import jinja2

from modules.prompts import bounds
from modules.prompts.budget import Budget

_Function = Callable[..., Any]

#: Those that give their entries one by one, those that copy them, and those that compare what is in them, or hash it.
_ONE_BY_ONE = frozenset(["map", "reject", "rejectattr", "select", "selectattr"])
_COPYING = frozenset(["items", "list", "reverse", "sum"])
_COMPARING = frozenset(["dictsort", "groupby", "max", "min", "sort", "unique"])
#: Those that make new entries.
_MAKING = frozenset(["dictsort", "groupby", "items", "map"])
#: Those that look at one entry, or at none.
_AT_ONCE = frozenset(["attr", "count", "d", "default", "first", "last", "length", "random"])
#: Those that make an object of each word or letter.
_WORD_BY_WORD = frozenset(["title", "urlencode", "wordcount"])
#: Tests that compare, or write what they are given.
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
    at = int(hasattr(function, "jinja_pass_arg"))  # the value's place: the context or the like comes before it
    if name in _ONE_BY_ONE | _COPYING | _COMPARING:
        return _of_entries(name, function, at, budget)
    return _of_text(function, at, budget, by_word=name in _WORD_BY_WORD)


def _of_entries(name: str, function: _Function, at: int, budget: Budget) -> _Function:
    @functools.wraps(function)  # with jinja2's marks: what it wants as the first argument
    def counted(*args: Any, **named: Any) -> Any:
        if len(args) <= at:
            return function(*args, **named)  # it says itself what is missing
        value, more = args[at], args[at + 1 :]
        bounds.attribute(name, more, named)
        if name in _ONE_BY_ONE:
            value = budget.counted(value) if _is_iterable(value) else value
        elif isinstance(value, Sized):
            budget.spend(len(value))
        elif _is_iterable(value):
            value = list(budget.counted(value))  # it can be read but once
        if name in _COMPARING:
            budget.read(value)
        made = function(*args[:at], value, *more, **named)
        if isinstance(made, Iterator):
            # read now: iterators that wait for one another recurse in C, when they are read and when they are freed
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
        bounds.operation("%", value, by[0] if by else 2)  # which writes, where the value is a text
        return function(value, *by)

    return bounded


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, jinja2.Undefined)
