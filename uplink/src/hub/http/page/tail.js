// Events as they come: as many as a frame has time for, the newest first; the others are counted.

import * as api from './api.js';
import { $, make, say } from './table.js';
import { count, time } from './words.js';

/** Rows that stay. */
const ROWS_MAX = 500;
/** Rows are added this often at most, and as many as are drawn in this time: nobody reads faster, and the rest of the page has its turn. */
const FRAME_EVERY_MS = 200;
const FRAME_MS = 16;
const ROWS_MIN = 40;
/** What is shown of a value that is not opened. */
const VALUE_MAX = 300;
/** Recent events to begin with, of all partitions together. */
const RECENT = 100;
const COLUMNS = [['Taken', 'at'], ['Gateway', ''], ['Offset', 'n'], ['Key', ''], ['Value', 'value']];
const AGAIN_MAX_MS = 30_000;
/** Who comes back sooner goes on where he was. */
const STAYED_AWAY_MS = 30_000;

/** Whether a line is wanted: `key=K` is that key (`key=K*`: beginning so), else a text that stands anywhere in the line, in capitals or not. */
export function filter_of(written) {
  const wanted = written.trim();
  if (!wanted) return () => true;
  if (!wanted.startsWith('key=')) {
    const text = wanted.toLowerCase();
    return (line) => line.toLowerCase().includes(text);
  }
  const is_beginning = wanted.endsWith('*');
  const key = wanted.slice(4, is_beginning ? -1 : undefined);
  const written_so = JSON.stringify(key).slice(1, -1);
  return (line) => {
    // Most lines need not be understood for this.
    if (!line.includes(written_so)) return false;
    const found = JSON.parse(line).key;
    return typeof found === 'string' && (is_beginning ? found.startsWith(key) : found === key);
  };
}

/** What stands in the columns for an event or a gap. */
function words_of({ gap, ingested, gateway, partition, offset, key, value }) {
  const plain = (found) => (typeof found === 'string' ? found : JSON.stringify(found));
  const when = gap ? gap.when : ingested;
  const begin = [when ? time(when) : '–', partition > 0 ? `${gateway} / ${partition}` : gateway];
  if (gap) return [...begin, String(gap.from), 'gap', `${count(gap.lost)} lost, ${gap.cause}`];
  const all = plain(value);
  const shown = all.length > VALUE_MAX ? `${all.slice(0, VALUE_MAX)}… (${count(all.length)} characters)` : all;
  return [...begin, String(offset), key === null ? '–' : plain(key), shown];
}

/** Cuts a text that comes in pieces into server-sent events: `id` and `data` of each, and whether it is an error. */
class Events {
  #text = '';
  #id = null;
  #is_error = false;

  *cut(piece) {
    const text = this.#text + piece;
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      const line = text.slice(from, end);
      from = end + 1;
      if (line.startsWith('data: ')) {
        yield { id: this.#id, line: line.slice(6), is_error: this.#is_error };
        this.#is_error = false;
      } else if (line.startsWith('id: ')) this.#id = line.slice(4);
      else if (line === 'event: error') this.#is_error = true;
    }
    this.#text = text.slice(from);
  }
}

export class Tail {
  #body = $('tail-table').createTBody();
  #stream = null;
  #partitions = 1;
  #work = null;
  #left_at = null;
  #last = null;
  #is_wanted = filter_of('');
  #waiting = [];
  #is_paused = false;
  #frame = 0;
  #allowed = ROWS_MAX;
  #drawn_at = 0;
  #seen = 0;
  #passed_over = 0;
  #stands = 'not followed';
  #now = () => Date.now();
  #on_refused;

