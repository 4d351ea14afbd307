"use strict";
// What the page knows: concepts, edges, examples, and values as text.
const conceptGraphData = (() => {
  const read = JSON.parse(document.getElementById("graph-data").textContent);
  const count = read.names.length, edgeCount = read.parent.length;
  const parent = Int32Array.from(read.parent), child = Int32Array.from(read.child);
  const strength = Float64Array.from(read.strength);
  const above = Array.from({ length: count }, () => []), below = Array.from({ length: count }, () => []);
  // From the strongest edge to the weakest, equal ones in their order.
  const ranked = Array.from(strength.keys()).sort((one, other) => strength[other] - strength[one] || one - other);
  for (const edge of ranked) {
    above[child[edge]].push(edge);
    below[parent[edge]].push(edge);
  }

  // Examples one after another, as the player knows its points.
  const examples = { first: [0], labels: [], recording: [], start: [], end: [] };
  for (let i = 0; i < count; i++) {
    for (const [label, sound, start, end] of read.examples[i] ?? []) {
      examples.labels.push(label);
      examples.recording.push(sound);
      examples.start.push(start);
      examples.end.push(end);
    }
    examples.first.push(examples.labels.length);
  }
  const lasts = new Float64Array(read.sounds.length);
  examples.recording.forEach((sound, e) => { lasts[sound] = Math.max(lasts[sound], examples.end[e]); });

  const whole = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const number = (value) => {
    if (value === null) return "–";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e9) return whole(value);
    return size !== 0 && (size >= 1e6 || size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
  };
  const fixed = (value) => Math.abs(value) < 100 ? value.toFixed(2) : number(value);
  const interval = (edge) => {
    const low = read.low[edge], high = read.high[edge];
    if (low === null || high === null) return "";
    return `${fixed(low)} to ${fixed(high)}`;
  };

  return {
    title: read.title, graphml: read.graphml, names: read.names, count, edgeCount, parent, child, strength, low: read.low, high: read.high,
    centrality: read.centrality, counts: read.counts, accuracy: read.accuracy, above, below, ranked,
    examples: {
      ...examples, sounds: read.sounds, spectrograms: null, lasts, name: (e) => examples.labels[e],
      of: (i) => Array.from({ length: examples.first[i + 1] - examples.first[i] }, (_, k) => examples.first[i] + k),
    },
    whole, number, fixed, interval,
  };
})();
