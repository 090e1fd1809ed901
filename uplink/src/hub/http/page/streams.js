// The table of streams with their rates, and of the chosen one what came over time and its gaps.

import * as api from './api.js';
import { Plot } from './plot.js';
import { $, Table, make, say, show_age, show_worry } from './table.js';
import { count, rate, some, time, total } from './words.js';

const MINUTE = 60_000;
/** How long each span is, into how many steps it is cut, and how often it is asked for anew. */
const SPANS = {
  hour: { ms: 60 * MINUTE, steps: 120, every: 10_000 },
  day: { ms: 1440 * MINUTE, steps: 144, every: 30_000 },
  week: { ms: 10_080 * MINUTE, steps: 168, every: 120_000 },
};
/** A rate is that of this time: shorter jumps, longer is late. */
const RATE_OVER_MS = 8_000;
const GAPS_MAX = 1_000;
const GAPS_EVERY_MS = 5_000;
const CAUSES = {
  evicted: 'evicted for want of room',
  expired: 'expired by retention',
  corrupt: 'corrupt on a disk',
  burned: 'burned after a power cut',
  'new-log': 'new log at the gateway',
  device: 'lost before the gateway',
};

export class Streams {
  #samples = new Map();
  #table;
  #gaps_table;
  #plot = new Plot($('plot'), $('readout'));
  #streams = [];
  #now;
  #wanted = null;
  chosen = null;
  #span = 'hour';
  #on_choice;
  #drawn = null;
  #found = [];
  #left_out = 0;
  #work = null;

