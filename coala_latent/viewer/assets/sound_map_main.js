"use strict";
// Holds the state of the map together: what is selected and shown, and when it is drawn.
(() => {
  const data = soundMapData;
  const get = (id) => document.getElementById(id);
  const stage = get("stage"), surface = get("map");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const canvas = surface.appendChild(document.createElement("canvas"));
  const points = soundMapPoints.on(canvas, data.count);
  const overlay = surface.appendChild(document.createElement("canvas"));
  const view = soundMapView.view();
  const grids = data.projections.map(() => null);
  const extents = data.projections.map((each) => soundMapView.extent(each.positions));
  const state = { selected: -1, hovered: -1, projection: 0, distances: null, stale: true, ratio: 1 };
  const allowed = new Uint8Array(data.count).fill(1), paint = new Uint8Array(4 * data.count);
  const animation = { flight: null, change: null };
  const shows = (i) => allowed[i] === 1;
  const positions = () => data.projections[state.projection].positions;
  const grid = () => grids[state.projection] ??= soundMapView.grid(positions());
  const screen = (i) => view.toScreen(positions()[2 * i], positions()[2 * i + 1]);

  // Drawing happens at most once a frame, and only when something has changed.
  const frames = { asked: false, last: 0, drawn: 0, times: [] };
  const draw = (stale = true) => {
    state.stale ||= stale;
    if (!frames.asked) { frames.asked = true; requestAnimationFrame(frame); }
  };
  const radius = () => {
    const { width, height, zoom } = view.state;
    const still = Math.min(6, Math.max(1.25, 0.22 * Math.sqrt(width * height / Math.max(1, data.count))));
    return Math.min(Math.max(9, still), still * zoom ** 0.35);
  };
  const ease = (part) => 1 - (1 - part) ** 3;
  const step = (now) => {
    const { flight, change } = animation;
    if (flight) {
      flight.begin ??= now;
      const part = Math.min(1, (now - flight.begin) / 350);
      for (const key of ["x", "y", "zoom"]) view.state[key] = flight.from[key] + (flight.to[key] - flight.from[key]) * ease(part);
      if (part === 1) animation.flight = null;
      state.stale = true;
    }
    if (change) {
      change.begin ??= now;
      change.part = Math.min(1, (now - change.begin) / 700);
      if (change.part === 1) animation.change = null;
      state.stale = true;
    }
  };
  const frame = (now) => {
    frames.asked = false;
    const moving = now - frames.last < 250;
    step(now);
    if (state.stale) {
      if (moving) frames.times.push(now - frames.last);
      if (frames.times.length > 2000) frames.times.shift();
      frames.last = now;
      frames.drawn++;
      const size = radius(), crowd = Math.log10(Math.max(10, data.count) / view.state.zoom ** 1.5);
      points.draw({
        center: view.center(), scale: view.scale() * state.ratio, size: 2 * size * state.ratio + 1,
        opacity: Math.min(0.92, Math.max(0.45, 1.2 - 0.15 * crowd)), rim: Math.min(1, Math.max(0, (size - 2.5) / 2)),
        ground: state.ground, moved: animation.change ? ease(animation.change.part) : 1,
      });
      state.stale = false;
    }
    const playing = player.playing() ? player.point() : -1;
    soundMapOverlay.draw(overlay, state.ratio, screen, radius(), {
      selected: state.selected, hovered: state.hovered, playing, pulse: calm.matches ? 0.4 : now / 1400 % 1,
      neighbours: neighbours.state.points, listed: collection.points, outline: pointers.outline(),
    });
    soundMapOverlay.label(data, state.hovered, state.hovered < 0 ? null : screen(state.hovered), stage);
    if (animation.flight || animation.change) draw();
    else if (playing >= 0 && !calm.matches) draw(false);
  };
  const fly = (to) => {
    animation.flight = { from: { ...view.state }, to: { ...view.state, ...to }, begin: null };
    if (calm.matches) { Object.assign(view.state, animation.flight.to); animation.flight = null; }
    draw();
  };
  const resize = () => {
    const width = surface.clientWidth, height = surface.clientHeight, wide = width > 800;
    // On the processor, every pixel costs.
    const finest = points.kind !== "WebGL 2" && data.count > 20000 ? 1 : 2;
    state.ratio = Math.min(finest, window.devicePixelRatio || 1);
    Object.assign(view.state, { width, height });
    view.fill(extents[state.projection], { left: wide ? 250 : 24, right: wide ? 90 : 64, top: 72, bottom: wide ? 40 : 64 });
    for (const each of [points.canvas, overlay]) {
      each.width = Math.max(1, Math.round(view.state.width * state.ratio));
      each.height = Math.max(1, Math.round(view.state.height * state.ratio));
    }
    draw();
  };

  const weigh = () => {
    const back = legend.state.back.slice();
    for (let i = 0; i < data.count; i++) {
      for (let part = 0; part < 3; part++) paint[4 * i + part] = legend.state.rgb[3 * i + part];
      const faint = search.faint(i) || legend.faint(i);
      paint[4 * i + 3] = !allowed[i] ? 0 : faint ? 38 : 255;
      if (faint) back[i] = 1;
    }
    points.colors(paint, back);
    draw();
  };
  const changed = (what) => {
    if (what === "shown") {
      let number = 0;
      for (let i = 0; i < data.count; i++) number += allowed[i] = filter.shows(i) && legend.shows(i) ? 1 : 0;
      get("count").textContent = number === data.count
        ? `${data.whole(number)} sounds` : `${data.whole(number)} of ${data.whole(data.count)} sounds`;
      search.list(shows);
      if (state.selected >= 0) neighbours.show(state.selected, state.distances, shows);
    }
    weigh();
  };

  const select = (i, play = true) => {
    state.selected = i;
    state.distances = i < 0 ? null : data.vectors.distances(i);
    get("nothing").hidden = i >= 0;
    get("chosen").hidden = i < 0;
    player.choose(i, play);
    if (i >= 0) {
      get("name").textContent = data.name(i);
      get("when").textContent = data.end[i] > data.start[i] ? data.seconds(data.start[i], data.end[i]) : "";
      get("citation").textContent = data.citation(i);
      get("values").replaceChildren(...soundMapOverlay.values(data, i, Infinity));
      const [x, y] = screen(i);
      if (x < 20 || y < 20 || x > view.state.width - 20 || y > view.state.height - 20) {
        fly({ x: positions()[2 * i], y: positions()[2 * i + 1] });
      }
    }
    neighbours.show(i, state.distances, shows);
    legend.distances(state.distances);
    if (legend.byDistance()) weigh();
    remember(i);
    draw(false);
  };
  const listen = (i) => {
    player.choose(i, true);
    mark();
  };
  // The row of what is heard, where that is a neighbour.
  const mark = () => {
    for (const row of get("neighbours").children) {
      row.toggleAttribute("aria-current", row.dataset.point === String(player.point()) && player.point() !== state.selected);
      row.classList.toggle("playing", player.playing() && row.dataset.point === String(player.point()));
    }
  };

  // The name makes a link survive a map that is built again; the number tells equal names apart.
  const remember = (i) => {
    const hash = i < 0 ? "#" : `#${new URLSearchParams({ point: i, sound: data.name(i), start: data.start[i] })}`;
    get("link").href = hash;
    if (hash !== location.hash && (i >= 0 || location.hash)) history.replaceState(null, "", hash);
  };
  const recall = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const name = asked.get("sound"), start = Number(asked.get("start")), number = asked.get("point");
    if (name === null && number === null) return;
    const fits = (i) => i < data.count && (name === null || (data.name(i) === name && data.start[i] === start));
    let found = /^\d+$/.test(number ?? "") && fits(Number(number)) ? Number(number) : -1;
    for (let i = 0; found < 0 && name !== null && i < data.count; i++) if (fits(i)) found = i;
    if (found >= 0 && found !== state.selected) select(found, false);
  };

  const pick = (x, y, reach) => {
    if (!data.count) return -1;
    const [mapX, mapY] = view.toMap(x, y);
    return grid().nearest(mapX, mapY, (radius() + reach) / view.scale(), shows);
  };
  const hover = (i) => {
    if (state.hovered === i) return;
    state.hovered = i;
    surface.classList.toggle("over", i >= 0);
    draw(false);
  };
  const lasso = { on: false };
  const holdLasso = (on) => {
    lasso.on = on;
    get("lasso").setAttribute("aria-pressed", String(on));
    surface.classList.toggle("lasso", on);
    draw(false);
  };
  const zoom = (factor) => { view.zoomAt(view.state.width / 2, view.state.height / 2, factor); draw(); };
  const fit = () => fly({ x: 0, y: 0, zoom: 1 });

  const row = soundMapLists.rows(data, { listen, select, hover });
  const player = soundMapPlayer.on(data, () => { mark(); draw(false); });
  const legend = soundMapLegend.on(data, changed);
  const filter = soundMapSearch.filter(data, () => changed("shown"));
  const search = soundMapSearch.search(data, row, () => { search.list(shows); weigh(); });
  const neighbours = soundMapLists.neighbours(data, row, () => { neighbours.show(state.selected, state.distances, shows); draw(false); });
  const collection = soundMapLists.collection(data, row, positions, () => draw(false));
  const pointers = soundMapInput.pointers(surface, view, {
    hover: (x, y) => hover(pick(x, y, 4)),
    leave: () => hover(-1),
    choose: (x, y, pointer) => {
      search.fold();
      const i = pick(x, y, pointer === "touch" ? 16 : 5);
      if (i >= 0) select(i);
    },
    lasso: (outline, add) => {
      collection.set(grid().inside(outline.map(([x, y]) => view.toMap(x, y)), shows), add);
      holdLasso(false);
    },
    draw: () => draw(false),
    changed: () => { animation.flight = null; draw(); },
  }, () => lasso.on);

  const towards = (x, y) => () => {
    const i = state.selected < 0 ? pick(view.state.width / 2, view.state.height / 2, 1e4) : grid().towards(state.selected, [x, y], shows);
    if (i >= 0) select(i);
  };
  const walk = (by) => () => {
    const way = [state.selected, ...neighbours.state.points];
    const at = way.indexOf(player.point());
    if (state.selected >= 0 && way[at + by] !== undefined) listen(way[at + by]);
  };
  const escape = () => {
    if (search.active() || document.activeElement === search.input) { search.clear(); search.input.blur(); }
    else if (lasso.on || pointers.outline()) { pointers.stop(); holdLasso(false); }
    else select(-1);
  };
  const help = () => get("help").showModal();
  const keep = () => { if (state.selected >= 0) collection.set([state.selected], true); };
  soundMapInput.keyboard({
    ArrowLeft: towards(-1, 0), ArrowRight: towards(1, 0), ArrowUp: towards(0, 1), ArrowDown: towards(0, -1),
    j: walk(1), k: walk(-1), l: keep, " ": player.toggle, "/": () => search.input.focus(), Escape: escape, "?": help,
    Enter: () => { if (player.point() >= 0 && player.point() !== state.selected) select(player.point(), false); },
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
  });
  search.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const i = search.now();
    if (i >= 0) select(i);
  });
  const pressed = {
    "zoom-in": () => zoom(1.4), "zoom-out": () => zoom(1 / 1.4), fit, keys: help, keep,
    lasso: () => holdLasso(!lasso.on),
  };
  for (const [id, action] of Object.entries(pressed)) get(id).addEventListener("click", action);

  data.projections.forEach((each, index) => get("projection").append(new Option(each.name, String(index))));
  get("projection-field").hidden = data.projections.length < 2;
  get("projection").addEventListener("change", (event) => {
    const before = positions();
    state.projection = Number(event.target.value);
    points.positions(before, positions());
    animation.change = calm.matches ? null : { part: 0, begin: null };
    hover(-1);
    resize();
  });
  const retheme = () => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
    state.ground = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    legend.paint();
    weigh();
  };
  document.addEventListener("themechange", retheme);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  points.canvas.addEventListener("restored", () => draw());
  window.addEventListener("hashchange", recall);

  get("foot").append(document.querySelector("main > details"));
  surface.setAttribute("aria-label", `Map of ${data.whole(data.count)} sounds`);
  get("message").hidden = data.count > 0;
  const drawn = points.kind === "WebGL 2" ? "by WebGL 2" : "on the processor (this browser offers no fast WebGL 2)";
  get("foot").append(Object.assign(document.createElement("p"), { id: "renderer", textContent: `Drawn ${drawn}.` }));
  points.positions(positions(), positions());
  new ResizeObserver(resize).observe(surface);
  resize();
  retheme();
  changed("shown");
  recall();
  // The first click then finds the vectors there already.
  setTimeout(data.vectors.load, 300);

  // Read by tests and benchmarks.
  window.soundMap = Object.freeze({
    count: data.count,
    renderer: points.kind,
    visible: () => Array.from(allowed.keys()).filter(shows),
    selected: () => state.selected,
    screen: (i) => {
      const box = surface.getBoundingClientRect(), [x, y] = screen(i);
      return [x + box.left, y + box.top];
    },
    colors: (i) => Array.from(paint.subarray(4 * i, 4 * i + 4)),
    list: () => [...collection.points],
    drawn: () => frames.drawn,
    frameTimes: () => [...frames.times],
  });
})();
