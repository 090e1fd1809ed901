// Asking the hub: the documented paths, the token of who looks, and what a refusal says. Nothing here knows the page.

const KEPT_AS = 'sedge-token';
const PATIENCE_MS = 10_000;

/** The hub answered, and not with what was asked for. */
export class Refused extends Error {
  constructor(status, what) {
    super(what);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT_AS),
  keep: (word) => sessionStorage.setItem(KEPT_AS, word),
  forget: () => sessionStorage.removeItem(KEPT_AS),
};

/** The response to GET of `path` below v1/, if it is a good one. */
export async function get(path, { headers = {}, signal } = {}) {
  const word = token.get();
  if (word) headers.Authorization = `Bearer ${word}`;
  const response = await fetch(new URL(`v1/${path}`, document.baseURI), { headers, signal, cache: 'no-store' });
  if (response.ok) return response;
  // What stands between the hub and here answers in its own words.
  const { error } = await response.json().catch(() => ({}));
  throw new Refused(response.status, error ?? `the answer was ${response.status}`);
}

/** As much time as an answer may take, unless it is not wanted any more. */
const within = (...signals) => AbortSignal.any([...signals, AbortSignal.timeout(PATIENCE_MS)]);

export async function status() {
  return (await get('status', { signal: within() })).json();
}

const of_stream = (stream) => `streams/${encodeURIComponent(stream)}`;

/** How many offsets of `stream` fall into each of `steps` steps between two times in ms. */
export async function counts(stream, from, to, steps, signal) {
  const query = new URLSearchParams({ from: rfc3339(from), to: rfc3339(to), steps });
  const answer = await get(`${of_stream(stream)}/counts?${query}`, { signal: within(signal) });
  return (await answer.json()).steps.map((step) => step.events);
}

/** The gaps of one stretch of `stream`, where to go on, and whether there was more to look at. */
export async function gaps(stream, place, signal) {
  const query = new URLSearchParams({ only: 'gaps', ...place });
  const answer = await get(`${of_stream(stream)}/records?${query}`, { signal: within(signal) });
  const text = answer.status === 204 ? '' : await answer.text();
  return {
    found: text.split('\n').filter(Boolean).map((line) => JSON.parse(line)),
    cursor: answer.headers.get('Sedge-Cursor'),
    is_end: answer.headers.get('Sedge-End-Reached') !== 'false',
  };
}

/** The body of an answer that goes on: events as text. */
export async function events(stream, from, last, signal) {
  const headers = { Accept: 'text/event-stream' };
  if (last) headers['Last-Event-ID'] = last;
  const answer = await get(`${of_stream(stream)}/records?from=${from}`, { headers, signal });
  return answer.body.getReader();
}

/** Waits for `ms`, or until it is not wanted any more. */
export function pause(ms, signal) {
  return new Promise((go_on) => {
    const end = () => { clearTimeout(timer); signal.removeEventListener('abort', end); go_on(); };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}

export const rfc3339 = (ms) => new Date(ms).toISOString();
