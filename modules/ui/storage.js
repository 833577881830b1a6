// Where the browser refuses to store anything (private windows, blocked cookies), reading or writing localStorage throws.
// Then a memory of this page takes its place, for our scripts and gradio's. Before everything else.

const Storages = {
  usable(name) {
    try {
      window[name].setItem('storage-test', '');
      window[name].removeItem('storage-test');
      return true;
    } catch {
      return false;
    }
  },
  memory() {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(String(key)) ?? null,
      setItem: (key, value) => { kept.set(String(key), String(value)); },
      removeItem: (key) => { kept.delete(String(key)); },
      clear: () => kept.clear(),
      key: (at) => [...kept.keys()][at] ?? null,
      get length() { return kept.size; },
    };
  },
  keep(name, key, value) { // false if there is no room for it
    try {
      window[name].setItem(key, value);
      return true;
    } catch {
      return false;
    }
  },
  list(name, key) { // anything else that is stored there counts as an empty list
    try {
      const kept = JSON.parse(window[name].getItem(key) ?? '[]');
      return Array.isArray(kept) ? kept : [];
    } catch {
      return [];
    }
  },
  replace() {
    for (const name of ['localStorage', 'sessionStorage']) {
      if (Storages.usable(name)) continue;
      Object.defineProperty(window, name, { configurable: true, value: Storages.memory() });
    }
  },
};

Storages.replace();
