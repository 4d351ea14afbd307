"use strict";
// Pointers, wheel and keys on the map: pan, zoom, pinch, hover, choose, lasso.
const soundMapInput = (() => {
  const CLICK = 5; // pixels that a finger or mouse may move in a click

  // `act` has: hover(x, y), leave(), choose(x, y), lasso(outline, add), draw(), changed().
  const pointers = (surface, view, act, lassoOn) => {
    const down = new Map();
    let outline = null, adds = false, moved = false, gap = 0;
    const place = (event) => {
      const box = surface.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const spread = () => {
      const [one, other] = [...down.values()];
      return [Math.hypot(one.x - other.x, one.y - other.y), (one.x + other.x) / 2, (one.y + other.y) / 2];
    };

    surface.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x, y] = place(event);
      surface.setPointerCapture(event.pointerId);
      down.set(event.pointerId, { x, y, fromX: x, fromY: y });
      if (down.size === 1) {
        moved = false;
        adds = event.ctrlKey || event.metaKey;
        outline = event.shiftKey || lassoOn() ? [[x, y]] : null;
      } else {
        outline = null;
        moved = true;
        gap = spread()[0];
      }
    });
    surface.addEventListener("pointermove", (event) => {
      const [x, y] = place(event), own = down.get(event.pointerId);
      if (!own) { if (event.pointerType !== "touch") act.hover(x, y); return; }
      const [dx, dy] = [x - own.x, y - own.y];
      if (Math.hypot(x - own.fromX, y - own.fromY) > CLICK) moved = true;
      if (down.size === 2) {
        const [, beforeX, beforeY] = spread();
        Object.assign(own, { x, y });
        const [now, middleX, middleY] = spread();
        view.pan(middleX - beforeX, middleY - beforeY);
        if (gap > 0) view.zoomAt(middleX, middleY, now / gap);
        gap = now;
        act.changed();
        return;
      }
      if (!moved) return;
      Object.assign(own, { x, y });
      if (outline) {
        outline.push([x, y]);
        act.draw();
      } else {
        surface.classList.add("dragged");
        view.pan(dx, dy);
        act.changed();
      }
    });
    const up = (event) => {
      const own = down.get(event.pointerId);
      if (!own) return;
      down.delete(event.pointerId);
      if (down.size) { gap = 0; return; }
      surface.classList.remove("dragged");
      const drawn = outline;
      outline = null;
      if (event.type === "pointercancel") act.draw();
      else if (!moved) act.choose(...place(event), event.pointerType);
      else if (drawn) act.lasso(drawn, adds);
    };
    surface.addEventListener("pointerup", up);
    surface.addEventListener("pointercancel", up);
    surface.addEventListener("pointerleave", () => { if (!down.size) act.leave(); });
    surface.addEventListener("wheel", (event) => {
      event.preventDefault();
      // Lines and pages become pixels; a pinch on a touchpad comes as a wheel with Ctrl.
      const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
      view.zoomAt(...place(event), Math.exp(-Math.max(-300, Math.min(300, pixels)) * (event.ctrlKey ? 0.01 : 0.0018)));
      act.changed();
    }, { passive: false });
    return { outline: () => outline, stop: () => { outline = null; } };
  };

  const typing = (element) => element.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
  const pressing = (element) => element.matches("button, a, summary, input");

  // `keys`: a function for each key; a `Space` or `Enter` that a button takes is left to it.
  const keyboard = (keys) => document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const element = event.target instanceof Element ? event.target : document.body;
    if (document.querySelector("dialog[open]")) return;
    if (typing(element) && event.key !== "Escape") return;
    if (pressing(element) && (event.key === " " || event.key === "Enter" || element.type === "range")) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  return { pointers, keyboard };
})();
