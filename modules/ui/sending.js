// The page's script for sending: the message is in the conversation at once, in a row of ours below the last exchange,
// until the server's own row is there. The box is emptied at once, too: what is typed from then on is the next message.
// After conversation.js.

const Sending = {
  // {text, chat, row, joined, answered}; row: null where none is shown; joined: its event is on its way; answered: the
  // server shows it now, or has refused it
  messages: [],

  begin() { // gradio calls this with the values of the event, before it sends them
    const box = Page.box();
    if (!box) return;
    const { chat } = Page.shownChat();
    const message = { text: box.value, chat, row: null, joined: false, answered: false };
    Storages.keep('sessionStorage', 'sent', message.text); // for a reload before it arrives: see restoreSent
    Storages.keep('sessionStorage', 'sent-to', chat);
    // the server refuses a message while it writes a reply in this chat
    const busy = document.querySelector('#reply-facts .working') || Sending.messages.some((each) => each.row && each.chat === chat);
    Sending.messages.push(message);
    if (!busy && message.text.trim()) Sending.show(message);
    Page.put('');
  },

  // --- the row: what the conversation looks like a moment later, with an empty reply ---
  show(message) {
    const tail = document.getElementById('tail');
    if (!tail) return;
    message.row = Object.assign(document.createElement('div'), { className: 'sending' });
    for (const part of [Sending.bubble('user', message.text), Sending.bubble('bot', '')]) message.row.append(part);
    tail.after(message.row);
    Sending.watch();
    Sending.place();
  },
  bubble(side, text) { // the classes are gradio's, for the style sheets
    const make = (className, ...parts) => {
      const made = Object.assign(document.createElement('div'), { className });
      made.append(...parts);
      return made;
    };
    const paragraphs = text.trim().split(/\n[ \t]*\n\s*/).filter(Boolean).map((each) => {
      return Object.assign(document.createElement('p'), { textContent: each }); // whatever it contains: it is text
    });
    return make(`message-row ${side}-row`, make('flex-wrap', make('', make('message', make('prose', ...paragraphs)))));
  },
  place() { // in sight where its chat is
    const { chat } = Page.shownChat();
    const column = document.getElementById('column');
    for (const { row, chat: own } of Sending.messages) if (row) row.hidden = own !== chat;
    column?.toggleAttribute('data-sending', Sending.messages.some(({ row }) => row && !row.hidden));
  },
  drop(message) {
    message.row?.remove();
    message.row = null;
    if (!Sending.messages.some(({ row }) => row)) Sending.watching?.disconnect();
    Sending.place();
  },

  // --- replaced: before the browser paints what the server has changed ---
  watching: null,
  watch() {
    Sending.watching ??= new MutationObserver((changes) => {
      const shown = changes.some(({ target }) => (target.closest ? target : target.parentElement)?.closest('#tail, #history'));
      if (shown) for (const each of Sending.messages) if (each.row && each.answered) Sending.drop(each);
      Sending.place();
    });
    Sending.watching.observe(document.getElementById('talk'), { childList: true, characterData: true, subtree: true });
  },

  // --- from answers.js ---
  joining(body) { // the message that an event of Send sends now
    const message = Sending.messages.find((each) => !each.joined && body.includes(JSON.stringify(each.text)));
    if (message) message.joined = true;
    return message ?? null;
  },
  answered(message) {
    if (!message.answered) sessionStorage.removeItem('sent');
    message.answered = true;
  },
  failed(message) { // the server was not reached, or took no event: what was sent stands before what was typed since
    const index = Sending.messages.indexOf(message);
    if (index >= 0) Sending.messages.splice(index, 1);
    Sending.drop(message);
    if (Page.shownChat().chat !== message.chat) return; // it comes back with its chat: see restoreSent
    sessionStorage.removeItem('sent');
    Page.put(Sending.before(message.text, Page.box().value));
  },
  before: (text, typed) => [text, typed].filter((each) => each.trim()).join('\n'),
  ended() { // an event of Send has ended, and all that it changes is shown
    for (const each of Sending.messages.filter(({ answered }) => answered)) Sending.drop(each);
    Sending.messages = Sending.messages.filter(({ answered }) => !answered);
  },
};
window.Sending = Sending;