  /** `on_refused()` hears that the hub wants another token. */
  constructor(on_refused) {
    this.#on_refused = on_refused;
    $('tail-table').createTHead().insertRow().append(...COLUMNS.map(([label, kind]) => make('th', kind, label)));
    $('tail-stream').addEventListener('change', ({ target }) => this.#choose(target.value));
    $('tail-filter').addEventListener('input', ({ target }) => this.#filter(target.value));
    $('pause').addEventListener('click', () => this.pause());
    this.#body.addEventListener('click', ({ target }) => this.#open(target.closest('tr')));
    $('tail-scroll').addEventListener('keydown', (event) => this.#key(event));
  }

  /** The streams there are to choose from; `usual` is the one to begin with. */
  show(streams, now, usual) {
    this.#now = now;
    $('tail').hidden = streams.length === 0;
    const choice = $('tail-stream');
    const names = streams.map(({ stream }) => stream);
    if ([...choice.options].map(({ value }) => value).join() !== names.join()) {
      choice.replaceChildren(...names.map((name) => new Option(name, name)));
      if (names.includes(this.#stream)) choice.value = this.#stream;
    }
    const [stream] = [this.#stream, usual].flatMap((name) => streams.filter((one) => one.stream === name));
    this.#partitions = Math.max(1, stream?.partitions ?? 1);
    if (stream && stream.stream !== this.#stream) this.#choose(stream.stream);
    else if (!this.#work) this.watch(true);
  }

  #choose(stream) {
    this.#stream = stream;
    $('tail-stream').value = stream;
    this.#last = null;
    this.#waiting = [];
    this.#seen = this.#passed_over = 0;
    this.#body.replaceChildren();
    this.watch(true);
  }

  /** Whether somebody looks. */
  watch(is_seen) {
    this.#work?.abort();
    this.#work = null;
    if (!is_seen) {
      this.#left_at ??= this.#now();
      return;
    }
    if (!this.#stream || document.hidden) return;
    const away = this.#left_at === null ? 0 : this.#now() - this.#left_at;
    if (away > STAYED_AWAY_MS && this.#last) {
      this.#note(`Nobody looked from ${time(this.#left_at)} to ${time(this.#now())}: what came then is not shown`);
      this.#last = null;
    }
    this.#left_at = null;
    this.#work = new AbortController();
    this.#follow(this.#stream, this.#work.signal);
  }

  pause(is_paused = !this.#is_paused) {
    this.#is_paused = is_paused;
    $('pause').ariaPressed = String(is_paused);
    this.#tell();
    this.#ask_for_frame();
  }

  async #follow(stream, signal) {
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        this.#tell('connecting');
        const each = Math.floor(RECENT / this.#partitions);
        const from = this.#body.rows.length === 0 && each > 0 ? `-${each}` : 'latest';
        const reader = await api.events(stream, from, this.#last, signal);
        failures = 0;
        this.#tell('following');
        await this.#read(reader);
        this.#tell('ended; asking again');
      } catch (why) {
        if (signal.aborted) return;
        if (why.status === 401) return this.#on_refused(why);
        // Where a hub was put back, it has not been at this place yet.
        if (why.status === 400 || why.status === 416) this.#last = null;
        this.#tell(`not followed: ${why.status ? why.message : 'no answer'}`);
      }
      await api.pause(Math.min(AGAIN_MAX_MS, 1_000 * 2 ** failures), signal);
    }
  }

  async #read(reader) {
    const [decoder, events] = [new TextDecoder(), new Events()];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const { id, line, is_error } of events.cut(decoder.decode(value, { stream: true }))) {
        if (is_error) throw new api.Refused(503, line);
        this.#last = id;
        this.#seen += 1;
        if (this.#is_wanted(line)) this.#waiting.push(line);
      }
      const over = Math.max(0, this.#waiting.length - ROWS_MAX);
      this.#waiting.splice(0, over);
      this.#passed_over += over;
        this.#ask_for_frame();
    }
  }

  #ask_for_frame() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame((now) => {
      this.#frame = 0;
      if (now - this.#drawn_at < FRAME_EVERY_MS) return this.#ask_for_frame();
      this.#drawn_at = now;
      this.#draw();
    });
  }

  /** Shows what waits, as much of the newest as a frame has time for. */
  #draw() {
    if (!this.#is_paused && this.#waiting.length > 0) {
      const began = performance.now();
      const shown = this.#waiting.slice(-this.#allowed);
      this.#passed_over += this.#waiting.length - shown.length;
      this.#waiting = [];
      this.#body.prepend(...shown.reverse().map((line) => this.#row(line)));
      while (this.#body.rows.length > ROWS_MAX) this.#body.lastChild.remove();
      // This comes when the frame has been drawn.
      setTimeout(() => {
        const change = performance.now() - began > FRAME_MS ? 0.7 : 1.2;
        this.#allowed = Math.max(ROWS_MIN, Math.min(ROWS_MAX, Math.round(this.#allowed * change)));
      });
    }
    this.#tell();
  }

  #tell(stands = this.#stands) {
    this.#stands = stands;
    const parts = [`${stands[0].toUpperCase()}${stands.slice(1)}`, `${count(this.#seen)} came`];
    if (this.#passed_over > 0) parts.push(`${count(this.#passed_over)} passed over: too many to show`);
    if (this.#is_paused) parts.push(`paused, ${count(this.#waiting.length)} waiting`);
    say($('tail-state'), parts.join(' · '));
  }

  #row(line) {
    const item = JSON.parse(line);
    const row = make('tr', item.gap ? 'missing' : '');
    row.tabIndex = -1;
    row.dataset.line = line;
    words_of(item).forEach((text, at) => {
      const cell = row.insertCell();
      [cell.dataset.label, cell.className] = COLUMNS[at];
      cell.textContent = text;
    });
    row.cells[0].title = item.ingested ?? '';
    return row;
  }

  #note(text) {
    const row = make('tr', 'missing');
    row.append(make('td', '', text));
    row.firstChild.colSpan = COLUMNS.length;
    this.#body.prepend(row);
  }

  /** All of an event below its row, or not. */
  #open(row) {
    if (!row?.dataset.line) return;
    if (String(getSelection())) return;
    const value = row.querySelector('.value');
    const opened = value.querySelector('pre');
    if (opened) return opened.remove();
    value.append(make('pre', '', JSON.stringify(JSON.parse(row.dataset.line), null, 2)));
    // What is being read must not be carried away.
    this.pause(true);
  }

  #filter(written) {
    this.#is_wanted = filter_of(written);
    this.#waiting = this.#waiting.filter(this.#is_wanted);
    for (const row of this.#body.rows) row.hidden = !this.#is_wanted(row.dataset.line ?? '');
  }

  #key(event) {
    const here = document.activeElement.closest('#tail-table tbody tr');
    const shown = (row, way) => {
      while (row?.hidden) row = row[way];
      return row;
    };
    if (event.key === 'Enter' && here) this.#open(here);
    else if (event.key === 'Escape' && here) $('tail-scroll').focus();
    else if (event.key === 'ArrowDown') shown(here ? here.nextElementSibling : this.#body.rows[0], 'nextElementSibling')?.focus();
    else if (event.key === 'ArrowUp' && here) shown(here.previousElementSibling, 'previousElementSibling')?.focus();
    else return;
    if (event.key.startsWith('Arrow')) this.pause(true);
    event.preventDefault();
    event.stopPropagation();
  }
}
