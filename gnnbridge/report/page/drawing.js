// The drawing of one model's graph.

const NS = 'http://www.w3.org/2000/svg';
// More arcs than this are a carpet; the strongest are drawn.
const MOST_ARCS = 6000;
const CLASSES = 10;
const LISTED = 5;

const node = (name, attributes) => {
  const made = document.createElementNS(NS, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return made;
};
const html = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const SHOWN = { ' ': '␣', '\n': '↵', '\r': '↵', '\t': '→' };
function shownToken(token, limit) {
  const chars = Array.from(String(token), (char) => SHOWN[char] || (/[\p{C}]/u.test(char) ? '□' : char));
  return chars.length > limit ? chars.slice(0, limit - 1).join('') + '…' : chars.join('');
}
const share = (value) => (100 * value).toFixed(value < 0.0995 ? 1 : 0) + '\u00a0%';
const whole = (value) => value.toLocaleString('en-US');

class Graph {
  constructor(place, panel, readout) {
    this.panel = panel;
    this.place = place;
    this.count = place.querySelector('.count');
    this.stage = place.querySelector('.stage');
    this.readout = readout;
    this.stage.addEventListener('pointermove', (event) => {
      if (event.pointerType !== 'touch' && !state.pinned) choose(this.tokenAt(event));
    });
    this.stage.addEventListener('pointerleave', (event) => {
      if (event.pointerType !== 'touch' && !state.pinned) choose(-1);
    });
    this.stage.addEventListener('click', (event) => {
      const token = this.tokenAt(event);
      const same = state.pinned && token === state.token;
      state.pinned = !same;
      choose(same ? -1 : token);
    });
    this.stage.addEventListener('keydown', (event) => this.key(event));
  }

  get layer() {
    return this.panel.layers.find((layer) => layer.layer === state.layer);
  }

  get edges() {
    const layer = this.layer;
    return layer && state.head < layer.heads ? edgesOf(this.panel, layer, state.head) : null;
  }

  // First token and number of tokens that are shown.
  window() {
    const span = Math.min(state.span || this.panel.size, this.panel.size);
    return [Math.min(state.start, this.panel.size - span), span];
  }

  tokenAt(event) {
    const box = this.stage.getBoundingClientRect();
    const [first, span] = this.window();
    const at = ((event.clientX - box.left) / box.width * this.width - this.left) / this.step;
    return first + Math.min(Math.max(Math.floor(at), 0), span - 1);
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === 'Escape') {
      state.pinned = false;
      choose(-1);
    } else if (event.key in moves) {
      const [first, span] = this.window();
      const from = state.token < 0 ? first - 1 : state.token;
      state.pinned = true;
      choose(Math.min(Math.max(from + moves[event.key], first), first + span - 1));
    } else return;
    event.preventDefault();
  }

  draw() {
    const edges = this.edges;
    this.stage.replaceChildren();
    this.readout.replaceChildren();
    if (!edges) {
      this.count.textContent = this.panel.layers.length ? 'This model has no such layer or head.' : 'This profile carries no graphs.';
      delete this.count.dataset.drawn;
      return;
    }
    this.lay(edges);
    this.base = this.svg.appendChild(node('g', {}));
    this.hot = this.svg.appendChild(node('g', {}));
    this.labels = this.svg.appendChild(node('g', {}));
    const drawn = this.arcs(edges);
    this.label();
    this.tell(edges, drawn);
    this.highlight();
  }

  // The drawing's size and scale, in pixels.
  lay(edges) {
    const [first, span] = this.window();
    this.width = Math.max(this.stage.clientWidth, 200);
    this.left = 10;
    this.step = (this.width - 2 * this.left) / span;
    const names = this.panel.tokens.slice(first, first + span).map((token) => shownToken(token, 10));
    this.names = this.step >= 11 && names.length === span ? names : null;
    const longest = this.names ? Math.max(...this.names.map((name) => name.length)) : 0;
    this.turned = longest * 7.5 > this.step;
    const room = !this.names ? 30 : this.turned ? 12 + 6.6 * longest : 24;
    const tall = Math.min(Math.max(0.36 * this.width, 170), 330);
    this.foot = edges.back ? tall / 2 + 10 : tall;
    this.tall = (edges.back ? tall / 2 : tall) - 12;
    this.height = tall + 8 + room;
    this.under = tall + 8;
    this.svg = this.stage.appendChild(node('svg', { viewBox: `0 0 ${this.width} ${this.height}`, 'aria-hidden': 'true' }));
    this.svg.appendChild(node('path', { class: 'axis', d: `M${this.left} ${this.foot}H${this.width - this.left}` }));
  }

  x(token) {
    return this.left + (token - this.window()[0] + 0.5) * this.step;
  }

  arc(source, target) {
    const [from, to] = [this.x(source), this.x(target)];
    const rise = Math.sqrt(Math.abs(target - source) / Math.max(this.window()[1] - 1, 1));
    const top = this.foot - Math.sign(target - source) * 4 / 3 * rise * this.tall;
    return `M${from.toFixed(1)} ${this.foot}C${from.toFixed(1)} ${top.toFixed(1)} ${to.toFixed(1)} ${top.toFixed(1)} ${to.toFixed(1)} ${this.foot}`;
  }

  loop(token, weight) {
    const radius = Math.max(Math.min(this.step / 2, 5) * Math.sqrt(weight), 0.6);
    return `M${(this.x(token) - radius).toFixed(1)} ${this.foot}a${radius.toFixed(1)} ${radius.toFixed(1)} 0 1 1 ${(2 * radius).toFixed(1)} 0a${radius.toFixed(1)} ${radius.toFixed(1)} 0 1 1 ${(-2 * radius).toFixed(1)} 0`;
  }

  // All arcs as few shapes: one for each class of weight and colour.
  arcs(edges) {
    const [first, span] = this.window();
    const kept = above(edges, leastWeight());
    const seen = (token) => token >= first && token < first + span;
    const shapes = new Map();
    let drawn = 0;
    for (let i = 0; i < kept && drawn < MOST_ARCS; i++) {
      const source = edges.source[i], target = edges.target[i];
      if (!seen(source) && !seen(target)) continue;
      drawn += 1;
      const strength = Math.min(Math.floor(Math.sqrt(edges.weight[i]) * CLASSES), CLASSES - 1);
      const key = strength * 2 + (source === 0 && target !== 0 ? 1 : 0);
      if (!shapes.has(key)) shapes.set(key, []);
      shapes.get(key).push(source === target ? this.loop(source, edges.weight[i]) : this.arc(source, target));
    }
    // Many arcs are drawn finer, so that they stay apart.
    const fine = Math.max(Math.min(1, Math.sqrt(160 / Math.max(drawn, 1))), 0.3);
    for (const key of [...shapes.keys()].sort((a, b) => a - b)) {
      const strength = ((key >> 1) + 0.5) / CLASSES;
      this.base.appendChild(node('path', {
        class: key & 1 ? 'first' : 'other',
        d: shapes.get(key).join(''),
        'stroke-width': (fine * (0.6 + 2.2 * strength)).toFixed(2),
        'stroke-opacity': (0.15 + 0.8 * fine * strength + 0.1 * fine).toFixed(2),
      }));
    }
    return { kept, drawn };
  }

  label() {
    const [first, span] = this.window();
    if (this.names) {
      this.names.forEach((name, place) => {
        const x = this.x(first + place);
        const text = node('text', this.turned
          ? { transform: `translate(${x + 3.5} ${this.under + 2}) rotate(-90)`, 'text-anchor': 'end', 'font-size': 11, 'data-token': first + place }
          : { x, y: this.under + 12, 'text-anchor': 'middle', 'font-size': 11.5, 'data-token': first + place });
        text.textContent = name;
        this.labels.appendChild(text);
      });
      return;
    }
    const least = span / Math.max(Math.floor(this.width / 70), 1);
    const power = 10 ** Math.floor(Math.log10(least));
    const tick = Math.max([1, 2, 5, 10].find((n) => n * power >= least) * power, 1);
    for (let at = Math.ceil(first / tick) * tick; at < first + span; at += tick) {
      const x = this.x(at);
      this.labels.appendChild(node('path', { class: 'axis', d: `M${x} ${this.under - 4}v4` }));
      const text = node('text', { x, y: this.under + 13, 'text-anchor': 'middle', 'font-size': 11 });
      text.textContent = String(at);
      this.labels.appendChild(text);
    }
  }

  tell(edges, { kept, drawn }) {
    const parts = [html('b', whole(drawn)), ` of ${whole(edges.count)} edges in the page, `, html('b', share(edges.mass[kept]))];
    const [, span] = this.window();
    if (span < this.panel.size) parts[1] = ' edges here; edges of this weight hold ';
    else if (drawn < kept) parts[1] = ` edges, the strongest of ${whole(kept)} that hold `;
    parts.push(' of the attention');
    if (state.head < 0) parts.push(`; ${share(this.layer.own)} stays on its token, ${share(this.layer.first)} goes to the first`);
    this.count.replaceChildren(...parts, '.');
    this.count.dataset.drawn = drawn;
    this.count.dataset.mass = edges.mass[kept];
  }

  // The chosen token's edges over all others, and in words.
  highlight() {
    if (!this.svg || !this.edges) return;
    const token = state.token;
    this.hot.replaceChildren();
    this.base.classList.toggle('cold', token >= 0);
    for (const text of this.labels.querySelectorAll('text.chosen')) text.classList.remove('chosen');
    if (token < 0 || token >= this.panel.size) {
      const hint = html('p', this === graphs[0] ? 'Point at a token, tap it, or use the arrow keys, to see what it reads and what reads it.' : '\u00a0', 'hint');
      this.readout.replaceChildren(hint, this.mostRead());
      return;
    }
    const edges = this.edges;
    const reads = [], readers = [];
    for (let i = 0; i < edges.count; i++) {
      if (edges.target[i] === token) reads.push(i);
      else if (edges.source[i] === token) readers.push(i);
    }
    const add = (i, kind) => this.hot.appendChild(node('path', {
      class: kind,
      d: edges.source[i] === edges.target[i] ? this.loop(token, edges.weight[i]) : this.arc(edges.source[i], edges.target[i]),
      'stroke-width': (0.8 + 2.6 * Math.sqrt(edges.weight[i])).toFixed(2),
      'stroke-opacity': (0.3 + 0.7 * Math.sqrt(edges.weight[i])).toFixed(2),
    }));
    readers.slice(0, 400).forEach((i) => add(i, 'reader'));
    reads.forEach((i) => add(i, edges.source[i] === 0 && token !== 0 ? 'first' : 'other'));
    const x = this.x(token);
    this.hot.appendChild(node('path', { class: 'axis', d: `M${x} ${this.foot - 5}v10`, 'stroke-width': 2 }));
    const own = this.labels.querySelector(`text[data-token="${token}"]`);
    if (own) own.classList.add('chosen');
    const title = html('p', data.panels.length > 1 ? this.panel.name + ': token ' : 'Token ');
    title.append(String(token), ' ', html('span', shownToken(this.panel.tokens[token] ?? '', 24), 'token'));
    this.readout.replaceChildren(title, this.list('reads', reads, edges.source, 'reads', edges), this.list('is read by ' + whole(readers.length), readers, edges.target, 'readers', edges));
  }

  list(title, found, ends, kind, edges) {
    return this.items(title, kind, found.map((i) => [ends[i], edges.weight[i]]));
  }

  // The tokens that get the most of all attention.
  mostRead() {
    const edges = this.edges;
    const received = new Float64Array(this.panel.size);
    for (let i = 0; i < edges.count; i++) received[edges.source[i]] += edges.weight[i] / this.panel.size;
    const order = [...received.keys()].sort((a, b) => received[b] - received[a]);
    const title = (data.panels.length > 1 ? this.panel.name + ': r' : 'R') + 'ead the most';
    return this.items(title, 'reads', order.map((token) => [token, received[token]]).filter(([, mass]) => mass > 0));
  }

  items(title, kind, found) {
    const box = html('div', undefined, kind);
    box.appendChild(html('h4', title));
    const list = box.appendChild(html('ul'));
    for (const [token, weight] of found.slice(0, LISTED)) {
      const item = list.appendChild(html('li'));
      const bar = html('span', undefined, 'bar');
      const fill = bar.appendChild(html('i'));
      fill.style.width = `${Math.min(100 * weight, 100)}%`;
      item.append(html('span', String(token)), html('span', token === state.token ? 'itself' : shownToken(this.panel.tokens[token] ?? '', 14), 'token'), bar, html('span', weight.toFixed(3)));
    }
    return box;
  }
}
