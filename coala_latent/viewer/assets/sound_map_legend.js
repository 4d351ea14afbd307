"use strict";
// The colour of every point, and the legend that says what colours mean and hides classes.
const soundMapLegend = (() => {
  const colors = soundMapColors;
  const get = (id) => document.getElementById(id);
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const natural = new Intl.Collator(undefined, { numeric: true }).compare;

  // Each returns `rgb` (3 bytes a point), `back` (1: drawn below the others) and what the legend
  // needs to say it.
  const paintText = (data, column, theme) => {
    const most = colors.most, known = column.values.length;
    const shown = column.values.slice(0, most).sort(natural);
    const place = new Map(shown.map((value, index) => [value, index]));
    const classOf = Uint8Array.from({ length: known + 1 }, (_, code) =>
      code === known ? shown.length + 1 : place.get(column.values[code]) ?? shown.length);
    const tones = [...colors.classes(theme).slice(0, shown.length), colors.other(theme), colors.missing(theme)];
    const names = [...shown, `${known - shown.length} more`, "no value"];
    const rgb = new Uint8Array(3 * data.count), classes = new Uint8Array(data.count), back = new Uint8Array(data.count);
    const counts = new Uint32Array(names.length);
    for (let i = 0; i < data.count; i++) {
      const which = classes[i] = classOf[column.codes[i]];
      counts[which]++;
      back[i] = which >= shown.length ? 1 : 0;
      rgb.set(tones[which], 3 * i);
    }
    const entries = names.map((name, which) => ({ which, name, tone: tones[which], count: counts[which] }))
      .filter((entry) => entry.count);
    return { rgb, classes, back, entries };
  };

  const paintScale = (data, values, [low, high], theme, kind) => {
    const table = colors.scale(theme, kind), missing = colors.missing(theme);
    const rgb = new Uint8Array(3 * data.count), back = new Uint8Array(data.count);
    let unknown = 0;
    for (let i = 0; i < data.count; i++) {
      if (Number.isNaN(values[i])) {
        rgb.set(missing, 3 * i);
        back[i] = 1;
        unknown++;
        continue;
      }
      const part = high > low ? Math.min(1, Math.max(0, (values[i] - low) / (high - low))) : 0.5;
      const at = 3 * Math.round(255 * part);
      if (kind === "near" && part > 0.5) back[i] = 1;
      rgb[3 * i] = table[at];
      rgb[3 * i + 1] = table[at + 1];
      rgb[3 * i + 2] = table[at + 2];
    }
    return { rgb, classes: null, back, unknown };
  };
  // A few extreme values do not press all others into one colour.
  const limits = (values) => {
    const known = Float64Array.from(values).filter(Number.isFinite).sort();
    if (!known.length) return { ends: [0, 0], cut: [false, false] };
    const at = (part) => known[Math.round(part * (known.length - 1))];
    const [low, high, inner, outer] = [at(0), at(1), at(0.02), at(0.98)];
    if (!(outer > inner) || high - low < 2 * (outer - inner)) return { ends: [low, high], cut: [false, false] };
    return { ends: [inner, outer], cut: [low < inner, high > outer] };
  };

  const short = (data, value) => Number.isInteger(value) ? data.number(value) : data.number(Number(value.toPrecision(3)));

  const on = (data, changed) => {
    const select = get("color"), box = get("legend");
    const state = { rgb: null, classes: null, back: null, hidden: new Set(), lit: -1 };
    let distances = null;

    data.columns.forEach((column, index) => select.append(new Option(column.name, `column:${index}`)));
    select.append(new Option("Distance to selected", "distance"), new Option("One colour", "none"));
    const first = data.columns.findIndex((column) =>
      column.kind === "text" && column.values.length > 1 && column.values.length <= Math.max(colors.most, data.count / 2));
    select.value = first < 0 ? "none" : `column:${first}`;

    const chosen = () => select.value.startsWith("column:") ? data.columns[Number(select.value.slice(7))] : null;
    const missing = (unknown, theme) => unknown
      ? [make("p", { className: "entry" }, swatch(colors.missing(theme)), `no value (${data.whole(unknown)})`)] : [];
    const swatch = (tone) => {
      const element = make("i", { className: "swatch" });
      element.style.background = colors.css(tone);
      return element;
    };
    const bar = (title, low, high, theme, kind) => {
      const strip = make("div", { className: "bar" });
      strip.style.background = colors.gradient(theme, kind);
      return [make("h3", { textContent: title }), strip,
        make("p", { className: "ends" }, make("span", { textContent: low }), make("span", { textContent: high }))];
    };

    const showClasses = (column, entries) => {
      const rows = entries.map((entry) => {
        const button = make("button", { type: "button", className: "entry", title: entry.name },
          swatch(entry.tone), make("span", { className: "class", textContent: entry.name }),
          make("span", { className: "number", textContent: data.whole(entry.count) }));
        button.dataset.which = entry.which;
        button.addEventListener("click", (event) => toggle(entry.which, event.shiftKey, entries));
        button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(entry.which); });
        button.addEventListener("pointerleave", () => light(-1));
        return button;
      });
      const all = make("button", { type: "button", className: "plain", textContent: "Show all" });
      all.addEventListener("click", () => { state.hidden.clear(); mark(); changed("shown"); });
      box.replaceChildren(make("h3", { textContent: column.name }), ...rows, all);
      mark();
    };
    const mark = () => {
      for (const button of box.querySelectorAll("button.entry")) {
        button.setAttribute("aria-pressed", String(!state.hidden.has(Number(button.dataset.which))));
      }
      const all = box.querySelector("button.plain");
      if (all) all.hidden = !state.hidden.size;
    };
    const toggle = (which, only, entries) => {
      if (only) state.hidden = new Set(entries.map((entry) => entry.which).filter((other) => other !== which));
      else if (!state.hidden.delete(which)) state.hidden.add(which);
      mark();
      changed("shown");
    };
    const light = (which) => { if (state.lit !== which) { state.lit = which; changed("weights"); } };

    const paint = () => {
      const theme = colors.theme(), column = chosen();
      let painted;
      box.hidden = select.value === "none" || !data.count;
      if (column?.kind === "text") {
        painted = paintText(data, column, theme);
        showClasses(column, painted.entries);
      } else if (column) {
        const { ends, cut } = limits(column.values);
        painted = paintScale(data, column.values, ends, theme, "value");
        box.replaceChildren(...bar(column.name, (cut[0] ? "≤ " : "") + short(data, ends[0]),
          (cut[1] ? "≥ " : "") + short(data, ends[1]), theme, "value"), ...missing(painted.unknown, theme));
      } else if (select.value === "distance" && distances) {
        painted = paintScale(data, distances, [0, 1], theme, "near");
        box.replaceChildren(...bar("Cosine distance to selected", "0", "1 and more", theme, "near"),
          ...missing(painted.unknown, theme));
      } else {
        const tone = select.value === "distance" ? colors.missing(theme) : colors.one(theme);
        painted = { rgb: new Uint8Array(3 * data.count), classes: null, back: new Uint8Array(data.count) };
        for (let i = 0; i < data.count; i++) painted.rgb.set(tone, 3 * i);
        box.replaceChildren(make("p", { textContent: "Select a sound: the others are coloured by their distance to it." }));
      }
      state.rgb = painted.rgb;
      state.classes = painted.classes;
      state.back = painted.back;
    };
    select.addEventListener("change", () => {
      state.hidden.clear();
      state.lit = -1;
      paint();
      changed("shown");
    });
    paint();

    return {
      state, paint,
      byDistance: () => select.value === "distance",
      distances: (values) => { distances = values; if (select.value === "distance") paint(); },
      shows: (i) => !state.classes || !state.hidden.has(state.classes[i]),
      faint: (i) => state.lit >= 0 && state.classes !== null && state.classes[i] !== state.lit,
    };
  };
  return { on };
})();