  /** `on_choice(stream, span)` hears what is shown. */
  constructor(on_choice) {
    this.#on_choice = on_choice;
    this.#table = new Table($('streams-table'), [
      ['Stream', 'name', (cell, item) => this.#name(cell, item)],
      ['Events/s', 'n', (cell, { now }) => say(cell, rate(now))],
      ['Held', 'n', (cell, { earliest_sum, end_sum }) => say(cell, count(end_sum - earliest_sum), 'Offsets that the hub holds')],
      ['Newest', 'n', (cell, { newest }) => show_age(cell, newest, (this.#now() - Date.parse(newest)) / 1000)],
      ['Lost here', 'n', (cell, { lost }) => show_worry(cell, lost, 'What the hub let go of')],
      ['Partitions', 'n', (cell, { partitions }) => say(cell, count(partitions))],
    ]);
    this.#gaps_table = new Table($('gaps-table'), [
      ['When', 'name', (cell, { gap }) => say(cell, gap.when ? time(gap.when) : 'not known', gap.when ?? '')],
      ['Lost', 'n', (cell, { gap }) => say(cell, count(gap.lost))],
      ['Cause', '', (cell, { gap }) => say(cell, CAUSES[gap.cause] ?? gap.cause)],
      ['Gateway', 'name', (cell, { gateway }) => say(cell, gateway)],
      ['Partition', 'n', (cell, { partition }) => say(cell, String(partition))],
      ['Offsets', 'n', (cell, { gap }) => say(cell, gap.to > gap.from ? `${gap.from} to ${gap.to - 1}` : `before ${gap.to}`)],
    ]);
    $('span').addEventListener('change', ({ target }) => this.#choose(this.chosen, target.value));
  }

  /** What the page's address asks for. */
  prefer(stream, span) {
    this.#wanted = stream;
    if (Object.hasOwn(SPANS, span)) this.#span = span;
    $('span').querySelector(`[value=${this.#span}]`).checked = true;
  }

  /** Shows them as they were at a time of the hub's clock, and tells what came of all in a second, if that is known. */
  show(streams, taken_at, now) {
    this.#now = now;
    this.#streams = streams.map((stream) => ({ ...stream, now: this.#rate(stream, taken_at) }));
    const is_there = (name) => streams.some(({ stream }) => stream === name);
    $('no-stream').hidden = streams.length > 0;
    $('streams-table').parentElement.hidden = $('history').hidden = streams.length === 0;
    if (streams.length > 0 && !is_there(this.chosen)) {
      const fullest = streams.reduce((a, b) => (b.end_sum > a.end_sum ? b : a));
      this.#choose(is_there(this.#wanted) ? this.#wanted : fullest.stream, this.#span);
    }
    this.#draw_table();
    if (!this.#work) this.watch(true);
    const rates = this.#streams.map((stream) => stream.now);
    return rates.includes(null) ? null : total(rates);
  }

  /** Whether somebody looks, so that there is something to ask for. */
  watch(is_seen) {
    this.#work?.abort();
    this.#work = null;
    if (!is_seen || !this.chosen || document.hidden) return;
    this.#work = new AbortController();
    const { signal } = this.#work;
    const span = SPANS[this.#span];
    this.#again(signal, span.every, $('readout'), () => this.#count(span, signal));
    this.#found = [];
    this.#left_out = 0;
    let place = { from: api.rfc3339(this.#now() - span.ms) };
    this.#again(signal, GAPS_EVERY_MS, $('gaps-count'), async () => { place = await this.#look_for_gaps(place, signal); });
  }

  #choose(stream, span) {
    this.chosen = stream;
    this.#span = span;
    this.#drawn = null;
    this.#plot.show(null);
    this.watch(true);
    this.#show_gaps('looking');
    say($('plot-title'), `${stream}: events a second in the last ${span}`);
    this.#draw_table();
    this.#on_choice(stream, span);
  }

  #draw_table() {
    this.#table.show(this.#streams, ({ stream }) => stream);
  }

  #name(cell, { stream }) {
    if (!cell.firstChild) {
      cell.append(make('button', '', stream));
      cell.firstChild.addEventListener('click', () => this.#choose(stream, this.#span));
    }
    cell.firstChild.ariaPressed = String(stream === this.chosen);
  }

  /** Does it at once and then every so often; a refusal is said at `where`. */
  async #again(signal, every, where, does) {
    while (!signal.aborted) {
      await does().catch((why) => { if (why.status) say(where, why.message); });
      await api.pause(every, signal);
    }
  }

  async #count({ ms, steps }, signal) {
    const to = Math.ceil(this.#now() / (ms / steps)) * (ms / steps);
    const counts = await api.counts(this.chosen, to - ms, to, steps, signal);
    if (signal.aborted) return;
    this.#drawn = { from: to - ms, to, counts };
    this.#show_plot();
  }

  async #look_for_gaps(place, signal) {
    for (let stretches = 1; ; stretches += 1) {
      const began = performance.now();
      const { found, cursor, is_end } = await api.gaps(this.chosen, place, signal);
      if (signal.aborted) return place;
      this.#found.push(...found);
      const over = Math.max(0, this.#found.length - GAPS_MAX);
      this.#found.splice(0, over);
      this.#left_out += over;
      this.#show_gaps(is_end ? '' : `looking on, ${some(stretches, 'stretch', 'stretches')} so far`);
      if (found.length > 0) this.#show_plot();
      place = { cursor };
      if (is_end) return place;
      // Others read here, too.
      await api.pause(performance.now() - began, signal);
    }
  }

  #show_plot() {
    if (!this.#drawn) return;
    const { from, to } = this.#drawn;
    const gaps = this.#found.map(({ gap }) => ({ at: Date.parse(gap.when), lost: gap.lost }));
    this.#plot.show({ ...this.#drawn, now: this.#now(), gaps: gaps.filter(({ at }) => at >= from && at < to) });
  }

  #show_gaps(also) {
    const found = this.#found;
    const when = ({ gap }) => Date.parse(gap.when ?? 0);
    const key_of = ({ gateway, partition, epoch, gap }) => [gateway, partition, epoch, gap.from, gap.to, gap.cause].join();
    this.#gaps_table.show([...found].sort((a, b) => when(b) - when(a)), key_of);
    $('gaps').hidden = found.length === 0;
    const words = [found.length === 0 ? 'none' : `${some(found.length, 'gap')}, ${some(total(found.map(({ gap }) => gap.lost)), 'event')} lost`];
    if (this.#left_out > 0) words.push(`${count(this.#left_out)} older ones are not listed`);
    if (also) words.push(also);
    say($('gaps-count'), words.join('; '));
  }

  #rate({ stream, end_sum }, taken_at) {
    let samples = this.#samples.get(stream) ?? [];
    // A hub that was put back counts from below.
    if (samples.at(-1)?.end_sum > end_sum || samples.at(-1)?.at >= taken_at) samples = [];
    samples.push({ at: taken_at, end_sum });
    while (samples.length > 2 && taken_at - samples[1].at >= RATE_OVER_MS) samples.shift();
    this.#samples.set(stream, samples);
    const took = taken_at - samples[0].at;
    return took > 0 ? ((end_sum - samples[0].end_sum) * 1000) / took : null;
  }
}
