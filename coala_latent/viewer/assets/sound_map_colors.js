"use strict";
// Colours that stay apart for eyes with any colour vision, on a light and on a dark ground.
const soundMapColors = (() => {
  // Any two differ by at least 0.17 in OKLab, and by 0.085 under simulated protan and deutan and 0.1
  // under tritan vision (Machado, Oliveira, Fernandes, 2009); more colours than ten could not.
  const CLASSES = {
    light: ["#0a4c84", "#d8432e", "#318669", "#6bcce3", "#de60c3", "#a7c22c", "#8347c1", "#ec9f96", "#2f8efb", "#81221c"],
    dark: ["#a06df3", "#dbec30", "#9cc0fb", "#996c29", "#1581ac", "#fd7fba", "#41f7dc", "#6cb333", "#c23a7b", "#f9b989"],
  };
  const OTHER = { light: "#8f949b", dark: "#7d8590" };
  const MISSING = { light: "#c9c7c2", dark: "#4a5059" };
  const ONE = { light: "#1f6f78", dark: "#6cc3cc" };
  // Lightness, chroma and hue (OKLCH) at the ends; lightness runs one way, so that order is seen
  // without hue. Distance ends near the ground: what is far recedes.
  const SCALES = {
    light: { value: [[0.84, 0.13, 100], [0.32, 0.15, 290]], near: [[0.40, 0.15, 275], [0.885, 0.025, 95]] },
    dark: { value: [[0.42, 0.13, 290], [0.92, 0.15, 105]], near: [[0.93, 0.14, 100], [0.33, 0.04, 260]] },
  };

  const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  const fromLch = ([light, chroma, hue]) => {
    const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
    const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3;
    return [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    ].map((value) => {
      const linear = Math.min(1, Math.max(0, value));
      const shown = linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
      return Math.round(255 * shown);
    });
  };

  const scales = new Map();
  // 256 colours, bytes of red, green and blue.
  const scale = (theme, kind) => {
    const key = `${theme} ${kind}`;
    if (!scales.has(key)) {
      const [from, to] = SCALES[theme][kind];
      const table = new Uint8Array(768);
      for (let step = 0; step < 256; step++) {
        table.set(fromLch(from.map((value, part) => value + (to[part] - value) * step / 255)), 3 * step);
      }
      scales.set(key, table);
    }
    return scales.get(key);
  };

  const css = (rgb) => `rgb(${rgb[0]}, ${rgb[1]}, ${rgb[2]})`;
  const gradient = (theme, kind) => {
    const table = scale(theme, kind);
    const stops = [];
    for (let step = 0; step <= 255; step += 15) stops.push(css(table.subarray(3 * step)));
    return `linear-gradient(to right, ${stops.join(", ")})`;
  };
  const theme = () => document.documentElement.dataset.theme
    || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  return {
    most: CLASSES.light.length, theme, css, scale, gradient,
    classes: (which) => CLASSES[which].map(parse),
    other: (which) => parse(OTHER[which]),
    missing: (which) => parse(MISSING[which]),
    one: (which) => parse(ONE[which]),
  };
})();
