"use strict";
// Finds points by words in their names, columns and citations, and filters them by a value.
const soundMapSearch = (() => {
  const get = (id) => document.getElementById(id);
  const LISTED = 60, OFFERED = 500, FEW = 40, RANGES = 8;
  const plain = (text) => text.normalize("NFC").toLowerCase();

  const search = (data, row, changed) => {
    const input = get("search"), box = get("matches");
    const state = { matches: null, found: [] };
    let texts = null;
    // Lower case is kept for values, not for points: a value that repeats is compared once.
    const prepare = () => {
      texts ??= [data.names, ...data.columns.filter((column) => column.kind === "text"), ...(data.citations ? [data.citations] : [])]
        .map((coded) => ({ codes: coded.codes, lower: coded.values.map(plain) }));
      return texts;
    };
    const marks = (word) => {
      const hit = new Uint8Array(data.count);
      for (const { codes, lower } of prepare()) {
        const holds = lower.map((text) => text.includes(word));
        if (!holds.includes(true)) continue;
        for (let i = 0; i < data.count; i++) if (holds[codes[i]]) hit[i] = 1;
      }
      const value = Number(word);
      if (!Number.isNaN(value)) {
        for (const { kind, values } of data.columns) {
          if (kind === "number") for (let i = 0; i < data.count; i++) if (values[i] === value) hit[i] = 1;
        }
      }
      return hit;
    };

    const list = (allowed) => {
      state.found = [];
      let total = 0;
      for (let i = 0; i < data.count && state.matches; i++) {
        if (!state.matches[i] || !allowed(i)) continue;
        total++;
        if (state.found.length < LISTED) state.found.push(i);
      }
      box.hidden = !state.matches;
      if (!state.matches) { box.replaceChildren(); return; }
      const head = document.createElement("p");
      head.setAttribute("role", "status");
      head.textContent = total === 0 ? "Nothing found." : total === 1 ? "1 sound"
        : `${data.whole(total)} sounds${total > LISTED ? `, the first ${LISTED}:` : ""}`;
      const rows = document.createElement("ol");
      rows.append(...state.found.map((i) => row(i)));
      box.replaceChildren(head, ...(total ? [rows] : []));
    };
    const run = () => {
      const words = plain(input.value).split(/\s+/).filter(Boolean);
      state.matches = null;
      for (const word of words) {
        const hit = marks(word);
        if (state.matches) for (let i = 0; i < data.count; i++) hit[i] &= state.matches[i];
        state.matches = hit;
      }
      changed();
    };
    let waiting = 0;
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(run, 90); });
    input.addEventListener("focus", () => { box.hidden = !state.matches; });
    const clear = () => { clearTimeout(waiting); input.value = ""; run(); };
    // What was typed last may not have been looked for yet.
    const now = () => { clearTimeout(waiting); run(); return state.found[0] ?? -1; };
    return { input, clear, now, list, fold: () => { box.hidden = true; },
      active: () => state.matches !== null, faint: (i) => state.matches !== null && !state.matches[i] };
  };

  // Values of a column as choices: [label, test of a point].
  const choicesOf = (data, column) => {
    const natural = new Intl.Collator(undefined, { numeric: true }).compare;
    const { values, codes } = column;
    if (column.kind === "text") {
      const offered = values.slice(0, OFFERED).map((value, code) => [value, (i) => codes[i] === code]);
      offered.sort((one, other) => natural(one[0], other[0]));
      if (values.length > OFFERED) offered.push([`(any of the ${values.length - OFFERED} rarer values)`, (i) => codes[i] >= OFFERED && codes[i] < values.length]);
      if (codes.includes(values.length)) offered.push(["(no value)", (i) => codes[i] === values.length]);
      return offered;
    }
    const known = [...new Set(Float64Array.from(values).filter((value) => !Number.isNaN(value)).sort())];
    const offered = known.length <= FEW
      ? known.map((value) => [data.number(value), (i) => values[i] === value])
      : Array.from({ length: RANGES }, (_, part) => {
        const low = known[Math.floor(part * known.length / RANGES)];
        const high = known[Math.floor((part + 1) * known.length / RANGES) - 1];
        return [`${data.number(low)} to ${data.number(high)}`, (i) => values[i] >= low && values[i] <= high];
      });
    if (values.some(Number.isNaN)) offered.push(["(no value)", (i) => Number.isNaN(values[i])]);
    return offered;
  };

  const filter = (data, changed) => {
    const columns = get("filter-column"), options = get("filter-value");
    let choices = [], chosen = null;
    data.columns.forEach((column, index) => columns.append(new Option(column.name, String(index))));
    if (!data.columns.length) columns.append(new Option("no columns", ""));
    const offer = () => {
      choices = data.columns.length ? choicesOf(data, data.columns[Number(columns.value)]) : [];
      options.replaceChildren(new Option("All", "all"), ...choices.map(([label], index) => new Option(label, String(index))));
      options.disabled = columns.disabled = !data.columns.length;
      chosen = null;
    };
    columns.addEventListener("change", () => { const before = chosen; offer(); if (before) changed(); });
    options.addEventListener("change", () => {
      chosen = options.value === "all" ? null : choices[Number(options.value)][1];
      changed();
    });
    offer();
    return { shows: (i) => !chosen || chosen(i) };
  };
  return { search, filter };
})();
