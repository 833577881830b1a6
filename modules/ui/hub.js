// The page's script for the sheet with the hub's files: which are ticked, and how large they are together.

const Hub = {
  boxes: () => [...document.querySelectorAll('#download-files input:checked')],
  ticked: () => Hub.boxes().map((box) => box.value).join('\n'),
  untick() {
    for (const box of Hub.boxes()) box.checked = false;
    Hub.count();
  },
  // The sheet covers what else is there. Not with :has() in the style sheet: for a rule that asks an element and styles
  // any of its children, the browser looks at the whole page whenever a message grows.
  cover() {
    const found = document.querySelector('#hub-view :is(#download-found, #hub-results, #download-files) .prose > *');
    document.getElementById('load')?.toggleAttribute('data-hub', found !== null);
  },
  count() {
    const line = document.querySelector('#hub-chosen p');
    if (!line) return;
    const boxes = Hub.boxes();
    const size = boxes.reduce((sum, box) => sum + Number(box.dataset.size), 0);
    const [unit, digits] = size < 1e9 ? [1e6, 1] : [1e9, 2];
    const exact = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    const amount = (size / unit).toLocaleString(TEXTS.language, exact);
    const words = line.dataset.some.replace('{n}', boxes.length)
      .replace('{size}', line.dataset[unit === 1e6 ? 'mb' : 'gb'].replace(/\{n[^}]*\}/, amount));
    const text = boxes.length ? words : line.dataset.none;
    if (line.textContent !== text) line.textContent = text;
  },
  keys(event) { // up and down go from box to box
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches?.('#download-files input')) return;
    const all = [...document.querySelectorAll('#download-files input')].filter((each) => each.offsetParent);
    all[all.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  },
};
window.Hub = Hub;

document.addEventListener('change', (event) => {
  if (event.target.closest?.('#download-files')) Hub.count();
});
document.addEventListener('keydown', Hub.keys);
document.addEventListener('click', (event) => { // who wants to load a model finds the button, not what a question ended with
  const found = document.querySelector('#hub-results .prose > *, #download-files .prose > *');
  if (event.target.closest('#choose-model') && !found) document.getElementById('hub-close')?.click();
});
