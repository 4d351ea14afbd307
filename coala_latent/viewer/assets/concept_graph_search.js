"use strict";
// Finds concepts by words in their names; those that begin with the words come first.
const conceptGraphSearch = (() => {
  const get = (id) => document.getElementById(id);
  const { element } = conceptGraphColors;
  const LISTED = 60;
  // Accents do not matter: "cafe" finds "Café".
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}+/gu, "").toLowerCase();

  const on = (data, { select, hovered, changed }) => {
    const input = get("search"), box = get("matches"), names = data.names.map(plain);
    const state = { found: [], marks: null };
    const row = (i) => {
      const name = element("button", { type: "button", className: "row-name", textContent: data.names[i] || "(no name)", title: data.names[i] });
      name.addEventListener("click", () => { fold(); select(i); });
      name.addEventListener("pointerenter", () => hovered(i));
      name.addEventListener("pointerleave", () => hovered(-1));
      const made = element("li", {}, name, element("span", { className: "number", textContent: data.number(data.counts[i]) }));
      made.dataset.concept = i;
      return made;
    };
    const run = () => {
      clearTimeout(waiting);
      const asked = plain(input.value).trim(), words = asked.split(/\s+/).filter(Boolean);
      state.marks = words.length ? new Uint8Array(data.count) : null;
      const ranked = [];
      for (let i = 0; i < data.count && words.length; i++) {
        if (!words.every((word) => names[i].includes(word))) continue;
        state.marks[i] = 1;
        ranked.push([names[i] === asked ? 0 : names[i].startsWith(asked) ? 1 : 2, i]);
      }
      ranked.sort((one, other) => one[0] - other[0] || data.counts[other[1]] - data.counts[one[1]] || one[1] - other[1]);
      state.found = ranked.map(([, i]) => i);
      box.hidden = !words.length;
      const head = element("p", { textContent: !ranked.length ? "Nothing found." : ranked.length === 1 ? "1 concept"
        : `${data.whole(ranked.length)} concepts${ranked.length > LISTED ? `, the first ${LISTED}:` : ""}` });
      head.setAttribute("role", "status");
      box.replaceChildren(...words.length ? [head, element("ol", {}, ...state.found.slice(0, LISTED).map(row))] : []);
      changed();
    };
    let waiting = 0;
    const fold = () => { box.hidden = true; };
    const clear = () => { input.value = ""; run(); };
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(run, 60); });
    input.addEventListener("focus", () => { box.hidden = !state.marks; });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        run();
        if (!state.found.length) return;
        fold();
        input.blur();
        select(state.found[0]);
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        run();
        box.querySelector("button")?.focus();
      }
    });
    box.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const buttons = [...box.querySelectorAll("button")];
      (buttons[buttons.indexOf(document.activeElement) + by] ?? (by < 0 ? input : null))?.focus();
    });
    return { input, clear, fold, active: () => state.marks !== null, matches: (i) => state.marks?.[i] === 1 };
  };
  return { on };
})();
