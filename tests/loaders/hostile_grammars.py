"""Grammars that take extremely long, by name: for the tests and for bench/hostile.py."""

from __future__ import annotations


def chain(count: int, rule: str, last: str) -> str:
    """This many rules, each `rule` with `next` as a placeholder for the following one."""
    lines = [f"r{i} ::= {rule.replace('next', f'r{i + 1}')}" for i in range(count)]
    return "\n".join(["root ::= r0", *lines, f"r{count} ::= {last}"]) + "\n"


HOSTILE = {
    **{f"doubling, {depth} deep": chain(depth, "next next | next", "[a-z ]") for depth in (4, 12, 40)},
    "the same twice, 40 deep": chain(40, "next | next", "[a-z ]"),
    "nullable doubling": chain(30, "next next | next | ", "[a-z ]"),
    "nested repetitions": 'root ::= a{0,1000}\na ::= b{0,1000}\nb ::= "x"?\n',
    "300,000 alternatives": "root ::= " + " | ".join(['"a"'] * 300_000),
    "30,000 alternatives": "root ::= " + " | ".join(['"a"'] * 30_000),
    "10,000 different alternatives": "root ::= " + " | ".join(f'"{chr(0x4E00 + i)}{i}"' for i in range(10_000)),
    "3,000 optional parts": "root ::= " + " ".join(['"a"?'] * 3000),
    "optional parts, repeated": "root ::= (a " + "a? " * 40 + ")+\na ::= [a-z]+\n",
    "64 repetitions in a row": "root ::= " + "a " * 16 + "\na ::= b b b b\nb ::= [a-z]*\n",
    "50,000 rules in a chain": chain(50_000, "next", "[a-z ]"),
    "19,000 rules in a chain": chain(19_000, 'next "x" | next', "[a-z ]"),
    "1,000 ways for a character": "root ::= s\ns ::= "
    + " | ".join(f"a{i} s" for i in range(1000))
    + " | a0\n"
    + "".join(f"a{i} ::= [ a-z\\u{0x4E00 + i:04x}]\n" for i in range(1000)),
    "sets of 20,000 ranges": "root ::= " + "[" + "".join(f"\\U{i * 2 + 256:08x}" for i in range(20_000)) + "]*",
    "deep parentheses": "root ::= " + "(" * 150 + '"a"?' + ")*" * 150,
    "a rule that begins with itself": chain(9000, "next | root", '"a"'),
}
