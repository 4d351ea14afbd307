"use strict";
// Rows of sounds: the nearest neighbours, and the list that is collected and exported.
const soundMapLists = (() => {
  const get = (id) => document.getElementById(id);
  const NEIGHBOURS = 12, STEP = 200;
  const button = (className, label, text, action) => {
    const element = document.createElement("button");
    Object.assign(element, { type: "button", className, textContent: text, title: label });
    element.setAttribute("aria-label", label);
    element.addEventListener("click", action);
    return element;
  };

  // A row of point i: a button that plays it, its name, which selects it, and a remark.
  const rows = (data, { listen, select, hover }) => (i, remark = "", remove = null) => {
    const row = document.createElement("li");
    const label = data.label(i);
    row.dataset.point = i;
    // A row that goes away is not left by the mouse.
    const name = button("row-name", label, label, () => { hover(-1); select(i); });
    name.setAttribute("aria-label", `Select ${label}`);
    row.append(button("row-play", `Play ${label}`, "", () => listen(i)), name);
    if (remark) row.append(Object.assign(document.createElement("span"), { className: "number", textContent: remark }));
    if (remove) row.append(button("row-remove", `Remove ${label}`, "×", () => { hover(-1); remove(); }));
    row.addEventListener("pointerenter", () => hover(i));
    row.addEventListener("pointerleave", () => hover(-1));
    return row;
  };

  // The points with the smallest distances, nearest first; equal ones in their own order.
  const nearest = (data, distances, i, allowed) => {
    const best = [];
    for (let j = 0; j < data.count; j++) {
      const distance = distances[j];
      if (j === i || !(best.length < NEIGHBOURS || distance < distances[best[best.length - 1]])) continue;
      if (Number.isNaN(distance) || !allowed(j)) continue;
      let at = best.length;
      while (at > 0 && distances[best[at - 1]] > distance) at--;
      best.splice(at, 0, j);
      if (best.length > NEIGHBOURS) best.pop();
    }
    return best;
  };

  const neighbours = (data, row, changed) => {
    const list = get("neighbours"), others = get("others");
    get("others-field").hidden = !data.segmented;
    others.checked = data.segmented;
    others.addEventListener("change", changed);
    const state = { points: [] };
    const show = (i, distances, allowed) => {
      const recording = data.recording[i];
      state.points = i < 0 ? [] : nearest(data, distances, i, (j) =>
        allowed(j) && !(others.checked && data.recording[j] === recording));
      list.replaceChildren(...state.points.map((j) => row(j, distances[j].toFixed(3))));
      get("neighbours-title").parentElement.hidden = i < 0;
      if (i >= 0 && !state.points.length) {
        list.append(Object.assign(document.createElement("li"), { className: "quiet", textContent: "None is shown." }));
      }
    };
    return { state, show };
  };

  // RFC 4180: CRLF, and quotes around what holds a comma, a quote, a line end or outer spaces.
  const field = (value) => {
    const text = String(value);
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (data, points, positions) => {
    const exact = (value) => Number.isNaN(value) ? "" : value;
    const header = ["point", "name", "start", "end", "sound", "x", "y", ...data.columns.map((column) => column.name)];
    const lines = points.map((i) => [
      i, data.name(i), exact(data.start[i]), exact(data.end[i]),
      data.sounds[data.recording[i]].startsWith("data:") ? "" : data.sounds[data.recording[i]],
      positions[2 * i], positions[2 * i + 1],
      ...data.columns.map((column) => column.kind === "number" ? exact(column.values[i]) : data.text(column, i)),
    ]);
    return [header, ...lines].map((line) => line.map(field).join(",") + "\r\n").join("");
  };

  const collection = (data, row, positions, changed) => {
    const list = get("list"), points = new Set();
    let limit = STEP;
    const show = () => {
      const shown = [...points].slice(0, limit);
      list.replaceChildren(...shown.map((i) => row(i, "", () => { points.delete(i); show(); changed(); })));
      if (points.size > limit) {
        const more = document.createElement("li");
        more.append(button("plain", "Show more of the list", `${data.whole(points.size - limit)} more`, () => { limit += STEP; show(); }));
        list.append(more);
      }
      get("list-count").textContent = points.size ? data.whole(points.size) : "";
      get("list-hint").hidden = points.size > 0;
      get("export").disabled = get("clear").disabled = !points.size;
    };
    const set = (indices, keep) => {
      if (!keep) { points.clear(); limit = STEP; }
      for (const i of indices) points.add(i);
      show();
      changed();
    };
    get("clear").addEventListener("click", () => set([], false));
    get("export").addEventListener("click", () => {
      const blob = new Blob([csv(data, [...points], positions())], { type: "text/csv;charset=utf-8" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${data.title.replace(/[^\p{L}\p{N} ._-]+/gu, " ").trim() || "sounds"}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    show();
    return { points, set };
  };
  return { rows, neighbours, collection };
})();
