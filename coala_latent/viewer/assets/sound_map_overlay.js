"use strict";
// What lies over the points: rings, lines to neighbours, the lasso, and the label under the mouse.
const soundMapOverlay = (() => {
  const get = (id) => document.getElementById(id);
  const MOST_RINGS = 2000, COLUMNS = 8;

  const draw = (canvas, ratio, screen, radius, shown) => {
    // An empty layer over the map would be put together with it in every frame all the same.
    canvas.hidden = !shown.outline && !shown.listed.size && Math.max(shown.selected, shown.hovered, shown.playing) < 0;
    if (canvas.hidden) return;
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const [ink, ground, accent, quiet] = ["--ink", "--ground", "--accent", "--quiet"].map((name) => style.getPropertyValue(name).trim());
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const ring = (i, width, color, extra) => {
      const [x, y] = screen(i);
      context.lineWidth = width;
      context.strokeStyle = color;
      context.beginPath();
      context.arc(x, y, radius + extra, 0, 2 * Math.PI);
      context.stroke();
    };
    if (shown.selected >= 0 && shown.neighbours.length) {
      const [x, y] = screen(shown.selected);
      context.strokeStyle = quiet;
      context.globalAlpha = 0.55;
      context.lineWidth = 1;
      context.beginPath();
      for (const i of shown.neighbours) { context.moveTo(x, y); context.lineTo(...screen(i)); }
      context.stroke();
      context.globalAlpha = 1;
      for (const i of shown.neighbours) ring(i, 1.25, ink, 1.5);
    }
    if (shown.listed.size <= MOST_RINGS) for (const i of shown.listed) ring(i, 1.5, ink, 1);
    if (shown.hovered >= 0) { ring(shown.hovered, 4, ground, 3); ring(shown.hovered, 1.75, ink, 3); }
    if (shown.playing >= 0) {
      context.globalAlpha = 0.55 * (1 - shown.pulse);
      ring(shown.playing, 2.5, accent, 5 + 16 * shown.pulse);
      context.globalAlpha = 1;
      if (shown.playing !== shown.selected) ring(shown.playing, 2, accent, 3);
    }
    if (shown.selected >= 0) {
      ring(shown.selected, 6, ground, 4.5);
      ring(shown.selected, 2.5, accent, 4.5);
    }
    if (shown.outline) {
      context.strokeStyle = context.fillStyle = accent;
      context.lineWidth = 1.5;
      context.beginPath();
      shown.outline.forEach(([x, y]) => context.lineTo(x, y));
      context.globalAlpha = 0.12;
      context.fill();
      context.globalAlpha = 1;
      context.setLineDash([5, 4]);
      context.stroke();
      context.setLineDash([]);
    }
  };

  const values = (data, i, most) => data.columns
    .map((column) => [column.name, data.text(column, i)]).filter(([, text]) => text !== "").slice(0, most)
    .flatMap(([name, text]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: text })]);

  // Beside the point, on the side where there is room.
  const label = (data, i, at, stage) => {
    const box = get("hover");
    const outside = i < 0 || at[0] < 0 || at[1] < 0 || at[0] > stage.clientWidth || at[1] > stage.clientHeight;
    box.hidden = outside;
    if (outside) return;
    if (box.dataset.point !== String(i)) {
      box.dataset.point = i;
      const list = document.createElement("dl");
      list.append(...values(data, i, COLUMNS));
      box.replaceChildren(Object.assign(document.createElement("strong"), { textContent: data.label(i) }), list);
    }
    const [x, y] = at, width = box.offsetWidth, height = box.offsetHeight;
    const left = x + 18 + width < stage.clientWidth ? x + 18 : Math.max(8, x - 18 - width);
    const top = Math.min(Math.max(8, y - height / 2), stage.clientHeight - height - 8);
    box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  };
  return { draw, label, values };
})();
