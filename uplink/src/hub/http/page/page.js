// The page of a hub: asks how things are every two seconds while somebody looks, and gives each part what concerns it.

import * as api from './api.js';
import { Gateways } from './gateways.js';
import { Groups } from './groups.js';
import { Streams } from './streams.js';
import { $, make, say, show_fill } from './table.js';
import { Tail } from './tail.js';
import { ago, count, duration, rate, time } from './words.js';

const EVERY_MS = 2_000;
/** A hub that does not answer is asked less and less often. */
const AGAIN_MAX_MS = 30_000;
const SECTIONS = { 1: 'gateways', 2: 'streams', 3: 'groups', 4: 'tail' };

const gateways = new Gateways();
const groups = new Groups();
const streams = new Streams(keep_in_address);
const tail = new Tail(ask_for_token);
const hub = { time: null, answered_at: null, failures: 0, timer: 0, is_asked: false };

const since_answer = () => performance.now() - hub.answered_at;
/** What time it is by the hub's clock, in ms: that of who looks may be another. */
const hub_now = () => hub.time + since_answer();
const age = (when) => Math.max(0, (hub_now() - Date.parse(when)) / 1000);

async function ask() {
  clearTimeout(hub.timer);
  if (hub.is_asked || document.hidden) return;
  hub.is_asked = true;
  let pause = EVERY_MS;
  try {
    const status = await api.status();
    hub.failures = 0;
    hub.answered_at = performance.now();
    hub.time = Date.parse(status.time);
    show(status);
  } catch (why) {
    if (why.status === 401) return ask_for_token(why);
    pause = Math.min(AGAIN_MAX_MS, EVERY_MS * 2 ** hub.failures);
    hub.failures += 1;
    streams.watch(false);
    complain(why, pause);
  } finally {
    hub.is_asked = false;
  }
  if (!document.hidden) hub.timer = setTimeout(ask, pause);
}

/** The contents, the form for a token, or neither; with the banner or without. */
function show_only(id, is_away = false) {
  for (const part of ['contents', 'door']) $(part).hidden = part !== id;
  $('banner').hidden = !is_away;
}

function show(status) {
  show_only('contents');
  const shown = $('trouble').textContent;
  if (shown !== status.trouble.join('')) $('trouble').replaceChildren(...status.trouble.map((sentence) => make('p', '', sentence)));
  $('trouble').hidden = status.trouble.length === 0;
  say($('version'), `${status.version}, up ${duration(status.uptime_s)}`);
  say($('connected'), `${count(status.gateways.filter(({ connected }) => connected).length)} of ${count(status.gateways.length)}`, 'Connected, of those that are known');
  say($('consumers'), count(status.consumers));
  show_fill($('disk'), status.disk);
  gateways.show(status.gateways, age);
  say($('rate'), rate(streams.show(status.streams, hub.time, hub_now)));
  groups.show(status.groups);
  tail.show(status.streams, hub_now, streams.chosen);
  tick();
}

/** Says how old is what is shown. */
function tick() {
  if (hub.answered_at !== null) say($('answered'), ago(since_answer() / 1000));
}

function complain(why, pause) {
  const said = why instanceof api.Refused ? `The hub answers: ${why.message}.` : 'The hub does not answer.';
  const since = hub.answered_at === null ? 'Nothing has come from it yet.' : `What is shown is from ${time(Date.now() - since_answer())}.`;
  show_only(hub.answered_at === null ? '' : 'contents', true);
  say($('banner').firstChild, `${said} ${since} It is asked again in ${duration(pause / 1000)}.`);
}

function ask_for_token(why) {
  clearTimeout(hub.timer);
  streams.watch(false);
  tail.watch(false);
  say($('denied'), api.token.get() ? `That token is not good here: ${why.message}.` : '');
  api.token.forget();
  show_only('door');
  $('token').value = '';
  $('token').focus();
}

/** The choice stands in the address, so that it can be sent to somebody, and is there after loading again. */
function keep_in_address(stream, span) {
  history.replaceState(null, '', `#${new URLSearchParams({ stream, span })}`);
}

$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  api.token.keep($('token').value.trim());
  ask();
});
$('banner').addEventListener('click', ask);
$('help').addEventListener('click', () => $('keys').showModal());
document.addEventListener('visibilitychange', () => {
  clearTimeout(hub.timer);
  if (!$('door').hidden) return;
  streams.watch(!document.hidden);
  tail.watch(!document.hidden);
  ask();
});
setInterval(tick, 1_000);

document.addEventListener('keydown', (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || $('keys').open) return;
  const is_field = target.matches('input:not([type=radio]), select');
  if (key === 'Escape' && is_field) target.blur();
  if (is_field) return;
  if (key === '?') $('keys').showModal();
  else if ($('contents').hidden) return;
  else if (key === '/') $('search').focus();
  else if (key === 'f') $('tail-filter').focus();
  else if (key === 'p') tail.pause();
  else if (key in SECTIONS) $(SECTIONS[key]).focus();
  else return;
  event.preventDefault();
});

const asked = new URLSearchParams(location.hash.slice(1));
streams.prefer(asked.get('stream'), asked.get('span'));
ask();
