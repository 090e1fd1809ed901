// The table of groups: the one that is furthest behind first.

import { $, Table, say, show_worry } from './table.js';
import { count, duration } from './words.js';

export class Groups {
  #table = new Table($('groups-table'), [
    ['Group', 'name', (cell, { group }) => say(cell, group)],
    ['Stream', 'name', (cell, { stream }) => say(cell, stream)],
    ['Lag', 'n', (cell, { lag }) => say(cell, count(lag), 'Offsets it has not committed')],
    ['Behind by', 'n', (cell, { lag, lag_s }) => say(cell, lag_s == null ? '–' : lag === 0 ? 'nothing' : duration(lag_s), 'How old the next event is')],
    ['Overtaken', 'n', (cell, { overtaken }) => show_worry(cell, overtaken, 'Partitions that lost what it had not read')],
    ['Held by', 'name', (cell, { held_by }) => say(cell, held_by ?? 'nobody')],
  ]);

  show(groups) {
    const furthest_first = [...groups].sort((a, b) => b.lag - a.lag || (`${a.group} ${a.stream}` < `${b.group} ${b.stream}` ? -1 : 1));
    this.#table.show(furthest_first, ({ group, stream }) => `${group} ${stream}`);
    $('no-group').hidden = groups.length > 0;
    $('groups-table').parentElement.hidden = groups.length === 0;
  }
}
