"use strict";
// Plays a part of a recording, shows where, and lets it be sought in the spectrogram.
const soundMapPlayer = (() => {
  const get = (id) => document.getElementById(id);

  const on = (data, changed) => {
    const audio = get("player"), strip = get("spectrogram"), picture = get("picture");
    const cursor = get("cursor"), part = get("part"), button = get("play");
    const state = { point: -1, until: Infinity, from: 0 };

    const length = () => {
      const known = audio.duration;
      if (Number.isFinite(known) && known > 0) return known;
      return state.point < 0 ? 0 : data.lasts[data.recording[state.point]];
    };
    const clock = (time) => {
      const tenths = Math.floor(time * 10 + 1e-6);
      return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
    };
    const share = (time) => `${Math.min(100, Math.max(0, 100 * time / (length() || 1)))}%`;
    // Where the sound is, or will be when the browser has opened it.
    const position = () => audio.readyState > 0 ? audio.currentTime : state.from;

    const show = () => {
      if (state.point < 0) return;
      const time = position(), start = data.start[state.point], end = data.end[state.point];
      cursor.style.left = share(time);
      part.hidden = end <= start || (start <= 0 && end >= length() - 0.05);
      part.style.left = share(start);
      part.style.right = `${100 - parseFloat(share(end))}%`;
      get("time").textContent = `${clock(time)} / ${clock(length())}`;
      button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
      button.classList.toggle("playing", !audio.paused);
      strip.setAttribute("aria-valuemin", "0");
      strip.setAttribute("aria-valuemax", length().toFixed(1));
      strip.setAttribute("aria-valuenow", time.toFixed(1));
      strip.setAttribute("aria-valuetext", `${time.toFixed(1)} of ${length().toFixed(1)} seconds`);
    };
    const say = (text) => { get("heard").textContent = text; };

    const start = () => {
      if (state.point < 0 || !audio.hasAttribute("src")) return;
      if (position() >= state.until - 0.01 || audio.ended) seek(data.start[state.point]);
      audio.play().catch((error) => {
        // Another sound was chosen meanwhile, or nobody has touched the page yet.
        if (error.name !== "AbortError" && error.name !== "NotAllowedError") failed();
      });
    };
    const failed = () => {
      if (state.point >= 0 && audio.hasAttribute("src")) {
        say(`This sound cannot be played: ${data.name(state.point)} is missing or of a format that the browser does not know.`);
      }
      changed();
    };
    // The end of the part is kept only while the sound is within it.
    const seek = (time) => {
      const begin = data.start[state.point], end = data.end[state.point];
      const within = end > begin && time >= begin - 0.05 && time < end;
      state.until = within ? end : Infinity;
      state.from = time;
      audio.currentTime = time;
      show();
    };

    const choose = (i, play) => {
      const source = i < 0 ? "" : data.sounds[data.recording[i]];
      if (i < 0) audio.pause();
      const other = i < 0 || state.point < 0 || data.recording[i] !== data.recording[state.point];
      state.point = i;
      if (i < 0) return;
      say("");
      if (other) {
        if (source) audio.src = source;
        else { audio.removeAttribute("src"); audio.load(); }
        const shown = data.spectrograms?.[data.recording[i]] ?? "";
        picture.hidden = !shown;
        if (shown) picture.src = shown;
        else picture.removeAttribute("src");
        strip.classList.toggle("plain", !shown);
      }
      get("transport").hidden = cursor.hidden = !source;
      if (!source) say("This map has no sound for this point.");
      else seek(data.start[i]);
      show();
      if (play) start();
      changed();
    };

    // Media report their time four times a second, too seldom for the cursor and a part's end.
    let watching = false;
    const watch = () => {
      if (audio.currentTime >= state.until) {
        audio.pause();
        audio.currentTime = state.until;
      }
      show();
      changed();
      watching = !audio.paused;
      if (watching) requestAnimationFrame(watch);
    };
    const begin = () => { if (!watching) { watching = true; requestAnimationFrame(watch); } };
    audio.addEventListener("playing", begin);
    // Frames stand still in a hidden tab; the part must end there too.
    audio.addEventListener("timeupdate", () => {
      if (document.hidden && audio.currentTime >= state.until) audio.pause();
    });
    for (const name of ["pause", "ended", "loadedmetadata", "seeked"]) {
      audio.addEventListener(name, () => { show(); changed(); });
    }
    audio.addEventListener("error", failed);
    picture.addEventListener("error", () => { picture.hidden = true; strip.classList.add("plain"); });

    const toggle = () => { if (audio.paused) start(); else audio.pause(); };
    button.addEventListener("click", toggle);
    get("volume").addEventListener("input", (event) => { audio.volume = Number(event.target.value); });
    const sought = (event) => {
      const box = strip.getBoundingClientRect();
      seek(Math.min(0.999, Math.max(0, (event.clientX - box.left) / box.width)) * length());
    };
    strip.addEventListener("pointerdown", (event) => {
      if (state.point < 0 || !audio.hasAttribute("src")) return;
      strip.setPointerCapture(event.pointerId);
      sought(event);
      if (audio.paused) start();
    });
    strip.addEventListener("pointermove", (event) => {
      if (strip.hasPointerCapture(event.pointerId)) sought(event);
    });
    strip.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[event.key];
      if (!step || state.point < 0 || !audio.hasAttribute("src")) return;
      event.preventDefault();
      event.stopPropagation();
      seek(Math.min(length(), Math.max(0, position() + step * Math.max(0.1, length() / 50))));
    });

    return { choose, start, toggle, point: () => state.point, playing: () => !audio.paused };
  };
  return { on };
})();
