"""The tree of messages, compared with a very simple model of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from errors import NotFound, NothingToDo
from modules.chat.conversation import Conversation, Message
from modules.chat.formats.conversation_file import dump_conversation, parse_conversation

TEXTS = st.text('ab<&\n"é ', max_size=4)


class Tree(RuleBasedStateMachine):
    """The reference: every message is a list [text, role, children, chosen]; the shown branch is walked from the
    root.
    """

    ids = Bundle("ids")

    @initialize(target=ids)
    def start(self) -> object:
        self.conversation = Conversation("instruct/x")
        self.root: dict = {"id": None, "children": [], "chosen": None, "parent": None}
        self.nodes: dict[str | None, dict] = {None: self.root}
        return multiple()

    @rule(target=ids, parent=st.one_of(st.none(), ids), role=st.sampled_from(["user", "assistant"]), text=TEXTS)
    def add(self, parent: str | None, role: str, text: str) -> object:
        if parent not in self.nodes:
            return multiple()
        message = self.conversation.add(role, text, parent, created=1.0)
        node = {"id": message.id, "role": role, "text": text, "children": [], "chosen": None, "parent": parent}
        self.nodes[message.id] = node
        self.nodes[parent]["children"].append(message.id)
        self._select(message.id)
        return message.id

    @rule(id=ids)
    def select(self, id: str) -> None:
        if id in self.nodes:
            self.conversation.select(id)
            self._select(id)

    @rule(id=ids, text=TEXTS)
    def set_text(self, id: str, text: str) -> None:
        if id in self.nodes:
            self.conversation.set_text(id, text)
            self.nodes[id]["text"] = text

    @rule(id=ids)
    def end_at(self, id: str) -> None:
        if id in self.nodes:
            self.conversation.end_at(id)
            self._select(id)
            self.nodes[id]["chosen"] = None

    @rule(id=consumes(ids))
    def remove(self, id: str) -> None:
        if id not in self.nodes:
            with pytest.raises(NotFound):
                self.conversation.remove(id)
            return
        taken = self.conversation.remove(id)
        assert [message.id for message in taken] == self._below(id)
        parent = self.nodes[self.nodes[id]["parent"]]
        parent["children"].remove(id)
        if parent["chosen"] == id:
            parent["chosen"] = None
        for each in self._below(id):
            del self.nodes[each]

    @rule(id=ids)
    def remove_and_restore(self, id: str) -> None:
        if id in self.nodes:
            self.conversation.restore(self.conversation.remove(id))
            siblings = self.nodes[self.nodes[id]["parent"]]["children"]
            siblings.remove(id)
            siblings.append(id)
            for each in self._below(id):  # what was chosen below is chosen again: the first child each time
                children = self.nodes[each]["children"]
                self.nodes[each]["chosen"] = children[0] if children else None
            self._select(id)

    @rule()
    def through_the_file(self) -> None:
        self.conversation = parse_conversation("instruct/x", dump_conversation(self.conversation), 0.0)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "root"):
            return
        shown, at = [], self.root
        while at["chosen"] is not None:
            at = self.nodes[at["chosen"]]
            shown.append((at["id"], at["role"], at["text"]))
        assert [(each.id, each.role, each.text) for each in self.conversation.path()] == shown
        assert {each.id for each in self.conversation} == set(self.nodes) - {None}
        for id, node in self.nodes.items():
            assert self.conversation.children(id) == node["children"]
            for child in node["children"]:
                assert self.conversation.versions(child) == node["children"]

    def _select(self, id: str) -> None:
        at = self.nodes[id]
        while at["id"] is not None:
            parent = self.nodes[at["parent"]]
            parent["chosen"] = at["id"]
            at = parent

    def _below(self, id: str) -> list[str]:
        return [id] + [each for child in self.nodes[id]["children"] for each in self._below(child)]


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def talk(*texts: str) -> tuple[Conversation, list[Message]]:
    conversation = Conversation("instruct/x")
    messages: list[Message] = []
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        messages.append(conversation.add(role, text, messages[-1].id if messages else None))
    return conversation, messages


def test_versions_of_a_reply_and_the_way_back() -> None:
    conversation, (question, answer) = talk("q", "a1")
    other = conversation.add("assistant", "a2", question.id)
    assert conversation.versions(other.id) == [answer.id, other.id]
    assert conversation.last() == other
    conversation.select(answer.id)
    assert [message.text for message in conversation.path()] == ["q", "a1"]


def test_a_branch_keeps_what_was_chosen_further_down() -> None:
    conversation, messages = talk("q1", "a1", "q2", "a2")
    edited = conversation.add("user", "q1 again", None)
    assert conversation.path() == [edited]
    conversation.select(messages[0].id)
    assert conversation.path() == messages


def test_remove_last_takes_the_question_with_its_replies() -> None:
    conversation, messages = talk("q1", "a1", "q2", "a2")
    taken = conversation.remove_last()
    assert [message.text for message in taken] == ["q2", "a2"]
    conversation.restore(taken)
    assert conversation.path() == messages


def test_remove_last_takes_an_unanswered_question_alone() -> None:
    conversation, messages = talk("q1", "a1", "q2")
    conversation.remove_last()
    assert conversation.path() == messages[:2]


def test_a_greeting_is_never_removed() -> None:
    conversation = Conversation("chat/A/x")
    conversation.add("assistant", "Hello", greeting=True)
    with pytest.raises(NothingToDo):
        conversation.remove_last()
    with pytest.raises(NothingToDo):
        Conversation("instruct/x").remove_last()


def test_a_message_that_is_gone_is_a_sentence() -> None:
    conversation, messages = talk("q")
    conversation.remove(messages[0].id)
    for act in (conversation.select, conversation.remove, conversation.versions, conversation.end_at):
        with pytest.raises(NotFound, match="no longer exists"):
            act(messages[0].id)
