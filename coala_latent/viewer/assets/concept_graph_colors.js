"use strict";
// Colours of concepts, by branch or by a value, and their legend.
const conceptGraphColors = (() => {
  const get = (id) => document.getElementById(id);
  const { classes, other, css, gradient, scale, theme, most } = soundMapColors;
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const on = (data, { changed, select }) => {
    const choice = get("color"), box = get("legend");
    const scales = { centrality: ["Centrality", data.centrality], counts: ["Recordings", data.counts] };
    if (data.accuracy) scales.accuracy = ["Accuracy", data.accuracy];
    const state = { code: new Uint16Array(data.count), palette: [] };
    // A branch keeps its colour while the threshold moves, as long as it is one.
    const slots = new Map();

    const branches = (tree) => {
      const large = tree.tops.filter((i) => tree.size[i] > 1), shown = new Set(large.slice(0, most));
      for (const i of [...slots.keys()]) if (!shown.has(i)) slots.delete(i);
      const used = new Set(slots.values());
      const free = Array.from({ length: most }, (_, slot) => slot).filter((slot) => !used.has(slot));
      for (const i of shown) if (!slots.has(i)) slots.set(i, free.shift());
      state.palette = [...classes(theme()), other(theme())].map(css);
      for (let i = 0; i < data.count; i++) state.code[i] = slots.get(tree.branch[i]) ?? most;
      const entries = [...shown].map((i) => {
        const entry = element("button", { type: "button", className: "entry", title: data.names[i] },
          element("span", { className: "swatch" }), element("span", { className: "class", textContent: data.names[i] }),
          element("span", { className: "number", textContent: data.whole(tree.size[i]) }));
        entry.setAttribute("aria-label", `${data.names[i]}: ${tree.size[i]} concepts`);
        entry.firstChild.style.background = state.palette[slots.get(i)];
        entry.addEventListener("click", () => select(i));
        return entry;
      });
      const rest = tree.tops.length - shown.size;
      if (rest) {
        const entry = element("p", { className: "entry" }, element("span", { className: "swatch" }),
          element("span", { className: "class", textContent: `${data.whole(rest)} ${large.length > most ? "others" : "alone"}` }));
        entry.firstChild.style.background = state.palette[most];
        entries.push(entry);
      }
      box.replaceChildren(element("h3", { textContent: "Branches" }), ...entries);
    };
    const byValue = ([title, values]) => {
      const known = values.filter((value) => value !== null), table = scale(theme(), "value");
      const low = known.length ? known.reduce((one, value) => Math.min(one, value)) : 0;
      const high = known.length ? known.reduce((one, value) => Math.max(one, value)) : 0;
      state.palette = Array.from({ length: 256 }, (_, step) => css(table.subarray(3 * step)));
      state.palette.push(css(other(theme())));
      for (let i = 0; i < data.count; i++) {
        state.code[i] = values[i] === null ? 256 : Math.round(255 * (values[i] - low) / (high - low || 1));
      }
      const bar = element("div", { className: "bar" });
      bar.style.background = gradient(theme(), "value");
      box.replaceChildren(element("h3", { textContent: title }), bar, element("p", { className: "ends" },
        element("span", { textContent: data.number(low) }), element("span", { textContent: data.number(high) })));
    };
    const paint = (tree) => {
      if (choice.value === "branch") branches(tree);
      else byValue(scales[choice.value]);
      box.hidden = !data.count || !box.querySelector(".entry, .bar");
    };
    for (const [key, [title]] of Object.entries(scales)) choice.append(new Option(title, key));
    choice.addEventListener("change", changed);
    return { state, paint };
  };
  return { on, element };
})();
