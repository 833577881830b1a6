// The page's script for Default and Notebook: what was typed, the cursor, the line of controls. After page.js.

Object.assign(Page, {
  // --- text editors: when something was typed, and the cursor's position (-1: none) in characters as Python counts ---
  now: () => performance.timeOrigin + performance.now(),
  carets: {},
  typing: {},
  typed(event) {
    const editor = event.target.closest?.('.text-editor');
    if (!editor || Page.typing[editor.id]) return;
    Page.typing[editor.id] = setTimeout(() => {
      delete Page.typing[editor.id];
      document.getElementById(`${editor.id}-typed`)?.click();
    }, 200);
  },
  looks: {}, // by tab, until a pause of typing
  lookAgain(event) { // the open view of the next token follows the text
    const desk = event.target.closest?.('.text-editor')?.closest('.editor-tab')?.id;
    if (!desk) return;
    clearTimeout(Page.looks[desk]);
    Page.looks[desk] = setTimeout(() => {
      const open = ['logits', 'samplers'].find((view) => document.getElementById(`${desk}-look-${view}`)?.offsetParent);
      if (open) document.getElementById(`${desk}-now-${open}`).click();
    }, 800);
  },
  place() {
    const field = document.activeElement;
    const editor = field && field.tagName === 'TEXTAREA' && field.closest('.text-editor');
    if (editor) Page.carets[editor.id] = { text: field.value, at: field.selectionStart };
  },
  caret(id) {
    const kept = Page.carets[id];
    const field = document.querySelector(`#${id} textarea`);
    return kept && (!field || field.value === kept.text) ? [...kept.text.slice(0, kept.at)].length : -1;
  },

  // --- the template in use stands greyed in its empty field: a click makes it text, and the first change the field's
  // own value ---
  editTemplate(event) {
    const field = event.target;
    if (!field.matches?.('#template-text textarea') || field.value) return;
    field.value = field.placeholder;
    field.setSelectionRange(0, 0);
  },
  leaveTemplate(event) {
    const field = event.target;
    if (!field.matches?.('#template-text textarea') || field.value !== field.placeholder.replace(/\r\n?/g, '\n')) return;
    field.value = '';
    field.dispatchEvent(new Event('input', { bubbles: true }));
  },

  // --- a text that is shown as HTML is light or dark as the page: its frame is isolated ---
  paintFrames() {
    for (const frame of document.querySelectorAll('.html-frame iframe:not(.plain)')) {
      const made = frame.srcdoc.replace(/color-scheme: (light|dark)/, `color-scheme: ${Page.dark() ? 'dark' : 'light'}`);
      if (made !== frame.srcdoc) frame.srcdoc = made;
    }
  },

  unfoldLine(tab) { // what is behind More under a text
    const more = document.getElementById(tab).toggleAttribute('data-more');
    document.getElementById(`${tab}-more`).setAttribute('aria-expanded', more);
  },
});

document.addEventListener('click', Page.editTemplate);
document.addEventListener('focusout', Page.leaveTemplate);
document.addEventListener('selectionchange', Page.place);
document.addEventListener('input', Page.typed);
document.addEventListener('input', Page.lookAgain);
