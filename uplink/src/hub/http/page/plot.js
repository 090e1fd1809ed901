// A plot of events over time with gaps on a line below, on the same axis. Drawn as SVG; knows no hub.

import { say } from './table.js';
import { count, day, minute, rate, some, time, total } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
const [LEFT, RIGHT, TOP, HEIGHT, LINE, FOOT] = [52, 10, 10, 150, 26, 20];
const MINUTE = 60_000;
/** How far apart the words below the axis are, by what is shown. */
const TICKS = [5, 10, 15, 30, 60, 180, 360, 720, 1440, 2880].map((minutes) => minutes * MINUTE);

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

/** The next number that is easy to read. */
function round_up(n) {
  if (n <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 4, 5, 10].map((step) => step * size).find((step) => step >= n * 0.999);
}

export class Plot {
  #host;
  #readout;
  #data = null;
  #at = null;
  #width = 0;

  constructor(host, readout) {
    this.#host = host;
    this.#readout = readout;
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.#width || width === 0) return;
      this.#width = width;
      this.#draw();
    }).observe(host);
    for (const event of ['pointermove', 'pointerdown']) host.addEventListener(event, (at) => this.#point(at));
    for (const event of ['pointerleave', 'blur']) host.addEventListener(event, () => this.#go(null));
    host.addEventListener('keydown', (event) => this.#key(event));
  }

  /** `counts` between `from` and `to` (ms), and gaps `{ at, lost }`, those that are within. Null: not known yet. */
  show(data) {
    this.#data = data;
    if (this.#at >= data?.counts.length) this.#at = null;
    this.#draw();
  }

  #step() {
    const { from, to, counts } = this.#data;
    return (to - from) / counts.length;
  }

  #x(ms) {
    const { from, to } = this.#data;
    return LEFT + ((ms - from) / (to - from)) * (this.#width - LEFT - RIGHT);
  }

  #point(event) {
    if (!this.#data) return;
    const x = event.clientX - this.#host.getBoundingClientRect().left;
    const share = (x - LEFT) / (this.#width - LEFT - RIGHT);
    this.#go(share < 0 || share >= 1 ? null : Math.floor(share * this.#data.counts.length));
  }

  #key(event) {
    if (!this.#data) return;
    const last = this.#data.counts.length - 1;
    const at = this.#at ?? last + 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#go(Math.max(0, Math.min(last, to)));
  }

  #go(at) {
    if (at === this.#at) return;
    this.#at = at;
    this.#tell();
  }

  /** One step's figures, or what there is in all. */
  #tell() {
    if (!this.#data) return say(this.#readout, '');
    const { counts, from, to, gaps } = this.#data;
    const step = this.#step();
    const words = (first, end, sum) => {
      const those = gaps.filter(({ at }) => at >= first && at < end);
      const told = `${some(sum, 'event')}, ${rate((sum * 1000) / (end - first))}/s`;
      return those.length > 0 ? `${told}, ${some(those.length, 'gap')} with ${count(total(those.map(({ lost }) => lost)))} lost` : told;
    };
    const first = from + this.#at * step;
    const text = this.#at === null ? `In all ${words(from, to, total(counts))}` : `${time(first)} to ${time(first + step)}: ${words(first, first + step, counts[this.#at])}`;
    const cursor = this.#host.querySelector('.cursor');
    cursor?.setAttribute('x', this.#x(first));
    cursor?.setAttribute('width', this.#at === null ? 0 : this.#x(first + step) - this.#x(first));
    say(this.#readout, text);
    Object.assign(this.#host, { ariaValueMax: counts.length - 1, ariaValueNow: this.#at ?? counts.length - 1, ariaValueText: text });
  }

  #draw() {
    if (!this.#data || this.#width < 100) {
      this.#host.replaceChildren();
      return this.#tell();
    }
    const svg = draw('svg', { width: this.#width, height: TOP + HEIGHT + LINE + FOOT, 'aria-hidden': 'true' });
    svg.append(...this.#grid(), ...this.#events(), ...this.#gaps());
    svg.append(draw('rect', { class: 'cursor', x: 0, y: TOP, width: 0, height: HEIGHT + LINE }));
    this.#host.replaceChildren(svg);
    this.#tell();
  }

  #top() {
    return round_up(Math.max(...this.#data.counts) / (this.#step() / 1000));
  }

  #grid() {
    const { from, to } = this.#data;
    const [right, foot, top] = [this.#width - RIGHT, TOP + HEIGHT + LINE, this.#top()];
    const word = (x, y, text, anchor = 'end') => draw('text', { x, y, 'text-anchor': anchor }, text);
    const lines = [0, 0.5, 1].flatMap((share) => {
      const y = TOP + HEIGHT * (1 - share);
      const value = top * share;
      const figure = value % 1 === 0 ? count(value) : String(+value.toPrecision(2));
      return [draw('line', { class: share === 0 ? 'axis' : 'grid', x1: LEFT, x2: right, y1: y + 0.5, y2: y + 0.5 }), word(LEFT - 6, y + 4, figure)];
    });
    const fits = Math.max(2, Math.floor((right - LEFT) / 70));
    const apart = TICKS.find((tick) => (to - from) / tick <= fits) ?? TICKS.at(-1);
    // Ticks stand at round times of the viewer's day.
    const shift = new Date(to).getTimezoneOffset() * MINUTE;
    for (let at = Math.ceil((from - shift) / apart) * apart + shift; at <= to; at += apart) {
      const x = Math.round(this.#x(at)) + 0.5;
      const when = apart >= 1440 * MINUTE || minute(at) === '00:00' ? day(at) : minute(at);
      lines.push(draw('line', { class: 'grid', x1: x, x2: x, y1: TOP, y2: foot + 3 }));
      lines.push(x > right - 18 ? word(right, foot + 16, when) : word(x, foot + 16, when, 'middle'));
    }
    return [...lines, word(LEFT - 6, foot - LINE / 2 + 6, 'gaps')];
  }

  #events() {
    const { counts, from, now } = this.#data;
    const [step, top] = [this.#step(), this.#top()];
    const y = (n) => (TOP + HEIGHT * (1 - n / (step / 1000) / top)).toFixed(1);
    // The step that is not over yet is drawn lighter: it has had less time.
    const whole = counts.filter((_, at) => from + (at + 1) * step <= now).length;
    const outline = (first, end) => {
      let path = '';
      for (let at = first; at < end; at += 1) {
        const [x, next] = [this.#x(from + at * step).toFixed(1), this.#x(from + (at + 1) * step).toFixed(1)];
        path += `${at === first ? 'M' : 'L'}${x} ${y(counts[at])}H${next}`;
      }
      return path;
    };
    const area = (first, end, name) => {
      if (first >= end) return [];
      const path = outline(first, end);
      const closed = `${path}V${TOP + HEIGHT}H${this.#x(from + first * step).toFixed(1)}Z`;
      return [draw('path', { class: `area ${name}`, d: closed }), draw('path', { class: `outline ${name}`, d: path })];
    };
    return [...area(0, whole, ''), ...area(whole, counts.length, 'now')];
  }

  #gaps() {
    const middle = TOP + HEIGHT + LINE / 2 + 2;
    const line = draw('line', { class: 'grid', x1: LEFT, x2: this.#width - RIGHT, y1: middle, y2: middle });
    // Those in which something was lost lie upon the others.
    const marks = [...this.#data.gaps].sort((a, b) => a.lost - b.lost);
    return [line, ...marks.map(({ at, lost }) => draw('rect', { class: lost > 0 ? 'gap' : 'gap nothing', x: this.#x(at) - 2, y: middle - 6, width: 4, height: 12, rx: 1 }))];
  }
}
