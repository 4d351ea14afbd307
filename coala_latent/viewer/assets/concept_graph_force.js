"use strict";
// Concepts as bodies that repel each other, tied by edges (Barnes and Hut, 1986; velocity Verlet as
// in d3-force). No chance is involved: the same graph always ends in the same picture.
const conceptGraphForce = (() => {
  const STEPS = 300, THETA = 0.9, REPULSION = 34, LENGTH = 26, GRAVITY = 0.035, KEPT = 0.6;
  const DEEPEST = 40;

  // A quadtree in flat arrays: four children a cell, its mass and its centre of mass.
  const quadtree = (count) => {
    const most = 8 * count + 64;
    const kids = new Int32Array(4 * most), body = new Int32Array(most);
    const mass = new Float64Array(most), cx = new Float64Array(most), cy = new Float64Array(most);
    const stack = new Int32Array(4 * DEEPEST + 64), width = new Float64Array(4 * DEEPEST + 64);
    let used = 0, side = 1;
    const cell = () => {
      kids.fill(-1, 4 * used, 4 * used + 4);
      body[used] = -1;
      mass[used] = cx[used] = cy[used] = 0;
      return used++;
    };
    const fill = (x, y) => {
      let left = Infinity, low = Infinity, right = -Infinity, high = -Infinity;
      for (let i = 0; i < count; i++) {
        left = Math.min(left, x[i]); right = Math.max(right, x[i]);
        low = Math.min(low, y[i]); high = Math.max(high, y[i]);
      }
      side = Math.max(right - left, high - low, 1e-6) * 1.0001;
      used = 0;
      cell();
      for (let i = 0; i < count; i++) {
        let at = 0, x0 = left, y0 = low, half = side / 2, moved = -1;
        for (let depth = 0; ; depth++) {
          mass[at]++;
          cx[at] += x[i];
          cy[at] += y[i];
          const inner = kids[4 * at] >= 0 || kids[4 * at + 1] >= 0 || kids[4 * at + 2] >= 0 || kids[4 * at + 3] >= 0;
          // Bodies at the same place share a cell, and so do all where room runs out.
          if (!inner && mass[at] === 1) { body[at] = i; break; }
          if (depth === DEEPEST || used + 2 >= most) break;
          if (!inner && body[at] >= 0) {
            moved = body[at];
            body[at] = -1;
            const quarter = (x[moved] >= x0 + half ? 1 : 0) + (y[moved] >= y0 + half ? 2 : 0);
            const next = cell();
            kids[4 * at + quarter] = next;
            body[next] = moved;
            mass[next] = 1;
            cx[next] = x[moved];
            cy[next] = y[moved];
          }
          const east = x[i] >= x0 + half ? 1 : 0, north = y[i] >= y0 + half ? 1 : 0, slot = 4 * at + east + 2 * north;
          if (kids[slot] < 0) kids[slot] = cell();
          at = kids[slot];
          x0 += east * half;
          y0 += north * half;
          half /= 2;
        }
      }
      for (let at = 0; at < used; at++) { cx[at] /= mass[at]; cy[at] /= mass[at]; }
    };
    const push = (i, x, y, force, out) => {
      let top = 0;
      stack[top] = 0;
      width[top++] = side;
      out[0] = out[1] = 0;
      while (top > 0) {
        const at = stack[--top], w = width[top];
        if (body[at] === i) continue;
        let dx = x[i] - cx[at], dy = y[i] - cy[at], square = dx * dx + dy * dy;
        const leaf = kids[4 * at] < 0 && kids[4 * at + 1] < 0 && kids[4 * at + 2] < 0 && kids[4 * at + 3] < 0;
        if (!leaf && w * w > THETA * THETA * square) {
          for (let quarter = 0; quarter < 4; quarter++) {
            const next = kids[4 * at + quarter];
            if (next >= 0) { stack[top] = next; width[top++] = w / 2; }
          }
          continue;
        }
        if (square < 1e-6) { dx = 0.01 * Math.cos(i); dy = 0.01 * Math.sin(i); square = 1e-2; }
        const pull = force * mass[at] / Math.max(square, 4);
        out[0] += dx * pull;
        out[1] += dy * pull;
      }
    };
    return { fill, push };
  };

  // `start` has positions in [-1, 1]², of the radial layout. Call `run(milliseconds)` until done.
  const simulation = (data, start) => {
    const { count, edgeCount } = data;
    const spread = 14 * Math.sqrt(count + 4);
    const x = new Float64Array(count), y = new Float64Array(count);
    const vx = new Float64Array(count), vy = new Float64Array(count), degree = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      // A little apart, for concepts that start at one place.
      x[i] = start[2 * i] * spread + Math.cos(2.4 * i);
      y[i] = start[2 * i + 1] * spread + Math.sin(2.4 * i);
    }
    for (let e = 0; e < edgeCount; e++) { degree[data.parent[e]]++; degree[data.child[e]]++; }
    const tree = quadtree(count), out = [0, 0];
    let step = 0;
    const once = () => {
      const heat = Math.pow(0.001, step / STEPS);
      tree.fill(x, y);
      for (let i = 0; i < count; i++) {
        tree.push(i, x, y, REPULSION * heat, out);
        vx[i] += out[0] - GRAVITY * heat * x[i];
        vy[i] += out[1] - GRAVITY * heat * y[i];
      }
      for (let e = 0; e < edgeCount; e++) {
        const p = data.parent[e], c = data.child[e];
        const dx = x[c] + vx[c] - x[p] - vx[p], dy = y[c] + vy[c] - y[p] - vy[p];
        const length = Math.hypot(dx, dy) || 1e-3;
        const pull = heat * (length - LENGTH) / length / Math.min(degree[p], degree[c]);
        const share = degree[p] / (degree[p] + degree[c]);
        vx[c] -= dx * pull * share;
        vy[c] -= dy * pull * share;
        vx[p] += dx * pull * (1 - share);
        vy[p] += dy * pull * (1 - share);
      }
      for (let i = 0; i < count; i++) {
        x[i] += vx[i] *= KEPT;
        y[i] += vy[i] *= KEPT;
      }
      step++;
    };
    const run = (milliseconds) => {
      const begin = performance.now();
      while (step < STEPS && performance.now() - begin < milliseconds) once();
      return step < STEPS;
    };
    const positions = () => {
      const both = new Float64Array(2 * count);
      for (let i = 0; i < count; i++) { both[2 * i] = x[i]; both[2 * i + 1] = y[i]; }
      return both;
    };
    return { run, positions, done: () => step >= STEPS, part: () => step / STEPS };
  };
  return { simulation };
})();
