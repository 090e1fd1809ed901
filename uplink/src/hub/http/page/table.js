// Tables whose rows stay while their figures change: nothing flickers, and focus and place stay where they were.

import { ago, bytes, count, time } from './words.js';

export const $ = (id) => document.getElementById(id);

/** Sets what is different, and nothing else. */
export function say(element, text, more = '') {
  if (element.textContent !== text) element.textContent = text;
  title(element, more);
}

function title(element, text) {
  if (element.title !== text) element.title = text;
}

export function mark(element, name) {
  if (element.className !== name) element.className = name;
}

export function make(name, className = '', text = '') {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** How much of `{ bytes, max }` is used: a bar, and the same in words. */
export function show_fill(cell, fill) {
  if (!fill) return say(cell, '–');
  if (!cell.querySelector('.meter')) {
    const bar = make('span', 'meter');
    bar.append(make('span'));
    cell.replaceChildren(bar, make('span'));
  }
  const [bar, word] = cell.children;
  const share = fill.max > 0 ? Math.min(100, (100 * fill.bytes) / fill.max) : 0;
  bar.firstChild.style.width = `${share.toFixed(1)}%`;
  mark(bar, `meter ${share >= 95 ? 'bad' : share >= 80 ? 'warn' : ''}`);
  say(word, `${share.toFixed(share > 0 && share < 10 ? 1 : 0)}\u202f%`);
  title(cell, `${bytes(fill.bytes)} of ${bytes(fill.max)}`);
}

/** A number that should be 0. */
export function show_worry(cell, n, more) {
  mark(cell, n > 0 ? 'n warn' : 'n');
  say(cell, count(n), more);
}

/** A time as how long ago it was, and as it is written. */
export function show_age(cell, when, seconds, nothing = '–') {
  say(cell, when ? ago(seconds) : nothing, when ? `${time(when)}\n${when}` : '');
}

/**
 * Rows by key, each in a body of its own, so that others can stand below it. `columns` are `[label, class of the cells, show(cell, item)]`; the
 * first heads its row.
 */
export class Table {
  #table;
  #columns;
  #rows = new Map();
  #touched = -Infinity;

  constructor(table, columns) {
    this.#table = table;
    this.#columns = columns;
    const row = table.createTHead().insertRow();
    for (const [label, kind] of columns) row.append(make('th', kind, label));
    for (const event of ['pointermove', 'keydown', 'focusin']) {
      table.addEventListener(event, () => { this.#touched = performance.now(); }, { passive: true });
    }
  }

  /** Shows `items` in their order. While somebody is pointing at a row, the rows that are there keep theirs. */
  show(items, key_of) {
    const here = new Set();
    const bodies = items.map((item) => {
      const key = key_of(item);
      here.add(key);
      const body = this.#rows.get(key) ?? this.#begin(key);
      this.#columns.forEach(([, , show], at) => show(body.rows[0].cells[at], item));
      return body;
    });
    for (const [key, body] of this.#rows) {
      if (here.has(key)) continue;
      body.remove();
      this.#rows.delete(key);
    }
    const is_held = performance.now() - this.#touched < HELD_MS;
    if (is_held && bodies.every((body) => body.isConnected)) return;
    this.#arrange(bodies);
  }

  body_of(key) {
    return this.#rows.get(key);
  }

  #begin(key) {
    const body = make('tbody');
    body.dataset.key = key;
    const row = body.insertRow();
    this.#columns.forEach(([label, kind], at) => {
      const cell = make(at === 0 ? 'th' : 'td', kind);
      cell.dataset.label = label;
      row.append(cell);
    });
    this.#rows.set(key, body);
    return body;
  }

  #arrange(bodies) {
    const focused = document.activeElement;
    let at = this.#table.tBodies[0] ?? null;
    for (const body of bodies) {
      if (body === at) at = at.nextElementSibling;
      else this.#table.insertBefore(body, at);
    }
    if (focused !== document.activeElement) focused.focus({ preventScroll: true });
  }
}

/** How long rows keep their order behind a pointer or a key. */
const HELD_MS = 5_000;
