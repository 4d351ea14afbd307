"use strict";
// Draws points on the processor, pixel by pixel, into a 2D canvas. Where WebGL would itself be
// software, this is several times faster: points are small and need nothing that WebGL can do.
const soundMapRaster = (() => {
  const PHASES = 4; // places within a pixel, each way, that a point's middle is rounded to
  const step = (low, high, value) => {
    const part = Math.min(1, Math.max(0, (value - low) / (high - low)));
    return part * part * (3 - 2 * part);
  };

  // Cover and share of the ground's colour of every pixel around a point: the same picture as the
  // fragment shader's.
  const stamp = (size, opacity, rim, phaseX, phaseY) => {
    const half = Math.ceil(size / 2), side = 2 * half + 1;
    const dx = [], dy = [], cover = [], edge = [];
    const soft = Math.min(1, 2.6 / size);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const far = Math.hypot(x - half + 0.5 - (phaseX + 0.5) / PHASES, y - half + 0.5 - (phaseY + 0.5) / PHASES) / (size / 2);
        const full = opacity + (1 - opacity) * rim * step(0.7, 0.8, far);
        const alpha = Math.round(256 * (1 - step(1 - soft, 1, far)) * full);
        if (alpha < 3) continue;
        dx.push(x - half);
        dy.push(y - half);
        cover.push(alpha);
        edge.push(Math.round(256 * rim * step(0.72, 0.86, far)));
      }
    }
    return { half, dx: Int32Array.from(dx), dy: Int32Array.from(dy), cover: Int32Array.from(cover), edge: Int32Array.from(edge) };
  };
  const stamps = (size, opacity, rim) => {
    const all = [];
    for (let y = 0; y < PHASES; y++) for (let x = 0; x < PHASES; x++) all.push(stamp(size, opacity, rim, x, y));
    return all;
  };

  const on = (canvas, arrange) => {
    const context = canvas.getContext("2d", { alpha: false });
    let before, after, colors, order, image = null, words, bytes, kept = { key: "" };

    const draw = ({ center, scale, size, opacity, rim, ground, moved }) => {
      const { width, height } = canvas;
      if (!image || image.width !== width || image.height !== height) {
        image = context.createImageData(width, height);
        bytes = image.data;
        words = new Uint32Array(bytes.buffer);
      }
      const [groundR, groundG, groundB] = ground;
      words.fill((255 << 24 | groundB << 16 | groundG << 8 | groundR) >>> 0);
      const key = `${size.toFixed(2)} ${opacity.toFixed(2)} ${rim.toFixed(2)}`;
      if (kept.key !== key) kept = { key, plain: stamps(size, opacity, rim), small: stamps(Math.max(2, size * 0.75), opacity, rim) };
      const [centerX, centerY] = center, middleX = width / 2, middleY = height / 2, still = moved >= 1;

      for (const i of order) {
        const weight = colors[4 * i + 3];
        if (!weight) continue;
        const mapX = still ? after[2 * i] : before[2 * i] + (after[2 * i] - before[2 * i]) * moved;
        const mapY = still ? after[2 * i + 1] : before[2 * i + 1] + (after[2 * i + 1] - before[2 * i + 1]) * moved;
        const x = (mapX - centerX) * scale + middleX, y = middleY - (mapY - centerY) * scale;
        const left = Math.floor(x), top = Math.floor(y);
        const phase = Math.floor((y - top) * PHASES) * PHASES + Math.floor((x - left) * PHASES);
        const { half, dx, dy, cover, edge } = (weight < 230 ? kept.small : kept.plain)[phase];
        if (left < -half || top < -half || left >= width + half || top >= height + half) continue;
        const whole = left >= half && top >= half && left < width - half && top < height - half;
        const red = colors[4 * i], green = colors[4 * i + 1], blue = colors[4 * i + 2];
        for (let part = 0; part < cover.length; part++) {
          const px = left + dx[part], py = top + dy[part];
          if (!whole && (px < 0 || py < 0 || px >= width || py >= height)) continue;
          const alpha = weight === 255 ? cover[part] : cover[part] * weight >> 8, mixed = edge[part];
          const at = 4 * (py * width + px);
          bytes[at] += (red + ((groundR - red) * mixed >> 8) - bytes[at]) * alpha >> 8;
          bytes[at + 1] += (green + ((groundG - green) * mixed >> 8) - bytes[at + 1]) * alpha >> 8;
          bytes[at + 2] += (blue + ((groundB - blue) * mixed >> 8) - bytes[at + 2]) * alpha >> 8;
        }
      }
      context.putImageData(image, 0, 0);
    };
    return {
      kind: "processor",
      positions: (from, to) => { before = from; after = to; },
      colors: (values, back) => { colors = values; order = arrange(back); },
      draw,
    };
  };
  return { on };
})();
