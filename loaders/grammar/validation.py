"""Problems of a grammar that parses: missing rules, left recursion, and endless repetitions of empty text.

Each check takes time in proportion to the grammar. It must not know how a grammar is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loaders.grammar.tree import Alternatives, Grammar, GrammarItem, all_items

#: A rule by its name, a group by its number.
_Node = str | int


def find_undefined_rules(grammar: Grammar) -> list[tuple[int, str]]:
    """Names without a rule: the position, and a sentence."""
    found: dict[str, tuple[int, str]] = {}
    for rule in grammar.written:
        for item in all_items(rule):
            if item.name and item.name not in grammar.rules:
                found.setdefault(item.name, (item.at, f"undefined rule {item.name}"))
    if "root" not in grammar.rules:
        found["root"] = (found.get("root", (0, ""))[0], "the grammar has no rule named root, where it starts")
    return list(found.values())


def find_endless_rules(grammar: Grammar) -> list[tuple[int, str]]:
    """Left-recursive rules, and endless repetitions of what may be empty: the position, and a sentence."""
    writes_nothing = {name for name, rule in grammar.rules.items() if _has_empty(rule)}
    found = [
        (item.at, "this may match nothing, so it could repeat forever")
        for rule in grammar.rules.values()
        for item in all_items(rule)
        if item.vain or (item.high is None and (_has_empty(item.group) if item.group else item.name in writes_nothing))
    ]
    nodes = _nodes(grammar)
    circles = _in_circles(_firsts(nodes, _nullable(nodes)))
    names = [node for node in circles if isinstance(node, str)]
    return found + [(grammar.places[name], f"the rule {name} starts with itself (left recursion)") for name in names]


def _has_empty(rule: Alternatives) -> bool:
    """Whether one of its alternatives is written empty."""
    return any(all(item.empty for item in sequence) for sequence in rule)


def _nodes(grammar: Grammar) -> dict[_Node, Alternatives]:
    """All rules and groups."""
    nodes: dict[_Node, Alternatives] = {}
    nodes.update(grammar.rules)
    for rule in grammar.rules.values():
        nodes.update((id(item.group), item.group) for item in all_items(rule) if item.group is not None)
    return nodes


def _node(item: GrammarItem) -> _Node | None:
    """The rule or group that an item refers to; None for characters and tokens."""
    return id(item.group) if item.group is not None else item.name or None


def _nullable(nodes: Mapping[_Node, Alternatives]) -> set[_Node]:
    """The rules and groups that may be empty."""
    waiting: dict[_Node, list[list[_Node]]] = {}  # sequences by one of their parts that is not known to be nullable
    found: set[_Node] = set()
    todo: list[_Node] = []

    def settle(owner: _Node, parts: list[_Node]) -> None:
        """`parts`: what must be nullable for the owner to be."""
        while parts and parts[-1] in found:
            parts.pop()
        if parts:
            waiting.setdefault(parts[-1], []).append([*parts, owner])
        elif owner not in found:
            found.add(owner)
            todo.append(owner)

    for owner, rule in nodes.items():
        for sequence in rule:
            needed = [(item, _node(item)) for item in sequence if item.low and not item.empty]
            if all(node is not None for _, node in needed):
                settle(owner, [node for _, node in needed if node is not None])
    while todo:
        for *parts, owner in waiting.pop(todo.pop(), ()):
            settle(owner, parts)
    return found


def _firsts(nodes: Mapping[_Node, Alternatives], nullable: set[_Node]) -> dict[_Node, list[_Node]]:
    """For each rule and group, those that may be at its beginning."""
    found: dict[_Node, list[_Node]] = {}
    for owner, rule in nodes.items():
        found[owner] = []
        for sequence in rule:
            for item in sequence:
                node = _node(item)
                if node is not None:
                    found[owner].append(node)
                if item.low and not item.empty and node not in nullable:
                    break
    return found


def _in_circles(edges: Mapping[_Node, list[_Node]]) -> list[_Node]:
    """The nodes that are part of a cycle, by Tarjan's algorithm without recursion."""
    number: dict[_Node, int] = {}
    lowest: dict[_Node, int] = {}
    stack: list[_Node] = []
    on_stack: set[_Node] = set()
    found: list[_Node] = []
    for root in edges:
        if root in number:
            continue
        ways: list[tuple[_Node, Iterator[_Node]]] = [(root, iter(edges[root]))]
        number[root] = lowest[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while ways:
            node, following = ways[-1]
            for child in following:
                if child not in number:
                    number[child] = lowest[child] = len(number)
                    stack.append(child)
                    on_stack.add(child)
                    ways.append((child, iter(edges[child])))
                    break
                if child in on_stack:
                    lowest[node] = min(lowest[node], number[child])
            else:
                ways.pop()
                if ways:
                    lowest[ways[-1][0]] = min(lowest[ways[-1][0]], lowest[node])
                if lowest[node] == number[node]:
                    part = [stack.pop()]
                    while part[-1] != node:
                        part.append(stack.pop())
                    on_stack.difference_update(part)
                    if len(part) > 1 or node in edges[node]:
                        found += part
    return found
