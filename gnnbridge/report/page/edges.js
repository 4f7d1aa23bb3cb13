// The edges of the attention graph: unpacked, summed over heads, sorted.

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Keys and weights of one layer, unpacked when they are first looked at.
function unpacked(layer) {
  if (!layer.sources) {
    const bytes = bytesOf(layer.source);
    const sources = new Uint16Array(bytes.length / 2);
    for (let i = 0; i < sources.length; i++) sources[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    layer.sources = sources;
    layer.weights = bytesOf(layer.weight);
  }
  return layer;
}

// Edges of a head, or of the mean over heads: the strongest first.
function edgesOf(panel, layer, head) {
  const key = layer.layer + ':' + head;
  panel.cache = panel.cache || new Map();
  if (panel.cache.has(key)) return panel.cache.get(key);
  const { sources, weights, keep, heads } = unpacked(layer);
  const size = panel.size;
  const first = head < 0 ? 0 : head;
  const end = head < 0 ? heads : head + 1;
  const sum = new Float64Array(size);
  const keys = [], queries = [], sums = [];
  for (let query = 0; query < size; query++) {
    const touched = [];
    for (let h = first; h < end; h++) {
      const base = (h * size + query) * keep;
      for (let k = base; k < base + keep; k++) {
        const weight = weights[k];
        if (!weight) continue;
        const source = sources[k];
        if (!sum[source]) touched.push(source);
        sum[source] += weight;
      }
    }
    for (const source of touched) {
      keys.push(source);
      queries.push(query);
      sums.push(sum[source] / (255 * (end - first)));
      sum[source] = 0;
    }
  }
  const order = Uint32Array.from(sums.keys()).sort((a, b) => sums[b] - sums[a] || a - b);
  const edges = {
    count: order.length,
    source: Uint16Array.from(order, (i) => keys[i]),
    target: Uint16Array.from(order, (i) => queries[i]),
    weight: Float64Array.from(order, (i) => sums[i]),
    mass: new Float64Array(order.length + 1),
    back: false,
  };
  for (let i = 0; i < order.length; i++) {
    edges.mass[i + 1] = edges.mass[i] + edges.weight[i] / size;
    if (edges.source[i] > edges.target[i]) edges.back = true;
  }
  if (panel.cache.size > 12) panel.cache.clear();
  panel.cache.set(key, edges);
  return edges;
}

// How many edges have at least this weight.
function above(edges, least) {
  let low = 0, high = edges.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (edges.weight[middle] >= least) low = middle + 1; else high = middle;
  }
  return low;
}

// Small weights get more of the slider's way.
