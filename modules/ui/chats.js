// The page's script for lists: the menu of a chat or a folder, the arrow keys, which folders are folded. After page.js.

const Chats = {
  target: '', // the chat or the folder of the menu that is or was open
  kind: 'chat',
  menu: () => document.getElementById('chat-menu'),
  opener: () => [...document.querySelectorAll('[data-menu]')].find((each) => each.dataset.menu === Chats.target
    && (each.dataset.kind ?? 'chat') === Chats.kind && each.offsetParent && (!Chats.inHead || each.closest('#chat-title'))),
  inHead: false,

  open(button) {
    const again = Chats.menu().hasAttribute('data-open') && button === Chats.opener();
    Chats.close();
    if (again) return;
    Chats.target = button.dataset.menu;
    Chats.inHead = button.closest('#chat-title') !== null;
    const menu = Chats.menu();
    Chats.kind = menu.dataset.kind = button.dataset.kind ?? 'chat';
    menu.dataset.open = 'list';
    menu.toggleAttribute('data-pinned', button.hasAttribute('data-pinned'));
    menu.setAttribute('role', 'dialog');
    menu.setAttribute('aria-label', button.getAttribute('aria-label'));
    button.setAttribute('aria-expanded', 'true');
    Chats.place(button);
    Chats.items()[0]?.focus();
  },
  items: () => [...Chats.menu().querySelectorAll('#chat-menu-list button')].filter((each) => each.offsetParent),
  place(button) { // beside its button, within the window
    const [menu, at] = [Chats.menu(), button.getBoundingClientRect()];
    const within = (place, room) => Math.max(8, Math.min(place, room - 8));
    menu.style.left = `${within(at.right - 36, innerWidth - menu.offsetWidth)}px`;
    const below = at.bottom + 4;
    const fits = below + menu.offsetHeight + 8 <= innerHeight;
    menu.style.top = `${fits ? below : within(at.top - menu.offsetHeight - 4, innerHeight - menu.offsetHeight)}px`;
  },
  async ask(kind) { // instead of the list, one of its questions
    const about = () => document.querySelector('#chat-deleting [data-of]')?.dataset.of;
    for (let tries = 20; tries && (tries > 19 || (kind === 'deleting' && about() !== Chats.target)); tries -= 1) {
      await new Promise((done) => { setTimeout(done, 30); }); // until what the server has sent is there
    }
    const [menu, button] = [Chats.menu(), Chats.opener()];
    if (!menu.hasAttribute('data-open')) return; // it was closed meanwhile
    if (kind === 'deleting' && about() !== Chats.target) return; // the chat cannot be read
    menu.dataset.open = kind;
    if (button) Chats.place(button);
    const question = document.getElementById(`chat-${kind}`);
    const field = kind === 'deleting' ? null : question.querySelector('input, textarea');
    (field ?? question.querySelector('button')).focus();
    field?.select();
  },
  close() {
    const menu = Chats.menu();
    if (!menu?.hasAttribute('data-open')) return;
    const inside = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.removeAttribute('data-open');
    const button = Chats.opener();
    button?.setAttribute('aria-expanded', 'false');
    if (inside) setTimeout(Chats.back, 50); // the list may be drawn anew
  },
  back() { // the focus to the button that opened the menu, unless it is elsewhere by now; a redrawn list moves it
    const [here, menu] = [document.activeElement, Chats.menu()];
    const free = here === document.body || menu.contains(here) || here?.matches('[data-menu]');
    if (!free || menu.hasAttribute('data-open')) return;
    const list = document.getElementById('chat-list');
    const instead = list.querySelector('[aria-current]') ?? list.querySelector('[data-pick]');
    (Chats.opener() ?? (Chats.kind === 'folder' ? instead : null))?.focus(); // a removed folder has no button
  },
  leave() { // for an action that needs nothing more
    Chats.close();
    return Chats.target;
  },
  keys(event) {
    if (!Chats.menu()?.hasAttribute('data-open')) return;
    if (event.key === 'Escape') {
      Page.drop(event);
      return Chats.close();
    }
    const items = Chats.items();
    const at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (at < 0 || next === undefined) return;
    items.at(next % items.length).focus();
    Page.drop(event);
  },

  // --- a list is one stop of Tab, with the menu of its active entry; arrow keys go from entry to entry ---
  stops: (list) => [...list.querySelectorAll('[data-pick]:enabled, summary')]
    .filter((each) => each.matches('summary') || !each.closest('details:not([open])')),
  beside: (stop) => stop?.closest(stop.matches('summary') ? '.folder' : '.entry')?.querySelector(':scope > button.menu'),
  rove(list, active) {
    const stops = Chats.stops(list);
    const now = active ?? stops.find((each) => each.tabIndex === 0)
      ?? stops.find((each) => each.hasAttribute('aria-current')) ?? stops[0];
    for (const each of list.querySelectorAll('button, summary')) each.tabIndex = -1;
    for (const each of [now, Chats.beside(now)]) if (each) each.tabIndex = 0;
  },
  active(event) {
    const stop = event.target.closest?.('.picker nav') && event.target.matches('[data-pick], summary');
    if (stop) Chats.rove(event.target.closest('nav'), event.target);
  },
  walk(event) {
    const list = event.target.closest?.('.picker nav');
    if (!list || event.ctrlKey || event.altKey || event.metaKey) return;
    const stops = Chats.stops(list);
    const at = stops.indexOf(event.target);
    const next = at < 0 ? undefined : { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: stops.length - 1 }[event.key];
    let to = stops[Math.max(0, Math.min(next, stops.length - 1))];
    if (event.key === 'ArrowRight' && at >= 0) to = Chats.beside(event.target);
    if (event.key === 'ArrowLeft' && at < 0) to = stops.find((each) => Chats.beside(each) === event.target);
    if (!to) return;
    to.focus();
    event.preventDefault();
  },

  // --- deleting the open chat opens another one: what is sent meanwhile goes there ---
  isOpen: () => document.querySelector('#chat-title [data-menu]')?.dataset.menu === Chats.target,
  deletes() {
    if (Chats.isOpen()) {
      Page.closeDrawer();
      Page.opens('deleted');
    }
    return Chats.leave();
  },
  deleted() {
    if (!Page.opening.has('deleted')) return;
    Page.toEnd();
    Page.opened('deleted');
  },

  // --- a folder has another name, or none: what was folded stays folded, and the focus goes where its chats are ---
  async renamed(name) {
    const [was, is] = [Chats.target, name.trim().split(/\s+/).join(' ')];
    const there = () => Chats.kind === 'folder' && Chats.folders().some((each) => each.dataset.folder === was);
    for (let tries = 20; tries && there(); tries -= 1) {
      await new Promise((done) => { setTimeout(done, 30); }); // until the new list is drawn
    }
    if (there() || Chats.target !== was) return Chats.back(); // it was refused, or another menu was opened meanwhile
    if (is && Chats.folded().includes(was)) {
      Chats.keep(was, true);
      Chats.keep(is, false);
      Chats.folders().forEach(Chats.fold);
    }
    Chats.target = is;
    Chats.back();
  },

  // --- folders that are folded in this browser ---
  folders: () => [...document.querySelectorAll('details[data-folder]')],
  folded: () => Page.keptNames('folded'),
  fold(folder) {
    const open = !Chats.folded().includes(folder.dataset.folder);
    if (folder.open !== open) folder.open = open; // setting what is set would be a change again
  },
  keep(name, open) {
    const others = Chats.folded().filter((each) => each !== name);
    Storages.keep('localStorage', 'folded', JSON.stringify(open ? others : [...others, name]));
  },
};
window.Chats = Chats;

document.addEventListener('focusin', Chats.active);
document.addEventListener('keydown', Chats.walk);
document.addEventListener('toggle', (event) => { // what is folded is no stop
  const list = event.target.closest?.('.picker nav');
  if (list) Chats.rove(list);
}, true);
window.addEventListener('keydown', Chats.keys, true); // before the page's shortcuts
document.addEventListener('pointerdown', (event) => {
  if (!event.target.closest('#chat-menu, [data-menu]')) Chats.close();
});
document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-menu]');
  if (button) Chats.open(button);
  if (event.target.closest('[data-own]')) Page.toggleControls(true);
  const folder = event.target.closest('details[data-folder] > summary')?.parentElement;
  if (folder) Chats.keep(folder.dataset.folder, !folder.open); // the browser folds it after this
});
document.addEventListener('DOMContentLoaded', () => {
  // gradio opens what was open in the list that it had: it changes the parts that differ from the new list
  new MutationObserver((changes) => {
    for (const { target } of changes) if (target.matches('details[data-folder]')) Chats.fold(target);
  }).observe(document.body, { attributes: true, attributeFilter: ['open', 'data-folder'], subtree: true });
});
