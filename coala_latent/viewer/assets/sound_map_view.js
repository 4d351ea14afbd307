"use strict";
// Where points are on the screen, and which are near a place: the view and a grid of cells.
const soundMapView = (() => {
  const SIDE = 256;

  // Points sorted by cells of the square [-1, 1]²; the first of cell c is order[first[c]].
  const grid = (positions) => {
    const count = positions.length / 2;
    const cell = (value) => Math.min(SIDE - 1, Math.max(0, Math.floor((value + 1) / 2 * SIDE)));
    const first = new Uint32Array(SIDE * SIDE + 1);
    const cells = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      cells[i] = cell(positions[2 * i + 1]) * SIDE + cell(positions[2 * i]);
      first[cells[i] + 1]++;
    }
    for (let c = 0; c < SIDE * SIDE; c++) first[c + 1] += first[c];
    const next = first.slice(0, -1), order = new Uint32Array(count);
    for (let i = 0; i < count; i++) order[next[cells[i]]++] = i;

    const within = (left, bottom, right, top, visit) => {
      for (let row = cell(bottom); row <= cell(top); row++) {
        const from = first[row * SIDE + cell(left)], to = first[row * SIDE + cell(right) + 1];
        for (let at = from; at < to; at++) visit(order[at]);
      }
    };
    const nearest = (x, y, radius, allowed) => {
      let best = -1, least = radius * radius;
      within(x - radius, y - radius, x + radius, y + radius, (i) => {
        const dx = positions[2 * i] - x, dy = positions[2 * i + 1] - y;
        const square = dx * dx + dy * dy;
        if (square <= least && allowed(i)) { least = square; best = i; }
      });
      return best;
    };
    // Even-odd rule; `outline` is [x, y] corners in the points' own coordinates.
    const inside = (outline, allowed) => {
      const xs = outline.map((corner) => corner[0]), ys = outline.map((corner) => corner[1]);
      const found = [];
      within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (i) => {
        const x = positions[2 * i], y = positions[2 * i + 1];
        let odd = false;
        for (let a = 0, b = outline.length - 1; a < outline.length; b = a++) {
          const [ax, ay] = outline[a], [bx, by] = outline[b];
          if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
        }
        if (odd && allowed(i)) found.push(i);
      });
      return found.sort((one, other) => one - other);
    };
    // The nearest point that lies within 45° of a direction; far to the side counts double.
    const towards = (i, direction, allowed) => {
      const [ux, uy] = direction;
      let best = -1, least = Infinity;
      for (let j = 0; j < count; j++) {
        const dx = positions[2 * j] - positions[2 * i], dy = positions[2 * j + 1] - positions[2 * i + 1];
        const ahead = dx * ux + dy * uy, aside = Math.abs(dx * uy - dy * ux);
        if (ahead <= 0 || aside > ahead || ahead + 2 * aside >= least || !allowed(j)) continue;
        least = ahead + 2 * aside;
        best = j;
      }
      return best;
    };
    return { nearest, inside, towards };
  };

  // Pixels are those of the page (CSS); y of the points runs up.
  const view = () => {
    const state = { x: 0, y: 0, zoom: 1, width: 1, height: 1 };
    // Points reach so far to the sides, and so much of the map's edges lies under other things.
    let reach = [1, 1], margin = { left: 0, right: 0, top: 0, bottom: 0 };
    const base = () => Math.max(20, Math.min(
      (state.width - margin.left - margin.right) / 2 / Math.max(0.05, reach[0]),
      (state.height - margin.top - margin.bottom) / 2 / Math.max(0.05, reach[1])));
    const fill = (extent, edges) => { reach = extent; margin = edges; };
    const scale = () => base() * state.zoom;
    // What stands over the map at its edges shifts the middle of the free part.
    const middle = () => [
      (state.width + margin.left - margin.right) / 2, (state.height + margin.top - margin.bottom) / 2];
    const toScreen = (x, y) => [
      (x - state.x) * scale() + middle()[0], middle()[1] - (y - state.y) * scale()];
    const toMap = (px, py) => [
      (px - middle()[0]) / scale() + state.x, (middle()[1] - py) / scale() + state.y];
    const zoomAt = (px, py, factor) => {
      const [x, y] = toMap(px, py);
      state.zoom = Math.min(2000, Math.max(0.5, state.zoom * factor));
      const [nowX, nowY] = toMap(px, py);
      state.x += x - nowX;
      state.y += y - nowY;
    };
    const pan = (dx, dy) => {
      state.x = Math.min(1.5, Math.max(-1.5, state.x - dx / scale()));
      state.y = Math.min(1.5, Math.max(-1.5, state.y + dy / scale()));
    };
    // The map's coordinates in the middle of the canvas, which is where drawing starts from.
    const center = () => toMap(state.width / 2, state.height / 2);
    return { state, fill, scale, toScreen, toMap, zoomAt, pan, center };
  };
  const extent = (positions) => {
    const reach = [0, 0];
    for (let at = 0; at < positions.length; at++) reach[at & 1] = Math.max(reach[at & 1], Math.abs(positions[at]));
    return reach;
  };
  return { grid, view, extent };
})();
