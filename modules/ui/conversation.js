// The page's script for the conversation: unsent texts, the picked message, pictures of other hosts. After page.js.

Object.assign(Page, {
  // --- what is typed belongs to its chat: it is in the box again on return to it, and after a reload, wanted or not ---
  box: () => document.querySelector('#message textarea'),
  // {chat, text, fresh}, the oldest first; fresh: the chat has no file yet, so any new chat gets it
  unsent: null, // as stored: the storage is this window's own, and read once
  drafts: () => Page.unsent ??= Storages.list('sessionStorage', 'drafts').filter((each) => typeof each?.text === 'string'),
  shownChat: () => ({
    chat: document.querySelector('#chat-title [data-menu]')?.dataset.menu ?? '',
    fresh: !document.querySelector('#chat-title h1')?.dataset.drafts,
  }),
  keepDraft(text, instead) { // false if there is no room for it; `instead`: the draft whose text this was
    const here = Page.shownChat();
    const others = Page.drafts().filter((each) => ![here.chat, instead?.chat].includes(each.chat));
    const drafts = [...others, ...(text.trim() ? [{ ...here, text }] : [])].slice(-40);
    if (!Storages.keep('sessionStorage', 'drafts', JSON.stringify(drafts))) return false;
    Page.unsent = drafts;
    return true;
  },
  draftHere() {
    const [here, kept] = [Page.shownChat(), Page.drafts()];
    return kept.find((each) => each.chat === here.chat) ?? (here.fresh ? kept.findLast((each) => each.fresh) : undefined);
  },
  clicked: 0, // how often a chat in the list was: of several clicks before an answer, the last one counts
  begun: 0, // the click whose chat is being opened
  emptying: false, // by the program: what stood in the box is kept
  emptyBox() {
    Page.emptying = true;
    Page.put('');
    Page.emptying = false;
  },
  leaveDraft() { // another chat is being opened
    const box = Page.box();
    if (box?.value && Page.keepDraft(box.value)) Page.emptyBox();
  },
  restoreDraft() { // with what was typed while the chat was being opened
    const [draft, typed] = [Page.draftHere(), Page.box()?.value ?? ''];
    const text = [draft?.text, typed].filter((each, at) => each?.trim() && !(at && each === draft?.text)).join('\n');
    if (!text) return;
    if (text !== typed) Page.put(text);
    Page.keepDraft(text, draft);
  },
  restoreSent() { // what was sent but never arrived: what arrived is no longer in 'sent', see answers.js
    const [sent, chat] = ['sent', 'sent-to'].map((key) => sessionStorage.getItem(key));
    const here = Page.shownChat();
    if (!sent || !(here.fresh || here.chat === chat)) return;
    sessionStorage.removeItem('sent');
    if (Page.blank() && !Page.draftHere()) Page.put(sent);
  },
  tellLost() { // instead of gradio's own sentence; the page is reloaded as soon as the program answers
    const toast = [...document.querySelectorAll('.toast-body')].find((each) => each.textContent.includes('Attempting reconnection'));
    if (!toast) return;
    for (const [part, text] of [['.toast-title', TEXTS.lost], ['.toast-message-text', TEXTS.lost_about]]) {
      const shown = toast.querySelector(part);
      if (shown) shown.textContent = text;
    }
  },

  // --- the picked message: its buttons stand below it, its editor in its place ---
  pausing: 0, // until what is typed is counted
  wanted: null, // the part that a key has opened, until it has the focus and another key or a click follows
  focus() {
    const part = document.getElementById(Page.wanted);
    const idle = document.activeElement === document.body || document.activeElement?.matches('#column .selectable');
    if (part?.offsetParent && idle) part.focus();
  },
  anchor() {
    Page.focus();
    const [bar, editor] = ['message-bar', 'message-editing'].map((id) => document.getElementById(id));
    const open = [editor, bar].find((part) => part?.offsetParent);
    const place = document.querySelector('#message-what p')?.dataset; // which message it is
    const rows = open && place ? document.querySelectorAll(`#${place.part} .message-row`) : [];
    const row = rows[place?.at] ?? rows[rows.length - 1];
    for (const old of document.querySelectorAll('#column [data-picked]')) {
      if (old !== row) { old.removeAttribute('data-picked'); old.style.removeProperty('--room'); }
    }
    if (!row) return;
    row.dataset.picked = open === editor ? 'editing' : 'picked';
    row.style.setProperty('--room', `${open.offsetHeight}px`);
    const column = document.getElementById('column').getBoundingClientRect().top;
    const box = row.firstElementChild.getBoundingClientRect();
    open.style.top = `${(open === editor ? box.top : box.bottom + 4) - column}px`;
    if (editor && open === editor && bar) bar.style.top = '-999px';
    if (open.dataset.seen) return;
    open.dataset.seen = 'yes';
    const moved = new ResizeObserver(Page.anchor);
    for (const part of [open, document.getElementById('column')]) moved.observe(part);
    open.scrollIntoView({ block: 'nearest' });
  },
  more() { document.getElementById('reply-actions').toggleAttribute('data-more'); },
  dismiss() {
    Storages.keep('localStorage', 'noticed', document.getElementById('notice-text').textContent);
    Page.noticed();
  },
  noticed() { // a notice that was dismissed in this browser
    const text = document.getElementById('notice-text');
    document.getElementById('notice')?.toggleAttribute('data-noticed', text?.textContent === localStorage.getItem('noticed'));
  },
  grown(box) { // a long message has the whole width, and the button stands below it
    box.closest('#ask').toggleAttribute('data-grown', box.value.length > 0 && box.scrollHeight > 56);
  },

  // --- pictures of other hosts, which the page does not load ---
  unloaded(event) {
    const picture = event.target;
    if (picture.tagName !== 'IMG' || !picture.closest('#column .prose, .rendered')) return;
    const url = new URL(picture.src, location);
    if (url.host === location.host) return;
    const words = TEXTS.picture.replace('{host}', url.host) + (picture.alt ? `: ${picture.alt}` : '');
    picture.replaceWith(Object.assign(document.createElement('span'), { className: 'unloaded', textContent: words }));
  },
});

document.addEventListener('error', Page.unloaded, true);
document.addEventListener('pointerdown', () => { Page.wanted = null; }, true);
document.addEventListener('input', (event) => {
  if (!event.target.closest?.('#message')) return;
  if (!Page.opening.size && !Page.emptying) Page.keepDraft(event.target.value);
  Page.grown(event.target);
  clearTimeout(Page.pausing);
  Page.pausing = setTimeout(() => document.getElementById('message-typed')?.click(), 400);
});
document.addEventListener('click', (event) => {
  if (event.target.closest('#chat-list [data-pick]')) Page.clicked += 1;
  if (event.target.closest('[data-dismiss]')) Page.dismiss();
}, true);
