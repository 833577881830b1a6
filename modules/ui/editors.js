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

  unfoldLine(tab) { // what is behind More under a text
    const more = document.getElementById(tab).toggleAttribute('data-more');
    document.getElementById(`${tab}-more`).setAttribute('aria-expanded', more);
  },
});

document.addEventListener('selectionchange', Page.place);
document.addEventListener('input', Page.typed);
