"use strict";
// What is told of a concept: beside the mouse in short, at the side with its relatives and examples.
const conceptGraphPanel = (() => {
  const get = (id) => document.getElementById(id);
  const { element } = conceptGraphColors;
  const FEW = 6, LISTED = 200;

  const values = (data, i) => [
    ["Recordings", data.number(data.counts[i])],
    ...data.accuracy ? [["Accuracy", data.accuracy[i] === null ? "–" : data.accuracy[i].toFixed(3)]] : [],
    ["Centrality", data.number(data.centrality[i])],
  ];
  const pairs = (rows) => rows.flatMap(([name, ...rest]) => [
    element("dt", { textContent: name }), element("dd", {}, ...rest)]);

  const hover = (data, shows) => {
    const box = get("hover");
    // Names of the concepts at the other ends, with what is known of the edge.
    const list = (edges, ends) => {
      const shown = edges.filter(shows);
      if (!shown.length) return [];
      return [element("ul", {}, ...shown.slice(0, FEW).map((e) => element("li", {},
        element("span", { textContent: data.names[ends[e]] }),
        element("span", { className: "number", textContent: [data.fixed(data.strength[e]), data.interval(e) && `(${data.interval(e)})`].filter(Boolean).join(" ") }))),
      ...shown.length > FEW ? [element("li", { className: "number", textContent: `and ${data.whole(shown.length - FEW)} more` })] : [])];
    };
    const show = (i, at, stage) => {
      box.hidden = i < 0;
      if (i < 0) return;
      const parents = list(data.above[i], data.parent), children = list(data.below[i], data.child);
      const rows = [...values(data, i)];
      if (parents.length) rows.push([data.above[i].filter(shows).length > 1 ? "Parents" : "Parent", ...parents]);
      if (children.length) rows.push(["Children", ...children]);
      box.replaceChildren(element("strong", { textContent: data.names[i] || "(no name)" }), element("dl", {}, ...pairs(rows)));
      const [x, y] = at, width = box.offsetWidth, height = box.offsetHeight;
      const left = x + 18 + width < stage.clientWidth ? x + 18 : Math.max(8, x - 18 - width);
      const top = Math.max(8, Math.min(y - 12, stage.clientHeight - height - 8));
      box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    };
    return { show };
  };

  const selection = (data, { shows, select, fold, hovered }) => {
    const state = { selected: -1 };
    const player = soundMapPlayer.on(data.examples, () => mark());
    const button = (i, className = "row-name") => {
      const made = element("button", { type: "button", className, textContent: data.names[i] || "(no name)", title: data.names[i] });
      made.addEventListener("click", () => select(i));
      made.addEventListener("pointerenter", () => hovered(i));
      made.addEventListener("pointerleave", () => hovered(-1));
      return made;
    };
    const relatives = (id, edges, ends) => {
      const shown = edges.filter(shows), list = get(id);
      list.replaceChildren(...shown.slice(0, LISTED).map((e) => {
        const row = element("li", {}, button(ends[e]));
        row.dataset.concept = ends[e];
        const known = data.interval(e);
        row.append(element("span", { className: "number", textContent: data.fixed(data.strength[e]) + (known && ` (${known})`) }));
        return row;
      }));
      if (shown.length > LISTED) list.append(element("li", { className: "quiet", textContent: `and ${data.whole(shown.length - LISTED)} more` }));
      get(`${id}-title`).hidden = !shown.length;
      get(`${id}-title`).firstElementChild.textContent = shown.length > 1 ? data.whole(shown.length) : "";
    };
    const sounds = (e) => data.examples.sounds[data.examples.recording[e]] !== "";
    const example = (e) => {
      const label = data.examples.labels[e], start = data.examples.start[e], end = data.examples.end[e];
      const row = element("li");
      row.dataset.example = e;
      if (!sounds(e)) {
        row.append(element("span", { className: "row-name", textContent: label, title: label }));
        return row;
      }
      const play = element("button", { type: "button", className: "row-play" });
      const name = element("button", { type: "button", className: "row-name", textContent: label, title: label });
      play.setAttribute("aria-label", `Play ${label}`);
      for (const each of [play, name]) each.addEventListener("click", () => hear(e));
      row.append(play, name);
      if (end > start) row.append(element("span", { className: "number", textContent: `${start.toFixed(1)}–${end.toFixed(1)} s` }));
      return row;
    };
    const hear = (e) => {
      if (player.point() === e && player.playing()) player.toggle();
      else player.choose(e, true);
      get("deck").hidden = false;
      mark();
    };
    const mark = () => {
      for (const row of get("examples").children) {
        const own = row.dataset.example === String(player.point());
        row.toggleAttribute("aria-current", own);
        row.classList.toggle("playing", own && player.playing());
      }
    };
    // The way from the root.
    const path = (tree, i) => {
      const way = [];
      for (let at = tree.parent[i]; at >= 0; at = tree.parent[at]) way.unshift(at);
      get("path").replaceChildren(...way.slice(-8).map((at) => element("li", {}, button(at, "plain"))));
    };
    const show = (tree, folded, i) => {
      const other = i !== state.selected;
      state.selected = i;
      get("nothing").hidden = i >= 0;
      get("chosen").hidden = i < 0;
      if (i < 0) { player.choose(-1, false); return; }
      get("name").textContent = data.names[i] || "(no name)";
      get("values").replaceChildren(...pairs(values(data, i)));
      path(tree, i);
      relatives("parents", data.above[i], data.parent);
      relatives("children", data.below[i], data.child);
      const within = tree.size[i] - 1;
      get("fold").hidden = !within;
      get("fold").textContent = folded.has(i) ? `Expand (${data.whole(within)})` : "Collapse";
      if (!other) return;
      player.choose(-1, false);
      const own = data.examples.of(i);
      get("deck").hidden = true;
      get("examples").replaceChildren(...own.map(example));
      get("examples-title").hidden = !own.length;
      get("no-examples").hidden = own.length > 0;
    };
    get("fold").addEventListener("click", () => fold(state.selected));
    const playable = () => state.selected < 0 ? [] : data.examples.of(state.selected).filter(sounds);
    const toggle = () => {
      const own = playable();
      if (player.point() >= 0) player.toggle();
      else if (own.length) hear(own[0]);
    };
    const step = (by) => {
      const own = playable();
      const next = own[player.point() < 0 ? 0 : own.indexOf(player.point()) + by];
      if (next !== undefined) hear(next);
    };
    return { show, toggle, step };
  };
  return { hover, selection };
})();
