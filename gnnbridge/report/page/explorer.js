// The controls: what they choose, and when the graphs are drawn.

const holder = document.getElementById('graph-data');
if (!holder) return;
const data = JSON.parse(holder.textContent);
const byId = (id) => document.getElementById(id);
const control = {
  layer: byId('layer'), head: byId('head'), threshold: byId('threshold'),
  span: byId('span'), start: byId('start'),
};
const state = { layer: 0, head: -1, span: 0, start: 0, token: -1, pinned: false };

// Small weights get more of the slider's way.
const leastWeight = () => (control.threshold.value / 100) ** 2;
const readouts = document.querySelectorAll('.readout');
const graphs = [...document.querySelectorAll('.graph')].map((place, i) => new Graph(place, data.panels[i], readouts[i]));

function choose(token) {
  if (token === state.token) return;
  state.token = token;
  for (const graph of graphs) graph.highlight();
}

let waiting = 0;
function redraw() {
  if (waiting) return;
  waiting = requestAnimationFrame(() => {
    waiting = 0;
    drawAll();
  });
}

function drawAll() {
  const least = leastWeight();
  byId('threshold-value').textContent = least < 0.001 ? '0' : least.toFixed(3);
  byId('start-value').textContent = state.start;
  for (const graph of graphs) graph.draw();
  root.dataset.drawn = String(1 + Number(root.dataset.drawn || 0));
}

// The least weight at which no graph has more arcs than can be told apart.
function settle() {
  let least = 0;
  for (const graph of graphs) {
    const edges = graph.edges;
    const most = Math.min(3 * graph.panel.size, 900);
    if (edges && edges.count > most) least = Math.max(least, edges.weight[most]);
  }
  control.threshold.value = Math.ceil(100 * Math.sqrt(least));
}

const option = (select, value, text) => {
  const made = select.appendChild(html('option', text));
  made.value = value;
};
const layers = [...new Set(data.panels.flatMap((panel) => panel.layers.map((layer) => layer.layer)))].sort((a, b) => a - b);
for (const layer of layers) option(control.layer, layer, String(layer));
state.layer = Number(holder.dataset.layer);
control.layer.value = state.layer;
const longest = Math.max(...data.panels.map((panel) => panel.size));
option(control.span, 0, 'all');
for (const span of [256, 128, 64, 32, 16]) if (span < longest) option(control.span, span, String(span));

function offerHeads() {
  const there = data.panels.flatMap((panel) => panel.layers.filter((layer) => layer.layer === state.layer));
  const most = Math.max(...there.map((layer) => layer.heads));
  const scores = data.panels.length === 1 && there[0] && there[0].scores;
  control.head.replaceChildren();
  option(control.head, -1, 'mean over heads');
  for (let head = 0; head < most; head++) {
    const score = scores && scores[head];
    option(control.head, head, `head ${head}` + (typeof score === 'number' ? ` · sink ${score.toFixed(2)}` : ''));
  }
  if (state.head >= most) state.head = -1;
  control.head.value = state.head;
}

let touched = false;
function look() {
  if (!touched) settle();
  redraw();
}
control.layer.addEventListener('change', () => {
  state.layer = Number(control.layer.value);
  offerHeads();
  look();
});
control.head.addEventListener('change', () => {
  state.head = Number(control.head.value);
  look();
});
control.threshold.addEventListener('input', () => {
  touched = true;
  redraw();
});
control.span.addEventListener('change', () => {
  state.span = Number(control.span.value);
  const room = state.span ? Math.max(longest - state.span, 0) : 0;
  control.start.max = room;
  state.start = Math.min(state.start, room);
  control.start.value = state.start;
  byId('start-control').hidden = room === 0;
  redraw();
});
control.start.addEventListener('input', () => {
  state.start = Number(control.start.value);
  redraw();
});
for (const button of document.querySelectorAll('[data-step]')) {
  button.addEventListener('click', () => {
    const select = control[button.dataset.step];
    const next = select.selectedIndex + Number(button.dataset.by);
    if (next < 0 || next >= select.options.length) return;
    select.selectedIndex = next;
    select.dispatchEvent(new Event('change'));
  });
}
let width = 0;
new ResizeObserver(() => {
  const now = graphs[0].stage.clientWidth;
  if (now && now !== width) {
    width = now;
    redraw();
  }
}).observe(graphs[0].stage);

offerHeads();
settle();
width = graphs[0].stage.clientWidth;
drawAll();
