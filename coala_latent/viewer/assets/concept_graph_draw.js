"use strict";
// One picture of the graph on a canvas: edges, concepts, rings, names.
const conceptGraphDraw = (() => {
  const WIDTHS = [0.8, 1.3, 2.1], MOST_EXTRA = 3000;

  // Strokes and fills of one look are gathered in one path: few changes of style, fast drawing.
  const gather = () => {
    const paths = new Map();
    const at = (key) => {
      if (!paths.has(key)) paths.set(key, new Path2D());
      return paths.get(key);
    };
    return { paths, at };
  };

  const curve = (path, style, middle, [x0, y0], [x1, y1]) => {
    path.moveTo(x0, y0);
    if (style === "tidy") {
      const half = (x0 + x1) / 2;
      path.bezierCurveTo(half, y0, half, y1, x1, y1);
      return;
    }
    const [mx, my] = middle, from = Math.hypot(x0 - mx, y0 - my), to = Math.hypot(x1 - mx, y1 - my);
    if (from < 1 || to < 1) { path.lineTo(x1, y1); return; }
    const ring = (from + to) / 2;
    path.bezierCurveTo(
      mx + (x0 - mx) / from * ring, my + (y0 - my) / from * ring,
      mx + (x1 - mx) / to * ring, my + (y1 - my) / to * ring, x1, y1);
  };
  // Wide at the parent, a point at the child: seen from afar, where arrow heads would not be.
  const taper = (path, [x0, y0], [x1, y1], width) => {
    const length = Math.hypot(x1 - x0, y1 - y0) || 1, dx = (y1 - y0) / length * width, dy = (x0 - x1) / length * width;
    path.moveTo(x0 + dx, y0 + dy);
    path.lineTo(x1, y1);
    path.lineTo(x0 - dx, y0 - dy);
    path.closePath();
  };
  const bow = (path, [x0, y0], [x1, y1]) => {
    path.moveTo(x0, y0);
    path.quadraticCurveTo((x0 + x1) / 2 + 0.16 * (y1 - y0), (y0 + y1) / 2 - 0.16 * (x1 - x0), x1, y1);
  };

  const edges = (context, scene, look) => {
    const { data, tree, folding, style, screen, emphasis } = scene;
    const middle = scene.target.middle ? scene.point(scene.target.middle) : [0, 0];
    const shown = gather();
    const outside = ([x0, y0], [x1, y1]) => Math.max(x0, x1) < -40 || Math.max(y0, y1) < -40
      || Math.min(x0, x1) > scene.width + 40 || Math.min(y0, y1) > scene.height + 40;
    const origin = scene.target.origin && style !== "force" ? scene.point(scene.target.origin) : null;
    const slim = Math.min(1, Math.max(0.45, scene.largest / 4)), crowded = tree.tops.length > 400;
    let tops = 0;
    for (const j of tree.order) {
      if (!folding.visible[j]) continue;
      const i = tree.parent[j];
      if (i < 0) {
        if (!origin || (crowded && tree.size[j] === 1)) continue;
        const to = screen(j);
        tops++;
        if (!outside(origin, to)) curve(shown.at("root"), style, middle, origin, to);
        continue;
      }
      const from = screen(i), to = screen(j);
      if (outside(from, to)) continue;
      const related = emphasis[i] === 2 && emphasis[j] === 2;
      const level = related ? 2 : Math.min(emphasis[i], emphasis[j]);
      const thick = scene.thickness(tree.edge[j]);
      const path = shown.at(`${level} ${thick} ${scene.code[j]}`);
      if (style === "force") taper(path, from, to, slim * WIDTHS[thick] * (level === 2 ? 1.9 : 1.3));
      else curve(path, style, middle, from, to);
    }
    const extra = gather();
    if (tree.extra.length <= MOST_EXTRA || scene.selected >= 0) {
      for (const e of tree.extra) {
        const i = data.parent[e], j = data.child[e];
        if (!folding.visible[i] || !folding.visible[j]) continue;
        const related = emphasis[i] === 2 && emphasis[j] === 2;
        if (tree.extra.length > MOST_EXTRA && !related) continue;
        const from = screen(i), to = screen(j);
        if (!outside(from, to)) bow(extra.at(related), from, to);
      }
    }
    if (shown.paths.has("root")) {
      context.globalAlpha = (scene.dimmed ? 0.4 : 1) * Math.min(0.9, Math.max(0.16, 30 / tops));
      context.strokeStyle = look.line;
      context.lineWidth = 1;
      context.stroke(shown.paths.get("root"));
    }
    context.setLineDash([4, 4]);
    for (const [related, path] of extra.paths) {
      context.globalAlpha = related ? 0.8 : scene.dimmed ? 0.1 : Math.min(0.4, Math.max(0.08, 12 / tree.extra.length));
      context.strokeStyle = look.quiet;
      context.lineWidth = related ? 1.6 : 1;
      context.stroke(path);
    }
    context.setLineDash([]);
    const keys = [...shown.paths.keys()].filter((key) => key !== "root").sort();
    for (const key of keys) {
      const [level, thick, code] = key.split(" ").map(Number);
      // Many small branches of one grey would melt together.
      const faint = crowded && code === scene.palette.length - 1 ? 0.35 : 1;
      context.globalAlpha = [0.13, 0.55, 1][level] * (level === 1 ? faint : 1);
      context.strokeStyle = context.fillStyle = scene.palette[code];
      context.lineWidth = slim * WIDTHS[thick] * (level === 2 ? 1.5 : 1);
      if (style === "force") context.fill(shown.paths.get(key));
      else context.stroke(shown.paths.get(key));
    }
    context.globalAlpha = 1;
    if (origin) {
      context.beginPath();
      context.arc(...origin, 3.5, 0, 2 * Math.PI);
      context.fillStyle = look.ground;
      context.strokeStyle = look.quiet;
      context.lineWidth = 1.25;
      context.fill();
      context.stroke();
    }
  };

  const concepts = (context, scene, look) => {
    const { folding, screen, radius, emphasis } = scene;
    const discs = gather(), rings = gather();
    for (let at = scene.tree.order.length - 1; at >= 0; at--) {
      const i = scene.tree.order[at];
      if (!folding.visible[i]) continue;
      const [x, y] = screen(i), size = radius(i);
      if (x < -size - 20 || y < -size - 20 || x > scene.width + size + 20 || y > scene.height + size + 20) continue;
      const path = discs.at(`${emphasis[i]} ${scene.code[i]}`);
      path.moveTo(x + size, y);
      path.arc(x, y, size, 0, 2 * Math.PI);
      if (scene.folded.has(i)) {
        const ring = rings.at(`${emphasis[i]} ${scene.code[i]}`);
        ring.moveTo(x + size + 3.5, y);
        ring.arc(x, y, size + 3.5, 0, 2 * Math.PI);
      }
    }
    for (const key of [...discs.paths.keys()].sort()) {
      const [level, code] = key.split(" ").map(Number);
      const path = discs.paths.get(key);
      context.globalAlpha = 1;
      context.strokeStyle = look.ground;
      context.lineWidth = 2;
      if (scene.largest > 2.5) context.stroke(path);
      context.globalAlpha = level === 0 ? 0.24 : 1;
      context.fillStyle = context.strokeStyle = scene.palette[code];
      context.fill(path);
      context.lineWidth = 1.75;
      if (rings.paths.has(key)) context.stroke(rings.paths.get(key));
    }
    context.globalAlpha = 1;
  };

  const ring = (context, scene, i, color, width, extra) => {
    if (i < 0 || !scene.folding.visible[i]) return;
    context.beginPath();
    context.arc(...scene.screen(i), scene.radius(i) + extra, 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  };

  // Returns the names that were written.
  const draw = (canvas, ratio, scene) => {
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const look = { faint: (i) => scene.emphasis[i] === 0 };
    for (const name of ["ground", "ink", "quiet", "line", "accent"]) look[name] = style.getPropertyValue(`--${name}`).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    edges(context, scene, look);
    concepts(context, scene, look);
    if (scene.hovered !== scene.selected) ring(context, scene, scene.hovered, look.ink, 1.75, 3);
    ring(context, scene, scene.selected, look.ground, 5, 3.5);
    ring(context, scene, scene.selected, look.accent, 2.5, 4);
    const labels = scene.quick ? [] : conceptGraphLabels.place(context, scene);
    conceptGraphLabels.write(context, labels, look);
    return labels;
  };
  return { draw };
})();
