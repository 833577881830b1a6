"""The chat's actions in a real browser: editing and versions, search and deletion, characters, templates."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from modules.chat.formats.character_cards import read_card
from tests.ui.conftest import Web, until

QUESTION = "Tell me the capital of France."
#: Where it does not matter that the model said it.
EXCHANGE = (QUESTION, "The capital of France is Paris.")


def test_a_message_is_edited_and_the_edit_taken_back(web: Web) -> None:
    web.kept(EXCHANGE)
    page = web.page
    page.locator("#tail .user-row .prose").click()
    expect(page.locator("#message-what")).to_contain_text("Your message, 1 of 2")
    page.locator("#message-edit").click()
    expect(page.locator("#message-text textarea")).to_have_value(QUESTION)
    page.locator("#message-text textarea").fill("Changed words")
    page.locator("#message-save").click()
    expect(page.locator("#tail .user-row")).to_contain_text("Changed words")
    expect(web.reply).to_contain_text("Paris")
    page.locator("#chat-undo").click()
    expect(page.locator("#tail .user-row")).to_contain_text(QUESTION)


def test_versions_of_a_reply_are_walked(web: Web) -> None:
    page = web.page
    web.new_chat()
    web.ask(QUESTION)
    expect(page.locator("#version-earlier")).to_be_hidden()
    page.locator("#regenerate").click()
    expect(page.locator("#version-earlier")).to_have_text("‹ 2 of 2")
    page.locator("#version-earlier").click()
    expect(page.locator("#version-earlier")).to_have_text("‹ 1 of 2")
    expect(page.locator("#version-earlier")).to_be_disabled()
    page.locator("#version-later").click()
    expect(page.locator("#version-earlier")).to_have_text("‹ 2 of 2")


def test_a_branch_is_another_chat(web: Web) -> None:
    web.kept(EXCHANGE)
    page = web.page
    before = page.locator("#chat-list [data-pick]").count()
    page.locator("#tail .bot-row .prose").click()
    page.locator("#message-branch").click()
    expect(page.locator("#chat-title")).to_contain_text("(branch)")
    expect(page.locator("#chat-list [data-pick]")).to_have_count(before + 1)
    expect(web.reply).to_contain_text("Paris")


def test_words_are_put_in_without_the_model(web: Web) -> None:
    page = web.page
    web.new_chat()
    page.keyboard.press("Control+s")
    box = page.locator("#message textarea")
    box.fill("A dummy message")
    page.locator("#dummy-message").click()
    expect(page.locator("#tail .user-row")).to_contain_text("A dummy message")
    box.fill("A dummy reply")
    page.locator("#dummy-reply").click()
    expect(web.reply).to_contain_text("A dummy reply")
    box.fill("Another reply")
    page.locator("#replace-last").click()
    expect(web.reply).to_contain_text("Another reply")
    expect(box).to_have_value("")
    box.fill("Tell me")
    page.locator("#impersonate").click()
    page.wait_for_function("document.querySelector('#message textarea').value.length > 12")
    expect(page.locator("#send")).to_be_visible()


def test_chats_are_named_found_deleted_and_restored(web: Web) -> None:
    web.kept(["Where do zebras sleep?", "On their feet."])
    page = web.page
    web.menu()
    page.locator("#chat-rename").click()
    page.locator("#chat-name input, #chat-name textarea").fill("About stripes")
    page.locator("#chat-rename-now").click()
    expect(page.locator("#chat-title")).to_contain_text("About stripes")
    web.new_chat()
    page.locator("#chat-search input, #chat-search textarea").fill("zebras SLEEP")
    expect(page.locator("#chat-list [data-pick]")).to_have_count(1)
    page.locator("#chat-list [data-pick]").click()
    expect(page.locator("#chat-title")).to_contain_text("About stripes")
    web.menu()
    page.locator("#chat-delete").click()
    page.locator("#chat-delete-now").click()
    expect(page.locator("#chat-title")).not_to_contain_text("About stripes")
    page.locator("#chat-search input, #chat-search textarea").fill("")
    until(lambda: len(web.app.archive.trash()) > 0)
    page.locator("#chat-files > button").click()
    page.locator("#chat-trash [data-pick]", has_text="About stripes").click()
    until(lambda: any(info.title == "About stripes" for info in web.app.chats.list()))


def test_a_character_is_made_and_talked_to(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.get_by_role("tab", name="Character", exact=True).click()
    page.locator("#character-new").click()
    expect(page.locator("#character-called input, #character-called textarea")).to_have_value("")
    page.locator("#character-file input, #character-file textarea").fill("Fox")
    page.locator("#character-called input, #character-called textarea").fill("Fennec")
    page.locator("#character-greeting textarea").fill("Hello {{user}}, I am {{char}}.")
    page.locator("#character-context textarea").fill("{{char}} is a small fox.")
    page.locator("#character-save").click()
    expect(page.locator("#gallery [data-pick=Fox]")).to_be_visible()
    web.tab("chat")
    page.keyboard.press("Control+s")
    page.locator("#mode label", has_text="chat-instruct").click()
    page.locator("#character input").click()
    page.get_by_role("option", name="Fox", exact=True).click()
    expect(page.locator("#column")).to_contain_text("Hello You, I am Fennec.")
    web.ask("Who are you?")
    prompt = web.app.chats.list("chat", "Fox")
    assert len(prompt) == 1
    page.locator("#mode").get_by_label("instruct", exact=True).click()
    expect(page.locator("#column")).not_to_contain_text("Fennec")


def bring(page: Page, name: str, data: bytes) -> None:
    with page.expect_file_chooser() as asked:
        page.locator("#character-upload").click()
    asked.value.set_files({"name": name, "mimeType": "application/json", "buffer": data})


def test_one_talks_at_once_to_a_card_that_was_brought_in(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.get_by_role("tab", name="Character", exact=True).click()
    bring(page, "bea.json", json.dumps({"data": {"name": "Bea", "first_mes": "Hey."}}).encode())
    page.locator(".toast-body button", has_text="Chat with this character").click()
    expect(page.locator("#tab-chat")).to_be_visible()
    expect(page.locator("#column")).to_contain_text("Hey.")
    expect(page.locator("#who")).to_contain_text("Bea")


def test_a_bad_card_gets_a_sentence(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.get_by_role("tab", name="Character", exact=True).click()
    bring(page, "x.json", b"{}")
    expect(page.locator(".toast-body").last).to_contain_text("does not contain a character")
    bring(page, "aria.json", json.dumps({"data": {"name": "Aria", "first_mes": "Ahoy."}}).encode())
    expect(page.locator("#gallery [data-pick=Aria]")).to_be_visible()
    page.locator("#gallery [data-pick=Aria]").click()
    expect(page.locator("#character-called input, #character-called textarea")).to_have_value("Aria")
    taken = handed_out(page, "#character-card")
    assert taken[0] == "Aria.png"
    assert read_card(taken[1]).text("first_mes") == "Ahoy."


def handed_out(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as asked:
        page.locator(button).click()
    return asked.value.suggested_filename, Path(asked.value.path()).read_bytes()


def test_a_chat_is_taken_out(web: Web) -> None:
    web.kept(EXCHANGE)
    page = web.page
    page.locator("#chat-files > button").click()
    name, data = handed_out(page, "#chat-export")
    assert name.endswith(".json")
    assert json.loads(data)["internal"][0][0] == QUESTION
    name, data = handed_out(page, "#chat-export-lines")
    assert name.endswith(".jsonl")
    head, asked, _ = [json.loads(line) for line in data.decode().splitlines()]
    assert head["character_name"] == "Assistant"
    assert asked["mes"] == QUESTION


def test_a_template_is_seen_at_work(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.get_by_role("tab", name="Instruction template", exact=True).click()
    expect(page.locator("#template-in-use")).to_contain_text("from the GGUF")
    expect(page.locator("#template-preview")).to_contain_text("<|im_start|>user")
    field = page.locator("#template-text textarea")
    field.fill("{% for message in messages %}{{ message['content'] }}\n{% endfr %}")
    expect(page.locator("#template-preview .warning")).to_contain_text("line 2")
    field.fill("{% for message in messages %}### {{ message['role'] }}: {{ message['content'] }}\n{% endfor %}")
    expect(page.locator("#template-preview")).to_contain_text("###·user:·Input")
    page.locator("#template-to-notebook").click()
    expect(page.locator("#notebook-field textarea")).to_have_value("### user: Input\n")
    web.tab("parameters")
    page.locator("#template-clear").click()
    expect(page.locator("#template-in-use")).to_contain_text("from the GGUF")


def test_what_the_model_got_can_be_seen(web: Web) -> None:
    page = web.page
    web.new_chat()
    web.ask(QUESTION)
    page.locator("#more-actions").click()
    page.locator("#show-prompt").click()
    sheet = page.locator("#prompt-shown")
    expect(page.locator("#prompt-of")).to_contain_text(web.reply.inner_text()[:20])
    expect(sheet.locator("pre")).to_contain_text("<|im_start|>user")
    expect(sheet.locator("pre .p-user")).to_have_text(QUESTION)
    expect(sheet).to_contain_text("from the GGUF")
    page.keyboard.press("Escape")
    expect(page.locator("#prompt-view")).to_be_hidden()
    page.locator("#tail .bot-row .selectable").press("Enter")  # from the keyboard, for any message
    page.locator("#message-prompt").click()
    expect(sheet.locator("pre .p-user")).to_have_text(QUESTION)
    page.locator("#prompt-close").click()
    page.locator("#tail .user-row .prose").click()
    expect(page.locator("#message-what")).to_contain_text("Your message")
    expect(page.locator("#message-prompt")).to_be_hidden()


def test_the_look_and_the_name_are_this_browsers(web: Web) -> None:
    web.kept(EXCHANGE)
    page = web.page
    page.keyboard.press("Control+s")
    page.locator("#chat-style input").click()
    page.get_by_role("option", name="Messenger", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-chat-style", "messenger")
    name = page.locator("#your-name input, #your-name textarea")
    name.fill("Ann")
    page.locator("#your-bio textarea").fill("I climb.")
    page.wait_for_function("getComputedStyle(document.body).getPropertyValue('--your-name') === '\"Ann\"'")
    page.reload()
    web.ready()
    expect(page.locator("body")).to_have_attribute("data-chat-style", "messenger")
    page.wait_for_function("getComputedStyle(document.body).getPropertyValue('--your-name') === '\"Ann\"'")
    expect(page.locator("#your-bio textarea")).to_have_value("I climb.")


def test_a_template_is_kept_for_the_model(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.get_by_role("tab", name="Instruction template").click()
    field = page.locator("#template-text textarea")
    expect(page.locator("#template-in-use")).to_contain_text("from the GGUF")
    field.fill("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    page.locator("#template-keep").click()
    expect(page.locator("#template-in-use")).to_contain_text("saved for this model in config-user.yaml")
    expect(field).to_have_value("")
    page.locator("#template-keep").click()
    expect(page.locator("#template-in-use")).to_contain_text("from the GGUF")


def test_a_thought_folds_and_belongs_to_its_reply(web: Web) -> None:
    page = web.page
    web.new_chat()
    page.keyboard.press("Control+s")
    box = page.locator("#message textarea")
    box.fill("Capital of France?")
    page.locator("#dummy-message").click()
    expect(page.locator("#tail .user-row")).to_contain_text("Capital")
    box.fill("<think>France is in Europe.</think>It is Paris.")
    page.locator("#dummy-reply").click()
    expect(page.locator("#tail")).to_contain_text("Thought")
    expect(page.locator("#tail .prose", has_text="It is Paris.")).to_be_visible()
    expect(page.locator("#tail")).not_to_contain_text("<think>")
    expect(page.get_by_text("France is in Europe.")).to_be_hidden()
    page.locator("#tail").get_by_text("Thought").click()
    expect(page.get_by_text("France is in Europe.")).to_be_visible()
    page.locator("#tail .prose", has_text="It is Paris.").click()
    expect(page.locator("#message-what")).to_contain_text("Reply, 2 of 2")


def test_what_is_typed_after_sending_stays(web: Web) -> None:
    """The box is emptied by the browser, at once; the server's answer, however late, never writes into it."""
    page = web.page
    web.new_chat()
    box = page.locator("#message textarea")
    for text in ("One more thing", "and another"):
        box.fill(QUESTION)
        box.press("Enter")
        expect(box).to_have_value("")
        box.press_sequentially(text)
        web.done()
        expect(web.page.locator("#tail .user-row")).to_contain_text(QUESTION)
        expect(box).to_have_value(text)


