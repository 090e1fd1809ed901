// The table of gateways: the worst first, found by a word, each with its partitions when it is opened.

import { $, Table, make, mark, say, show_age, show_fill, show_worry } from './table.js';
import { ago, count, duration, some } from './words.js';

/** A clock that is this far off is worth a word of warning. */
const FAR_OFF_S = 5;
/** A gateway whose oldest event waits for longer is behind, not only busy. */
const BEHIND_S = 60;

/** How bad it is, in words, and more about it. */
function state_of({ connected, heard, report, identity_in_use, oldest_unacknowledged: oldest }, age) {
  if (identity_in_use) return ['bad', 'two machines have this name'];
  if (!connected) return ['bad', heard ? `not connected for ${duration(Math.round(age(heard)))}` : 'not connected since the hub started'];
  if (report?.held) return ['warn', 'holds back', report.held];
  if (oldest && age(oldest) > BEHIND_S) return ['warn', 'catching up'];
  return ['', report ? 'connected' : 'connected, no report'];
}

function clock_of(clock) {
  if (!clock) return ['', '–'];
  const more = `It showed ${clock.time}`;
  if (!clock.time) return ['warn', 'not set'];
  const off = Math.abs(clock.ahead_s);
  const word = off < 0.1 ? 'right' : `${duration(off)} ${clock.ahead_s < 0 ? 'behind' : 'ahead'}`;
  if (!clock.trusted) return ['warn', `${word}, not trusted`, more];
  return [off > FAR_OFF_S ? 'warn' : '', word, more];
}

const badness = ({ connected, identity_in_use }) => (connected ? Number(identity_in_use) : 2);

function worst_first(a, b) {
  return badness(b) - badness(a) || (b.lag ?? -1) - (a.lag ?? -1) || (a.gateway < b.gateway ? -1 : 1);
}

function show_words(cell, kind, [how, text, more]) {
  mark(cell, `${kind} ${how}`.trim());
  say(cell, text, more);
}

export class Gateways {
  #opened = new Set();
  #within = new Map();
  #oldest = ['Oldest waiting', 'n', (cell, { oldest_unacknowledged: oldest }) => show_age(cell, oldest, this.#age(oldest))];
  #latest = [];
  #table;
  #age = () => 0;

  constructor() {
    this.#table = new Table($('gateways-table'), [
      ['Gateway', 'name', (cell, item) => this.#name(cell, item)],
      ['State', 'state', (cell, { state }) => show_words(cell, 'state', state)],
      ['Lag', 'n', (cell, { lag }) => say(cell, count(lag), 'Events that the hub has not got')],
      this.#oldest,
      ['Fill', 'fill', (cell, { report }) => show_fill(cell, report?.disk)],
      ['Clock', '', (cell, { report }) => show_words(cell, '', clock_of(report?.clock))],
      ['Lost there', 'n', (cell, { report }) => show_worry(cell, report?.lost)],
      ['Heard', 'n', (cell, { heard }) => show_age(cell, heard, this.#age(heard), 'not yet')],
    ]);
    $('search').addEventListener('input', () => this.#draw());
  }

  /** `age` tells how many seconds ago a time was, by the hub's clock. */
  show(gateways, age) {
    this.#latest = gateways;
    this.#age = age;
    this.#draw();
  }

  #draw() {
    const all = this.#latest.map((gateway) => ({ ...gateway, state: state_of(gateway, this.#age) })).sort(worst_first);
    const wanted = $('search').value.trim().toLowerCase();
    const shown = all.filter(({ gateway, state }) => gateway.includes(wanted) || state[1].includes(wanted));
    this.#table.show(shown, ({ gateway }) => gateway);
    for (const gateway of shown) this.#more(gateway);
    $('no-gateway').hidden = all.length > 0;
    $('gateways-table').parentElement.hidden = all.length === 0;
    const away = all.filter(({ connected }) => !connected).length;
    const found = wanted ? `${count(shown.length)} of ${count(all.length)} shown` : some(all.length, 'gateway');
    say($('gateways-count'), all.length > 0 ? `${found}, ${away > 0 ? `${count(away)} not connected` : 'all connected'}` : '');
  }

  #name(cell, { gateway }) {
    if (!cell.firstChild) {
      cell.append(make('button', '', gateway));
      cell.firstChild.addEventListener('click', () => {
        if (!this.#opened.delete(gateway)) this.#opened.add(gateway);
        this.#draw();
      });
    }
    cell.firstChild.ariaExpanded = String(this.#opened.has(gateway));
  }

  /** The row below a gateway's own, while it is open. */
  #more(gateway) {
    const body = this.#table.body_of(gateway.gateway);
    if (!this.#opened.has(gateway.gateway)) return body.rows[1]?.remove();
    if (!body.rows[1]) this.#begin(body, gateway.gateway);
    const { words, table } = this.#within.get(gateway.gateway);
    const { report } = gateway;
    const held = report?.held ? ` Only urgent records go now: ${report.held}` : '';
    say(words, report
      ? `sedge ${report.version}, up ${duration(report.uptime_s)}, reported ${ago(this.#age(report.at))}.${held}`
      : 'No report since the hub started: an old agent, or not connected.');
    table.show(gateway.partitions, ({ stream, partition }) => `${stream} ${partition}`);
  }

  #begin(body, gateway) {
    const cell = body.insertRow().insertCell();
    cell.colSpan = 8;
    cell.className = 'within';
    const words = make('p', 'note');
    const table = make('table');
    cell.append(words, table);
    const columns = [
      ['Stream', 'name', (cell, { stream }) => say(cell, stream)],
      ['Partition', 'n', (cell, { partition }) => say(cell, String(partition))],
      ['Held', 'n', (cell, { earliest, end }) => say(cell, count(end - earliest), `Offsets ${earliest} to ${end} at the hub`)],
      ['Lag', 'n', (cell, { lag }) => say(cell, count(lag))],
      this.#oldest,
      ['Fill', 'fill', (cell, { fill }) => show_fill(cell, fill)],
    ];
    this.#within.set(gateway, { words, table: new Table(table, columns) });
  }
}
