"use strict";
// The tree within the graph at a threshold, what of it is folded away, and where its concepts lie.
const conceptGraphTree = (() => {
  // Each concept under its strongest parent, without circles; `shows(edge)` says which edges count.
  const build = (data, shows) => {
    const { count } = data;
    const parent = new Int32Array(count).fill(-1), edge = new Int32Array(count).fill(-1);
    const root = Int32Array.from({ length: count }, (_, i) => i), extra = [];
    const top = (i) => {
      while (root[i] !== i) { root[i] = root[root[i]]; i = root[i]; }
      return i;
    };
    let shown = 0;
    for (const e of data.ranked) {
      if (!shows(e)) continue;
      shown++;
      const from = data.parent[e], to = data.child[e];
      if (parent[to] < 0 && top(from) !== to) {
        parent[to] = root[to] = from;
        edge[to] = e;
      } else extra.push(e);
    }
    const children = Array.from({ length: count }, () => []), tops = [];
    for (let i = 0; i < count; i++) (parent[i] < 0 ? tops : children[parent[i]]).push(i);

    // Parents before children, which gives depths one way and sizes the other.
    const order = tops.slice(), depth = new Int32Array(count), size = new Int32Array(count).fill(1), branch = new Int32Array(count);
    for (const i of tops) branch[i] = i;
    for (let at = 0; at < order.length; at++) {
      for (const j of children[order[at]]) {
        depth[j] = depth[order[at]] + 1;
        branch[j] = branch[order[at]];
        order.push(j);
      }
    }
    for (let at = order.length - 1; at >= 0; at--) if (parent[order[at]] >= 0) size[parent[order[at]]] += size[order[at]];
    const larger = (one, other) => size[other] - size[one] || data.counts[other] - data.counts[one] || one - other;
    tops.sort(larger);
    for (const list of children) list.sort(larger);
    return { parent, edge, extra, children, tops, order, depth, size, branch, shown };
  };

  // Concepts under a folded one are hidden; `at` is the folded concept that stands for them.
  const fold = (tree, folded) => {
    const at = new Int32Array(tree.parent.length), visible = new Uint8Array(tree.parent.length);
    for (const i of tree.order) {
      const above = tree.parent[i];
      const hidden = above >= 0 && (!visible[above] || folded.has(above));
      visible[i] = hidden ? 0 : 1;
      at[i] = hidden ? at[above] : i;
    }
    return { at, visible };
  };

  // Visits concepts depth first: `enter` before a concept's children, `leave` after them.
  const walk = (tree, kids, enter, leave) => {
    for (const first of tree.tops) {
      const path = [[first, 0]];
      enter(first);
      while (path.length) {
        const step = path[path.length - 1], list = kids(step[0]);
        if (step[1] < list.length) {
          const next = list[step[1]++];
          enter(next);
          path.push([next, 0]);
        } else {
          leave(step[0], list);
          path.pop();
        }
      }
    }
  };
  const NONE = [];
  const kidsOf = (tree, folded) => (i) => folded.has(i) ? NONE : tree.children[i];

  // A row for every leaf, a parent in the middle of its children. `gap` lies between branches, and
  // concepts that stand alone at the root take `alone` rows.
  const rows = (tree, kids, gap, alone = 1) => {
    const row = new Float64Array(tree.parent.length);
    let next = 0, last = -1;
    walk(tree, kids, (i) => {
      if (tree.parent[i] < 0 && last >= 0 && (kids(i).length || kids(last).length)) next += gap;
      if (tree.parent[i] < 0) last = i;
    }, (i, list) => {
      if (list.length) { row[i] = (row[list[0]] + row[list[list.length - 1]]) / 2; return; }
      const own = tree.parent[i] < 0 ? alone : 1;
      row[i] = next + own / 2 - 0.5;
      next += own;
    });
    return { row, total: next };
  };

  // Into [-1, 1]²; hidden concepts lie where the one is that stands for them.
  const fitted = (positions, folding) => {
    const count = folding.at.length;
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      if (!folding.visible[i]) continue;
      for (let axis = 0; axis < 2; axis++) {
        low[axis] = Math.min(low[axis], positions[2 * i + axis]);
        high[axis] = Math.max(high[axis], positions[2 * i + axis]);
      }
    }
    const half = Math.max(high[0] - low[0], high[1] - low[1]) / 2 || 1;
    const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    const place = (value, axis) => (value - middle[axis]) / half;
    const shown = new Float32Array(2 * count);
    for (let i = 0; i < count; i++) {
      for (let axis = 0; axis < 2; axis++) shown[2 * i + axis] = place(positions[2 * folding.at[i] + axis], axis);
    }
    return { positions: shown, place, half };
  };

  // From left to right; `aspect` is the width of the free part of the window over its height.
  const tidy = (tree, folded, folding, aspect) => {
    const kids = kidsOf(tree, folded), { row, total } = rows(tree, kids, 0.8);
    let deepest = 0;
    for (const i of tree.order) if (folding.visible[i]) deepest = Math.max(deepest, tree.depth[i]);
    const width = Math.min(32, Math.max(5, aspect * total / (deepest + 1)));
    const positions = new Float64Array(2 * tree.parent.length);
    for (const i of tree.order) {
      positions[2 * i] = (tree.depth[i] + 1) * width;
      positions[2 * i + 1] = -row[i];
    }
    const { positions: shown, place, half } = fitted(positions, folding);
    const origin = tree.tops.length > 1 ? [place(0.25 * width, 0), place(-(total - 1) / 2, 1)] : null;
    return { positions: shown, origin, spacing: 1 / half };
  };

  const CROWD = 150; // leaves that stand side by side on a whole ring; more go into several rows
  const ALONE = 0.3; // of the circle at most is for concepts that stand alone, where there are others
  const GAPS = 0.1; // of the circle lies between branches
  const radial = (tree, folded, folding) => {
    const kids = kidsOf(tree, folded), busy = tree.tops.filter((i) => kids(i).length).length;
    const counts = [], leaves = [];
    for (const i of tree.order) {
      if (!folding.visible[i]) continue;
      const depth = tree.depth[i];
      counts[depth] = (counts[depth] ?? 0) + 1;
      leaves[depth] = (leaves[depth] ?? 0) + (kids(i).length ? 0 : 1);
    }
    const number = leaves.reduce((sum, each) => sum + each, 0), single = tree.tops.length - busy;
    const alone = busy ? Math.min(1, ALONE / (1 - ALONE) * (number - single) / Math.max(1, single)) : 1;
    const room = number - single + alone * single;
    const gap = tree.tops.length > 1 ? Math.min(1.5, GAPS * room / Math.max(1, busy)) : 0;
    const { row, total } = rows(tree, kids, gap, alone);
    const span = 2 * Math.PI / Math.max(1, total + gap);

    // The middle is the root, or the only concept at it. Rings of few concepts stand close.
    const radius = [], most = Math.max(1, ...counts);
    counts.forEach((count, depth) => {
      const step = Math.min(1, Math.max(0.42, 1.5 * Math.sqrt(count / most)));
      radius.push(depth ? radius[depth - 1] + step : tree.tops.length === 1 ? 0 : 0.8);
    });
    const outer = radius[radius.length - 1] + 0.6;
    // Leaves of a crowded ring go into rows further out, those that stand alone up to the edge.
    const sector = (depth) => depth ? 1 : Math.max(0.02, alone * single / Math.max(1, total));
    const lanes = leaves.map((count, depth) => Math.min(depth ? 6 : 40, Math.max(1, Math.ceil(count / sector(depth) / CROWD))));
    const lane = lanes.map((each, depth) => each < 2 ? 0
      : depth ? Math.min(0.16, 0.72 * ((radius[depth + 1] ?? outer + 0.4) - radius[depth]) / each) : (outer - radius[0]) / each);
    const seen = lanes.map(() => 0), positions = new Float64Array(2 * tree.parent.length);
    let arcs = 0;
    walk(tree, kids, () => {}, (i, list) => {
      const depth = tree.depth[i], out = list.length ? 0 : lane[depth] * (seen[depth]++ % lanes[depth]);
      const angle = Math.PI / 2 - (row[i] + 0.5) * span, from = radius[depth] + out;
      positions[2 * i] = from * Math.cos(angle);
      positions[2 * i + 1] = from * Math.sin(angle);
      if (!list.length) arcs += Math.max(0.05, Math.min(0.5, span * from * (tree.parent[i] < 0 ? alone : 1) * Math.sqrt(lanes[depth])));
    });
    const { positions: shown, place, half } = fitted(positions, folding);
    // Curves and labels turn around the middle of the rings.
    const middle = [place(0, 0), place(0, 1)];
    return { positions: shown, origin: tree.tops.length === 1 ? null : middle, middle, spacing: arcs / Math.max(1, number) / half };
  };

  // All concepts that edges lead to from one, or that lead to it; circles end by themselves.
  const reach = (start, lists, ends, shows) => {
    const found = new Set(), waiting = [start];
    while (waiting.length) {
      for (const edge of lists[waiting.pop()]) {
        const next = ends[edge];
        if (!shows(edge) || next === start || found.has(next)) continue;
        found.add(next);
        waiting.push(next);
      }
    }
    return found;
  };
  const relatives = (data, i, shows) => ({
    ancestors: reach(i, data.above, data.parent, shows),
    descendants: reach(i, data.below, data.child, shows),
  });
  return { build, fold, tidy, radial, fitted, relatives };
})();