def test_what_is_refused_comes_back(web: Web) -> None:
    page = web.page
    web.new_chat()
    web.app.chats.writing = lambda _: "busy"  # type: ignore[method-assign,assignment,return-value]
    try:
        page.locator("#message textarea").fill(QUESTION)
        page.locator("#message textarea").press("Enter")
        expect(page.locator("#message textarea")).to_have_value(QUESTION)
    finally:
        del web.app.chats.writing


def test_a_card_is_talked_to_from_where_it_is(web: Web) -> None:
    app = web.app
    (app.paths.characters / "Ada.yaml").write_text("name: Ada\ngreeting: Good day.\ncontext: Ada computes.\n", "utf-8")
    try:
        page = web.page
        web.tab("parameters")
        page.get_by_role("tab", name="Character").click()
        page.locator("#characters [data-pick='Ada']").click()
        expect(page.locator("#character-head")).to_contain_text("Ada")
        page.locator("#character-talk").click()
        expect(page.locator("#tab-chat")).to_be_visible()
        expect(page.locator("#tail")).to_contain_text("Good day.")
        expect(page.locator("#who")).to_contain_text("Ada")
        web.ask("Who are you?")
        expect(page.locator("#chat-others")).to_contain_text("1 here")
        page.locator("#chat-others").click()
        expect(page.locator("#chat-list")).to_contain_text("instruct")
    finally:
        (app.paths.characters / "Ada.yaml").unlink()


