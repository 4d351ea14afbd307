"use strict";
// Which names are written and where: the most important first, none over another or over a node.
const conceptGraphLabels = (() => {
  const LONGEST = 30, MOST = 320, SIZE = 12.5;
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
  const font = (strong) => `${strong ? 650 : 450} ${SIZE}px ${FONT}`;
  const short = (text) => {
    const letters = Array.from(text.replace(/\s+/g, " ").trim());
    return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : letters.join("");
  };

  // Taken places as discs of a label's height, since labels may be turned: in lists, one for each
  // square of the window, in flat arrays.
  const CELL = SIZE * 1.3, BORDER = 170;
  const places = (width, height) => {
    const columns = Math.ceil((width + 2 * BORDER) / CELL) + 2, lines = Math.ceil((height + 2 * BORDER) / CELL) + 2;
    const head = new Int32Array(columns * lines).fill(-1);
    const next = [], xs = [], ys = [], sizes = [], owners = [];
    const column = (x) => Math.min(columns - 1, Math.max(0, Math.floor((x + BORDER) / CELL)));
    const line = (y) => Math.min(lines - 1, Math.max(0, Math.floor((y + BORDER) / CELL)));
    const free = (x, y, radius, owner) => {
      const reach = radius + CELL / 2, right = column(x + reach), low = line(y + reach);
      for (let r = line(y - reach); r <= low; r++) {
        for (let c = column(x - reach); c <= right; c++) {
          for (let at = head[r * columns + c]; at >= 0; at = next[at]) {
            const dx = x - xs[at], dy = y - ys[at], least = radius + sizes[at];
            if (dx * dx + dy * dy < least * least && owners[at] !== owner) return false;
          }
        }
      }
      return true;
    };
    const take = (x, y, radius, owner) => {
      const cell = line(y) * columns + column(x);
      next.push(head[cell]);
      xs.push(x);
      ys.push(y);
      sizes.push(Math.min(radius, CELL / 2));
      owners.push(owner);
      head[cell] = xs.length - 1;
    };
    return { free, take };
  };

  const widths = new Map();
  const width = (context, text, strong) => {
    const key = (strong ? "s" : "n") + text;
    if (!widths.has(key)) {
      context.font = font(strong);
      widths.set(key, context.measureText(text).width);
    }
    return widths.get(key);
  };

  // The ways in which a name may stand at its concept, best first: [angle, side].
  const ways = (scene, i, leaf) => {
    if (scene.style === "tidy") return leaf ? [[0, 1]] : [[0, -1], [0, 1], [0, 2], [0, -2]];
    if (scene.style === "radial" && leaf && scene.target.middle) {
      const dx = scene.positions[2 * i] - scene.target.middle[0], dy = scene.positions[2 * i + 1] - scene.target.middle[1];
      if (Math.hypot(dx, dy) > 1e-6) {
        const angle = Math.atan2(-dy, dx);
        return Math.abs(angle) > Math.PI / 2 ? [[angle + Math.PI, -1]] : [[angle, 1]];
      }
    }
    return [[0, 1], [0, -1], [0, 2], [0, -2]];
  };

  const place = (context, scene) => {
    const { folding, screen, radius, importance, data } = scene;
    const taken = places(scene.width, scene.height), found = [], candidates = [], weight = new Float64Array(data.count);
    for (let i = 0; i < data.count; i++) {
      if (!folding.visible[i]) continue;
      const [x, y] = screen(i);
      if (x < -BORDER || y < -20 || x > scene.width + BORDER || y > scene.height + 20) continue;
      candidates.push([i, x, y]);
      weight[i] = importance(i);
      if (radius(i) > 2.5) taken.take(x, y, radius(i), i);
    }
    candidates.sort((one, other) => weight[other[0]] - weight[one[0]] || one[0] - other[0]);
    // Where much is seen at once, fewer names stand further apart.
    const half = SIZE / 2, apart = half * Math.min(3, Math.max(1, candidates.length / 220));
    const most = Math.min(MOST, candidates.length > 600 ? 130 : MOST);
    for (const [i, x, y] of candidates.slice(0, 4 * most)) {
      if (found.length >= most) break;
      const strong = scene.strong(i), folded = scene.folded.has(i), size = radius(i);
      const text = short(data.names[i]) + (folded ? ` +${data.whole(scene.tree.size[i] - 1)}` : "");
      const long = width(context, text, strong);
      const leaf = folded || !scene.tree.children[i].length;
      const margin = importance(i) >= 1e9 ? half : apart;
      for (const [angle, side] of ways(scene, i, leaf)) {
        const gap = size + (scene.selected === i ? 10 : folded ? 9 : 5), across = Math.abs(side) === 2;
        const cos = Math.cos(angle), sin = Math.sin(angle);
        // Where the text begins, at half its height.
        const from = across ? -long / 2 : side > 0 ? gap : -gap - long;
        const up = across ? (gap + half) * -Math.sign(side) : 0;
        const x0 = x + cos * from - sin * up, y0 = y + sin * from + cos * up;
        // A little beyond its ends, so that names in a row stay apart.
        const spots = [], inner = Math.max(0, long - 2 * half + 6), discs = Math.ceil(inner / half);
        let free = true;
        for (let d = 0; d <= discs && free; d++) {
          const along = half - 3 + (discs ? inner * d / discs : 0), sx = x0 + cos * along, sy = y0 + sin * along;
          free = taken.free(sx, sy, margin, i);
          spots.push([sx, sy]);
        }
        if (!free) continue;
        for (const [sx, sy] of spots) taken.take(sx, sy, half, -1 - i);
        found.push({ i, x: x0, y: y0, angle, text, strong, width: long });
        break;
      }
    }
    return found;
  };

  const write = (context, labels, look) => {
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const { i, x, y, angle, text, strong } of labels) {
      context.save();
      context.translate(x, y);
      context.rotate(angle);
      context.font = font(strong);
      context.globalAlpha = look.faint(i) ? 0.45 : 1;
      context.lineWidth = 3.5;
      context.strokeStyle = look.ground;
      context.strokeText(text, 0, 0.5);
      context.fillStyle = look.ink;
      context.fillText(text, 0, 0.5);
      context.restore();
    }
    context.globalAlpha = 1;
  };
  return { place, write, height: SIZE };
})();
