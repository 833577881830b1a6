"""Adds the sandbox's counting and checks to the Python code that jinja2 generates from a template.

jinja2 compiles loops, comparisons, slices and so on to plain Python, which no sandbox can intercept. Here they call the
environment first. Nothing is added if the source shows that it is cheap. This module knows the names of the
environment's methods (`spend`, `operand`, `searched`, `copied`, `sliced`, `listed`, `joined`), and nothing of what they
do.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser

from modules.prompts.sandbox import limits

#: Several times the longest template of a published model: compiling that much takes a second at most.
MOST_TOKENS = 20_000
_FEW = 8  # entries of a list that costs practically nothing


class GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: marks what a trainer learns from; here only its content counts."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class SourceBound(Extension):
    """Refuses a source that would take long to compile, as early as possible."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for count, token in enumerate(stream):
            if count >= MOST_TOKENS:
                raise TemplateSyntaxError(f"it is longer than {MOST_TOKENS:,} tokens of Jinja code", token.lineno)
            yield token


class GuardedCode(CodeGenerator):
    """The code generator of jinja2, with checks for what would bypass the sandbox."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802  jinja2's names
        step = nodes.EnvironmentAttribute("spend()", lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        if node.test:  # it also runs for entries that the body never sees
            node.test = nodes.And(step, node.test, lineno=node.lineno)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.joined((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        left = node.expr
        guards = [""] * (1 + len(node.ops))
        for place, operand in enumerate(node.ops):
            right = operand.expr
            if operand.op in ("in", "notin"):
                if not _is_plain(right):
                    guards[place] = guards[place] or ("" if _is_scalar(left) else "operand")
                    guards[place + 1] = "searched" if _is_scalar(left) else "operand"
            elif not (_is_scalar(left) or _is_scalar(right)):
                guards[place : place + 2] = ["operand"] * 2
            left = right
        self.write("(")
        self._guarded(guards[0], node.expr, frame)
        for guard, operand in zip(guards[1:], node.ops, strict=True):
            self.write(f" {operators[operand.op]} ")
            self._guarded(guard, operand.expr, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.sliced(")
            self._guarded("copied", node.node, frame)
            self.write("[")
            self.visit(node.arg, frame)
            self.write("])")
            return
        self.write("environment.getitem(")
        self.visit(node.node, frame)
        self.write(", ")
        self._guarded("" if _is_scalar(node.arg) else "operand", node.arg, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        small = _is_plain(node) and len(node.items) <= _FEW
        self.write("" if small else "environment.listed(")
        super().visit_List(node, frame)
        self.write("" if small else ")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        small = node.ctx != "load" or _is_plain(node)  # a target of an assignment; a constant, which is created once
        self.write("" if small else "environment.listed(")
        super().visit_Tuple(node, frame)
        self.write("" if small else ")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self.write("environment.listed({")
        for pair in node.items:
            self._guarded("" if _is_scalar(pair.key) else "operand", pair.key, frame)
            self.write(": ")
            self.visit(pair.value, frame)
            self.write(", ")
        self.write("})")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802
        limits.check_size(node.value)
        super().visit_Const(node, frame)

    def _guarded(self, guard: str, node: nodes.Node, frame: Frame) -> None:
        if guard:
            self.write(f"environment.{guard}(")
        self.visit(node, frame)
        if guard:
            self.write(")")


def _is_scalar(node: nodes.Node) -> bool:
    """Whether it is a literal and cheap to compare with anything."""
    if isinstance(node, nodes.Neg):
        node = node.node
    return isinstance(node, nodes.Const)


def _is_plain(node: nodes.Node) -> bool:
    """A literal list: its contents are as small as the source."""
    return isinstance(node, nodes.List | nodes.Tuple) and all(_is_scalar(each) for each in node.items)
