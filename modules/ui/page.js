// The page's own script: light or dark, scrolling with the reply, sidebars, shortcuts, copying.
// It is in the head, after START_DARK and TEXTS, and runs before anything is painted. Everything else is gradio's.

const Page = {
  // --- light and dark: this browser's choice, else the settings ---
  dark() {
    const kept = localStorage.getItem('theme');
    return kept ? kept === 'dark' : START_DARK;
  },
  paint() {
    const dark = Page.dark();
    for (const part of [document.documentElement, document.body]) {
      if (part && part.classList.contains('dark') !== dark) part.classList.toggle('dark', dark);
    }
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
    Page.paintFrames?.(); // not there yet at the first call
  },
  keptNames: (key) => Storages.list('localStorage', key).filter((each) => typeof each === 'string'),
  language() { // gradio sets the browser's language, but our texts are in the page's
    if (document.documentElement.lang !== TEXTS.language) document.documentElement.lang = TEXTS.language;
  },
  switchTheme() {
    Storages.keep('localStorage', 'theme', Page.dark() ? 'light' : 'dark');
    Page.paint();
  },

  // --- the reading column: follow the end only if it was in sight ---
  atEnd: true,
  follow(scroller) {
    const toEnd = () => { if (Page.atEnd) scroller.scrollTop = scroller.scrollHeight; };
    scroller.addEventListener('scroll', () => {
      Page.atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
      if (scroller.scrollTop < 400 && !Page.atEnd && !Page.adding) Page.addOlder();
    }, { passive: true });
    new ResizeObserver(toEnd).observe(scroller.querySelector('#column'));
    new ResizeObserver(toEnd).observe(scroller);
    toEnd();
  },
  keepPlace() { // while earlier messages are added above
    const scroller = document.getElementById('reading');
    const below = scroller.scrollHeight - scroller.scrollTop;
    Page.atEnd = false;
    const watch = new ResizeObserver(() => { scroller.scrollTop = scroller.scrollHeight - below; });
    watch.observe(scroller.querySelector('#history'));
    setTimeout(() => watch.disconnect(), 3000);
  },
  adding: false,
  addOlder() { // whoever scrolls up to the first message that is shown
    if (!document.getElementById('older')?.offsetParent) return;
    Page.adding = true;
    document.getElementById('older').click();
    setTimeout(() => { Page.adding = false; }, 1500);
  },
  toEnd() {
    Page.atEnd = true;
    const scroller = document.getElementById('reading');
    if (scroller) scroller.scrollTop = scroller.scrollHeight;
  },

  put(text) { // into the message box
    const box = document.querySelector('#message textarea');
    box.value = text;
    box.dispatchEvent(new Event('input', { bubbles: true }));
  },

  // --- opening a chat: a message sent meanwhile waits, and goes to that chat ---
  opening: new Set(), // the buttons in use: the same button pressed twice opens one chat
  held: false,
  giveUp: 0,
  late: new Set(), // those that were given up: they may still open a chat
  opens(what) {
    const first = !Page.opening.size;
    if (what === 'pick') Page.begun = Page.clicked;
    Page.opening.add(what); // from now on, what is typed is not for the chat that is shown
    if (first) Page.leaveDraft();
    clearTimeout(Page.giveUp); // if the server does not respond, the text stays and can be sent again
    Page.giveUp = setTimeout(() => {
      Page.late = new Set(Page.opening);
      Page.opening.clear();
      Page.held = false;
      Page.restoreDraft();
    }, 20000);
  },
  opened(what) {
    if (what === 'pick' && Page.begun !== Page.clicked) return; // another chat was clicked meanwhile: it comes now
    Page.opening.delete(what);
    if (Page.opening.size) return;
    clearTimeout(Page.giveUp);
    if (Page.late.delete(what)) Page.emptyBox(); // what stands there was kept for the chat before
    const held = Page.held;
    Page.held = false;
    if (held) return Page.sendHeld(40);
    if (what === 'load') Page.restoreSent();
    Page.restoreDraft();
  },
  sendHeld(tries) { // the button may take a moment to reappear
    const draft = Page.draftHere();
    if (Page.blank() || !tries) return Page.restoreDraft();
    if (Page.press('send')) return draft && setTimeout(() => { if (Page.blank()) Page.put(draft.text); }, 500);
    setTimeout(() => Page.sendHeld(tries - 1), 50);
  },
  hold() {
    if (Page.opening.size) Page.held = true;
    return Page.opening.size > 0;
  },

  // --- the bar of tabs, which scrolls in a narrow window: the chosen one is in sight ---
  tabChosen(changes) {
    for (const { target } of changes) {
      if (target.matches('[role="tab"][aria-selected="true"]')) target.scrollIntoView({ block: 'nearest', inline: 'center' });
    }
  },

  // --- sidebars ---
  narrow: () => matchMedia('(max-width: 860px)').matches,
  toggleChats(open) {
    const body = document.body;
    const mark = Page.narrow() ? 'chats-open' : 'chats-closed';
    const now = body.classList.contains(mark);
    body.classList.toggle(mark, open === undefined ? !now : open);
  },
  showChats() { Page.toggleChats(Page.narrow()); },
  closeDrawer() { document.body.classList.remove('chats-open'); },
  toggleExtensions(open) { document.body.classList.toggle('extensions-open', open); },
  toggleControls(open) { document.body.classList.toggle('controls-open', open); },

  // --- a delayed login, which gradio's form does not show ---
  tellLoginWait() {
    const real = window.fetch;
    window.fetch = async (what, how) => {
      const answer = await real(what, how);
      if (answer.status === 429 && new URL(answer.url).pathname.endsWith('/login')) {
        alert((await answer.clone().json()).error.message);
      }
      return answer;
    };
  },

  // --- a restart: wait until the new run responds, then load its page ---
  async restarting() {
    const note = Object.assign(document.createElement('div'), { id: 'restarting' });
    note.setAttribute('role', 'status');
    note.innerHTML = '<p><b></b><span></span></p>';
    const [title, about] = note.querySelectorAll('b, span');
    [title.textContent, about.textContent] = [TEXTS.restarting, TEXTS.restarting_about];
    document.body.append(note);
    const run = async () => (await (await fetch('gradio_api/app_id', { cache: 'no-store' })).json()).app_id;
    const before = await run().catch(() => null);
    for (const started = Date.now(); ;) {
      await new Promise((done) => { setTimeout(done, 400); });
      const now = await run().catch(() => null);
      if (now !== null && now !== before) break;
      if (Date.now() - started > 60000) about.textContent = TEXTS.restarting_slow;
    }
    location.reload();
  },

  // --- copying, also if the page is served by another machine and the browser blocks the clipboard ---
  async copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement('textarea'), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    const label = document.getElementById(button);
    if (!label) return;
    label.dataset.done = 'yes';
    setTimeout(() => delete label.dataset.done, 1600);
  },
  written(shown) { // the original of a text that markdown_text.py has prepared for the renderer
    return shown.replace(/<pre data-was="([^"]*)">.*?<\/pre>\n\n/gs, '$1')
      .replace(/<(code|span) data-was="([^"]*)">.*?<\/\1>/gs, '$2')
      .replace(/<span class="nil"><\/span>/g, '')
      .replace(/&#(\d{7});/g, (entity, number) => String.fromCodePoint(Number(number)));
  },
  copiesWhatWasWritten() { // gradio's own buttons copy the prepared text
    const clipboard = navigator.clipboard;
    if (!clipboard) {
      document.addEventListener('copy', (event) => {
        const text = event.target.tagName === 'TEXTAREA' ? event.target.value : '';
        if (Page.written(text) === text) return;
        event.clipboardData.setData('text/plain', Page.written(text));
        event.preventDefault();
      });
      return;
    }
    const real = clipboard.writeText.bind(clipboard);
    clipboard.writeText = (text) => real(Page.written(text));
  },
  copyReply(tail) {
    const reply = [...(tail || [])].reverse().find((message) => message.role === 'assistant');
    if (reply) Page.copy(Page.written(reply.content.map((part) => part.text ?? '').join('\n')), 'copy-reply');
  },

  // --- Parameters: the filter box ---
  filter(words) {
    const wanted = (words || '').toLowerCase().split(/\s+/).filter(Boolean);
    const page = document.getElementById('generation');
    if (!page) return;
    page.toggleAttribute('data-filtering', wanted.length > 0);
    let all = 0;
    for (const card of page.querySelectorAll('.card')) {
      let left = 0;
      for (const knob of card.querySelectorAll('.knob')) {
        const text = (knob.id.slice(5) + ' ' + knob.textContent).toLowerCase();
        const shown = wanted.every((word) => text.includes(word));
        knob.toggleAttribute('data-hidden', !shown);
        left += shown;
      }
      card.toggleAttribute('data-hidden', wanted.length > 0 && left === 0);
      all += left;
    }
    document.getElementById('cards').dataset.nothing = wanted.length > 0 && all === 0 ? TEXTS.no_knob : '';
  },
  // the help of a parameter is one line; the whole is its tooltip
  helped(event) {
    const help = event.target.closest?.('#cards .info-text');
    if (help) help.title = help.textContent.trim();
  },
  unfold(button) {
    const card = document.getElementById(button).closest('.card');
    const open = card.toggleAttribute('data-unfolded');
    document.getElementById(button).setAttribute('aria-expanded', open);
  },

  // --- shortcuts ---
  press(id) {
    const button = document.getElementById(id);
    const drawer = document.getElementById('controls')?.contains(button);
    const folded = button?.closest('#reply-actions, .editor-line')?.offsetParent && !button.classList.contains('hidden'); // behind More
    if (!button || button.disabled || (button.offsetParent === null && !drawer && !folded)) return false;
    button.click();
    return true;
  },
  blank: () => !document.querySelector('#message textarea')?.value.trim(),
  drop(event) {
    event.preventDefault();
    event.stopPropagation();
  },
  editorKeys(event) {
    const tab = ['default', 'notebook'].find((name) => document.getElementById(name)?.offsetParent);
    if (!tab) return;
    let id = null;
    if (event.key === 'Enter' && event.ctrlKey && !event.altKey) id = `${tab}-generate`;
    else if (event.key === 'Enter' && event.altKey && !event.ctrlKey) id = 'default-continue';
    else if (event.key === 'Escape') id = `${tab}-stop`;
    if (id && Page.press(id)) Page.drop(event);
  },
  topmost() {
    if (document.body.classList.contains('chats-open')) return 'chats-close';
    const closers = ['prompt-close', 'message-cancel', 'message-close'];
    return closers.find((id) => document.getElementById(id)?.offsetParent) ?? 'stop';
  },
  keys(event) {
    if (!document.getElementById('talk')?.offsetParent) return Page.editorKeys(event);
    const enter = event.key === 'Enter';
    const plain = enter && !event.shiftKey && !event.ctrlKey && !event.altKey;
    Page.wanted = null;
    if (plain && event.target.matches?.('#column .selectable')) {
      Page.wanted = 'message-edit';
      event.target.click();
      return Page.drop(event);
    }
    if (plain && event.target.closest('#message') && (Page.blank() || Page.hold())) return Page.drop(event);
    let id = null;
    if (enter && event.ctrlKey && !event.altKey) id = 'regenerate';
    else if (enter && event.altKey && !event.ctrlKey) id = 'continue';
    else if (event.key === 'Escape') id = Page.topmost();
    else if (event.ctrlKey && event.shiftKey && event.key === 'Backspace') id = 'remove-last';
    else if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === 'k') id = 'copy-reply';
    else if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === 'l') id = 'replace-last';
    else if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === 'm') id = 'impersonate';
    else if (event.ctrlKey && !event.shiftKey && event.key.toLowerCase() === 's') {
      event.preventDefault();
      Page.toggleControls();
      return;
    }
    if (id && Page.press(id)) Page.drop(event);
  },

  // --- accessible names that gradio does not set; `roots` are the new parts of the page ---
  working: false,
  say(text) {
    const status = document.getElementById('said');
    if (status) status.textContent = text;
  },
  settle(roots) {
    for (const [id, tip] of Object.entries(TEXTS.tips)) {
      const control = document.getElementById(id);
      if (control && control.title !== tip) control.title = tip;
    }
    const found = (query) => roots.flatMap((root) => [...(root.matches(query) ? [root] : []), ...root.querySelectorAll(query)]);
    const around = roots.map((root) => root.closest('#column .selectable')).filter(Boolean); // shown anew in its place
    for (const message of new Set([...found('#column .selectable'), ...around])) {
      if (!message.hasAttribute('tabindex')) message.tabIndex = 0;
      if (message.ariaLabel?.includes('&#0')) message.ariaLabel = Page.written(message.ariaLabel);
    }
    for (const log of found('#column [role="log"]')) { // one sentence at its end is read, see below
      log.setAttribute('aria-live', 'off');
      log.setAttribute('aria-label', log.closest('#tail') ? TEXTS.tail : TEXTS.history);
    }
    for (const wrap of found('.code_wrap')) {
      const language = /language-([\w+#.-]+)/.exec(wrap.querySelector('code')?.className ?? '');
      wrap.dataset.language = language ? language[1] : '';
      wrap.querySelector('button')?.setAttribute('aria-label', TEXTS.copy);
      const code = wrap.querySelector('pre');
      if (code) code.tabIndex = 0;
    }
    for (const code of found('#column pre:not([tabindex]), .rendered pre:not([tabindex])')) code.tabIndex = 0;
    for (const title of found('#column .title[role="button"]')) { // of a thought: the button in it does the same
      title.removeAttribute('role');
      title.removeAttribute('tabindex');
      title.querySelector('button')?.setAttribute('aria-label', title.textContent.trim());
    }
    for (const mark of found('.header-icons [aria-label]:not([role], button)')) mark.setAttribute('role', 'img');
    for (const box of found('#column .prose input[type="checkbox"]')) box.ariaLabel = box.parentElement.textContent.trim();
    for (const folder of found('details[data-folder]')) Chats.fold(folder);
    for (const list of found('.picker nav')) Chats.rove(list);
    for (const picture of found('#column .prose img:not([alt])')) picture.alt = '';
    const working = document.querySelector('#reply-facts .working') !== null;
    if (Page.working && !working) Page.say(`${TEXTS.finished} ${document.getElementById('reply-facts')?.textContent ?? ''}`);
    Page.working = working;
    Page.tellLost();
    Page.noticed();
    Hub.cover();
    Page.paintFrames();
    Page.anchor();
    const thinking = document.querySelector('#tail .loading-spinner') !== null;
    document.getElementById('end-thought')?.toggleAttribute('data-thinking', thinking);
    const scroller = document.getElementById('reading');
    if (scroller && scroller.querySelector('#column') && !scroller.dataset.followed) {
      scroller.dataset.followed = 'yes';
      Page.follow(scroller);
    }
  },
};
window.Page = Page;

Page.paint();
Page.tellLoginWait();
Page.copiesWhatWasWritten();
document.addEventListener('keydown', Page.keys, true);
document.addEventListener('pointerover', Page.helped);
document.addEventListener('click', (event) => { // a button in a toast stands for the page's with the same text
  const button = event.target.closest('.toast-message-text button');
  if (!button) return;
  const same = (each) => each !== button && each.textContent.trim() === button.textContent.trim();
  [...document.querySelectorAll('button')].find(same)?.click();
  button.closest('.toast-body')?.querySelector('.toast-close')?.click();
});
document.addEventListener('click', (event) => {
  if (event.target.closest('#send') && (Page.blank() || Page.hold())) Page.drop(event);
}, true);
document.addEventListener('pointerdown', (event) => {
  if (document.body.classList.contains('chats-open') && !event.target.closest('#chats, #chats-toggle, #chat-menu')) Page.closeDrawer();
});
document.addEventListener('DOMContentLoaded', () => {
  Page.paint();
  // gradio applies the system's theme when it mounts, and creates controls later
  new MutationObserver(Page.paint).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  new MutationObserver(Page.tabChosen).observe(document.body, { attributes: true, attributeFilter: ['aria-selected'], subtree: true });
  window.addEventListener('resize', () => { // a phone was turned
    document.querySelector('#tabs > .tab-wrapper [aria-selected="true"]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  });
  new MutationObserver(Page.language).observe(document.documentElement, { attributes: true, attributeFilter: ['lang'] });
  const skip = Object.assign(document.createElement('a'), { id: 'skip', href: '#message', textContent: TEXTS.skip });
  skip.addEventListener('click', (event) => {
    event.preventDefault();
    ['#message textarea', '#tabs > .tabitem :is(textarea, input, button)']
      .flatMap((query) => [...document.querySelectorAll(query)]).find((part) => part.offsetParent)?.focus();
  });
  const said = Object.assign(document.createElement('div'), { id: 'said', className: 'sr-only' });
  said.setAttribute('role', 'status');
  document.body.prepend(skip, said);
  let waiting = 0;
  let fresh = new Set();
  new MutationObserver((changes) => {
    for (const change of changes) {
      for (const node of change.addedNodes) fresh.add(node.nodeType === 1 ? node : change.target);
    }
    if (waiting) return;
    waiting = requestAnimationFrame(() => {
      const roots = [...fresh].filter((root) => root.isConnected);
      waiting = 0;
      fresh = new Set();
      Page.settle(roots);
    });
  }).observe(document.body, { childList: true, subtree: true });
});
