// Figures and times in words. Nothing here knows the page.

const NARROW = '\u202f';
const NOTHING = '–';

/** A whole number with narrow spaces between its thousands. */
export function count(n) {
  if (n == null) return NOTHING;
  return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, NARROW);
}

/** Something a second: with one digit behind the point while that says something. */
export function rate(n) {
  if (n == null) return NOTHING;
  return n > 0 && n < 99.95 ? n.toFixed(1) : count(n);
}

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return (at > 0 && n < 10 ? n.toFixed(1) : count(n)) + NARROW + units[at];
}

/** A length of time, given in seconds: its two largest units. */
export function duration(s) {
  if (s == null) return NOTHING;
  if (s < 0.9995) return Math.max(0, Math.round(s * 1000)) + NARROW + 'ms';
  if (s < 9.95 && s % 1 !== 0) return s.toFixed(1) + NARROW + 's';
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  let rest = Math.round(s);
  const at = units.findIndex(([, size]) => rest >= size);
  return units.slice(at, at + 2).flatMap(([name, size]) => {
    const n = Math.floor(rest / size);
    rest -= n * size;
    return n > 0 ? [count(n) + NARROW + name] : [];
  }).join(' ');
}

export function ago(s) {
  return s < 1 ? 'now' : `${duration(Math.floor(s))} ago`;
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const MINUTE = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** A time of day in the viewer's zone; with the day if that is another than today. */
export function time(ms) {
  const at = new Date(ms);
  const clock = CLOCK.format(at);
  return at.toDateString() === new Date().toDateString() ? clock : `${DAY.format(at)} ${clock}`;
}

export const minute = (ms) => MINUTE.format(ms);
export const day = (ms) => DAY.format(ms);

export const total = (numbers) => numbers.reduce((all, n) => all + n, 0);

/** `n` of something, in words. */
export function some(n, one, many = one + 's') {
  return `${count(n)} ${n === 1 ? one : many}`;
}