def test_only_the_latest_messages_of_a_long_chat_are_in_the_page(web: Web) -> None:
    made = web.kept([f"Message {number}." for number in range(600)])
    page, rows = web.page, web.page.locator("#column .message-row")
    web.new_chat()
    page.locator(f'#chat-list [data-pick="{made.id}"]').click()
    expect(page.locator("#tail")).to_contain_text("Message 599.")
    expect(rows).to_have_count(62)
    assert page.evaluate("document.querySelectorAll('*').length") < 5000
    page.locator("#history .user-row .prose", has_text="Message 594.").click()  # not the first: that adds more above it
    expect(page.locator("#message-what")).to_contain_text("595 of 600")
    page.locator("#message-close").click()
    page.locator("#reading").evaluate("(reading) => { reading.scrollTop = 0; }")  # more are added
    expect(rows).to_have_count(262)
    expect(page.locator("#history .message-row").first).to_contain_text("Message 338.")
    page.locator("#history .user-row .prose", has_text="Message 500.").click()
    expect(page.locator("#message-what")).to_contain_text("501 of 600")
    web.app.chats.delete(made.id)


def test_a_profile_sets_name_description_and_picture(web: Web) -> None:
    users = web.app.paths.users
    try:
        web.open()
        page = web.page
        page.evaluate("Page.toggleControls(true)")
        expect(page.locator("#profile")).to_be_hidden()
        page.locator("#your-name textarea, #your-name input").fill("Ann")
        page.locator("#your-bio textarea").fill("I climb.")
        page.locator("#profile-save").click()
        expect(page.locator("#profile input")).to_have_value("Ann")
        (users / "Bo.yaml").write_text("name: Bo B\nuser_bio: I row.\n", "utf-8")
        web.open()
        page.evaluate("Page.toggleControls(true)")
        for profile, name, bio in (("Bo", "Bo B", "I row."), ("Ann", "Ann", "I climb.")):
            page.locator("#profile input").click()
            page.get_by_role("option", name=profile, exact=True).click()
            expect(page.locator("#your-name textarea, #your-name input")).to_have_value(name)
            expect(page.locator("#your-bio textarea")).to_have_value(bio)
        (users / "Cy.yaml").write_text("- a list\n", "utf-8")
        web.open()
        page.evaluate("Page.toggleControls(true)")
        page.locator("#profile input").click()
        expect(page.get_by_role("option", name="Cy", exact=True)).to_be_visible()
        page.locator("#your-bio textarea").click()  # leaves the menu without a choice
        page.locator("#profile input").click()
        page.get_by_role("option", name="Cy", exact=True).click()
        expect(page.locator(".toast-body")).to_have_count(1)  # the file's error, once, and nothing before it
        expect(page.locator(".toast-body")).to_contain_text("Cy.yaml")
        expect(page.locator(".toast-body")).not_to_contain_text("(2)")
    finally:
        for path in users.iterdir():
            path.unlink()
