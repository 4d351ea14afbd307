"use strict";
// What the page knows of its points: arrays out of base64, names, columns and values as text.
const soundMapData = (() => {
  const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint32: Uint32Array };
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  const bytes = (base64) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64);
    const array = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
    return array;
  };
  const array = (packed) => new TYPES[packed.type](bytes(packed.base64).buffer);

  // Half precision has few enough values for a table of them all.
  const halves = (packed) => {
    const table = new Float32Array(65536);
    for (let code = 0; code < 65536; code++) {
      const sign = code & 0x8000 ? -1 : 1, exponent = (code >> 10) & 31, fraction = code & 1023;
      if (exponent === 0) table[code] = sign * fraction * 2 ** -24;
      else if (exponent === 31) table[code] = fraction ? NaN : sign * Infinity;
      else table[code] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    }
    return Float32Array.from(new Uint16Array(bytes(packed.base64).buffer), (code) => table[code]);
  };

  const points = read("map-points");
  const count = points.count;
  const coded = (packed) => ({ values: packed.values, codes: array(packed.codes) });
  const names = coded(points.names);
  const citations = points.citations ? coded(points.citations) : null;
  const recording = array(points.recording);
  const start = array(points.start);
  const end = array(points.end);
  const columns = points.columns.map((column) =>
    column.kind === "number"
      ? { name: column.name, kind: "number", values: array(column.values) }
      : { name: column.name, kind: "text", ...coded(column) });
  const projections = points.projections.map((each) => ({ name: each.name, positions: array(each.positions) }));

  const parts = new Uint32Array(points.sounds.length);
  for (const index of recording) parts[index]++;
  const segmented = parts.some((number) => number > 1);
  const lasts = new Float64Array(points.sounds.length);
  for (let i = 0; i < count; i++) lasts[recording[i]] = Math.max(lasts[recording[i]], end[i]);

  const number = (value) => {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "" : value > 0 ? "∞" : "-∞";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e15) return String(value);
    return size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  };
  const whole = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const seconds = (from, to) => `${from.toFixed(1)}–${to.toFixed(1)} s`;

  const name = (i) => names.values[names.codes[i]];
  const label = (i) => parts[recording[i]] > 1 ? `${name(i)}, ${seconds(start[i], end[i])}` : name(i);
  const citation = (i) => citations?.values[citations.codes[i]] ?? "";
  // "" where a value is missing.
  const text = (column, i) =>
    column.kind === "number" ? number(column.values[i]) : column.values[column.codes[i]] ?? "";

  return {
    title: points.title, count, names, citations, recording, start, end, columns, projections, segmented, lasts,
    sounds: points.sounds, spectrograms: points.spectrograms,
    name, label, citation, text, number, whole, seconds, vectors: vectorsOf(),
  };

  // Vectors are read when they are first asked for: without them the map is there sooner.
  function vectorsOf() {
    let kept = null;
    const load = () => {
      if (kept) return kept;
      const packed = read("map-vectors");
      const values = packed.type === "float16" ? halves(packed) : array(packed);
      const lengths = new Float64Array(count);
      for (let i = 0, at = 0; i < count; i++) {
        let sum = 0;
        for (const last = at + packed.dim; at < last; at++) sum += values[at] * values[at];
        lengths[i] = Math.sqrt(sum);
      }
      kept = { values, lengths, dim: packed.dim };
      return kept;
    };

    // Cosine distances of all points to one, in [0, 2]; NaN where a vector is zero.
    const distances = (i) => {
      const { values, lengths, dim } = load();
      const found = new Float32Array(count);
      const own = values.slice(i * dim, (i + 1) * dim);
      for (let j = 0, at = 0; j < count; j++) {
        let sum = 0;
        for (let k = 0; k < dim; k++, at++) sum += values[at] * own[k];
        found[j] = Math.max(0, 1 - sum / (lengths[j] * lengths[i]));
      }
      if (lengths[i] > 0) found[i] = 0;
      return found;
    };
    return { load, distances };
  }
})();
