"use strict";
// Holds the graph together: threshold, layout, what is folded and selected, and when it is drawn.
(() => {
  const data = conceptGraphData;
  const get = (id) => document.getElementById(id);
  const stage = get("stage"), surface = get("graph");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const canvas = surface.appendChild(document.createElement("canvas"));
  const view = soundMapView.view();
  const FEW = 60, FLIGHT = 380, CHANGE = 520;
  const state = {
    threshold: -Infinity, cautious: false, layout: data.count <= FEW ? "tree" : "radial", selected: -1, hovered: -1,
    folded: new Set(), tree: null, folding: null, target: null, related: null, labels: [], ratio: 1,
  };
  let positions = new Float32Array(2 * data.count), grid = null, simulation = null;
  const animation = { flight: null, change: null };
  const emphasis = new Uint8Array(data.count).fill(1), allowed = (i) => state.folding.visible[i] === 1;
  const reliable = (e) => state.cautious && data.low[e] !== null ? data.low[e] : data.strength[e];
  const shows = (e) => reliable(e) >= state.threshold;
  const point = ([x, y]) => view.toScreen(x, y);
  const screen = (i) => view.toScreen(positions[2 * i], positions[2 * i + 1]);

  // Sizes: areas stand for values.
  const shares = new Float64Array(data.count), share = (i) => shares[i];
  const measure = () => {
    const kind = get("size").value;
    const most = kind === "equal" ? 0 : data[kind].reduce((one, value) => Math.max(one, value), 0);
    for (let i = 0; i < data.count; i++) shares[i] = most > 0 ? Math.sqrt(data[kind][i] / most) : 0.3;
  };
  const base = () => Math.min(9, Math.max(1.5, 0.4 * state.target.spacing * view.scale()));
  let unit = 3;
  // What is searched for is seen from any distance.
  const radius = (i) => Math.max(search.matches(i) ? 3.2 : 0, unit * (0.55 + 0.85 * share(i)));

  const frames = { asked: false, drawn: 0 };
  const draw = () => { if (!frames.asked) { frames.asked = true; requestAnimationFrame(frame); } };
  const ease = (part) => 1 - (1 - part) ** 3;
  const step = (now) => {
    const { flight, change } = animation;
    if (flight) {
      flight.begin ??= now;
      const part = Math.min(1, (now - flight.begin) / FLIGHT);
      for (const key of ["x", "y"]) view.state[key] = flight.from[key] + (flight.to[key] - flight.from[key]) * ease(part);
      view.state.zoom = flight.from.zoom * (flight.to.zoom / flight.from.zoom) ** ease(part);
      if (part === 1) animation.flight = null;
    }
    if (change) {
      change.begin ??= now;
      const part = ease(Math.min(1, (now - change.begin) / CHANGE)), to = state.target.positions;
      for (let at = 0; at < positions.length; at++) positions[at] = change.from[at] + (to[at] - change.from[at]) * part;
      if (part === 1) animation.change = null;
    }
  };
  const frame = (now) => {
    frames.asked = false;
    step(now);
    if (state.layout === "force" && !simulation.done()) relax(24);
    unit = base();
    const { tree, folding, target } = state;
    state.labels = conceptGraphDraw.draw(canvas, state.ratio, {
      data, tree, folding, target, positions, screen, point, radius, emphasis, style: { tree: "tidy" }[state.layout] ?? state.layout,
      largest: unit, quick: moving(), dimmed: state.related !== null || search.active(), width: view.state.width, height: view.state.height,
      selected: state.selected, hovered: state.hovered, folded: state.folded, code: colors.state.code, palette: colors.state.palette,
      thickness, importance, strong: (i) => i === state.selected || (tree.parent[i] < 0 && tree.size[i] > 1),
    });
    hover.show(told(), told() < 0 ? null : screen(told()), stage);
    frames.drawn++;
    if (animation.flight || animation.change || moving()) draw();
  };
  const moving = () => state.layout === "force" && !simulation.done();
  // Of the selected concept, all is told at the side.
  const told = () => state.hovered === state.selected ? -1 : state.hovered;
  const [weakest, strongest] = data.edgeCount
    ? [data.strength[data.ranked[data.edgeCount - 1]], data.strength[data.ranked[0]]] : [0, 1];
  const thickness = (e) => Math.min(2, Math.floor(3 * (data.strength[e] - weakest) / (strongest - weakest || 1)));
  const importance = (i) => (i === state.selected ? 1e12 : 0) + (i === state.hovered ? 1e11 : 0)
    + (emphasis[i] === 2 ? 1e9 : 0) + (emphasis[i] === 0 ? -1e9 : 0) + 1000 * state.tree.size[i] + 999 * share(i);

  const fly = (to) => {
    animation.flight = { from: { ...view.state }, to: { ...view.state, ...to }, begin: null };
    if (calm.matches) { Object.assign(view.state, to); animation.flight = null; }
    draw();
  };

  // Positions of the layout; hidden concepts lie where the one does that stands for them.
  const arrange = () => {
    const { tree, folded, folding } = state;
    const wide = Math.max(0.5, (view.state.width - 330) / Math.max(200, view.state.height - 110));
    if (state.layout === "tree") return conceptGraphTree.tidy(tree, folded, folding, wide);
    if (state.layout === "radial") return conceptGraphTree.radial(tree, folded, folding);
    const none = new Set(), whole = conceptGraphTree.build(data, () => true);
    simulation ??= conceptGraphForce.simulation(data, conceptGraphTree.radial(whole, none, conceptGraphTree.fold(whole, none)).positions);
    const { positions: shown, half } = conceptGraphTree.fitted(simulation.positions(), folding);
    return { positions: shown, origin: null, spacing: 13 / half };
  };
  const fit = (target) => {
    const wide = view.state.width > 700, tidy = state.layout === "tree";
    // Room for names: beside a tree, around rings.
    const around = state.layout === "radial" && data.count < 400;
    view.fill(soundMapView.extent(target.positions), wide
      ? { left: tidy ? 150 : 90, right: tidy ? 215 : 110, top: around ? 110 : 72, bottom: around ? 110 : 44 }
      : { left: tidy ? 88 : 46, right: tidy ? 120 : 70, top: 72, bottom: around ? 60 : 28 });
  };
  const settle = (target) => {
    state.target = target;
    fit(target);
    grid = soundMapView.grid(target.positions);
  };
  const relayout = (animated) => {
    settle(arrange());
    const from = positions;
    positions = state.target.positions.slice();
    animation.change = null;
    if (animated && !calm.matches && data.count) {
      animation.change = { from, begin: null };
      positions = from.slice();
    }
    draw();
  };
  const relax = (milliseconds) => {
    simulation.run(milliseconds);
    const target = arrange();
    settle(target);
    if (!animation.change) positions = target.positions.slice();
  };

  const emphasise = () => {
    const { related, selected } = state;
    for (let i = 0; i < data.count; i++) {
      if (search.active()) emphasis[i] = search.matches(i) ? 2 : 0;
      else if (related) emphasis[i] = i === selected || related.ancestors.has(i) || related.descendants.has(i) ? 2 : 0;
      else emphasis[i] = 1;
    }
    draw();
  };
  const refold = () => { state.folding = conceptGraphTree.fold(state.tree, state.folded); };
  const rebuild = (animated) => {
    state.tree = conceptGraphTree.build(data, shows);
    for (const i of [...state.folded]) if (!state.tree.children[i].length) state.folded.delete(i);
    refold();
    colors.paint(state.tree);
    relayout(animated);
    tell();
    if (state.selected >= 0) show(state.selected);
  };
  const tell = () => {
    const number = state.folding.visible.reduce((sum, one) => sum + one, 0);
    const tops = state.tree.tops.length;
    get("count").textContent = [
      number === data.count ? `${data.whole(number)} concept${number === 1 ? "" : "s"}` : `${data.whole(number)} of ${data.whole(data.count)} concepts`,
      state.tree.shown === data.edgeCount ? `${data.whole(data.edgeCount)} edge${data.edgeCount === 1 ? "" : "s"}` : `${data.whole(state.tree.shown)} of ${data.whole(data.edgeCount)} edges`,
      `${data.whole(tops)} at the root`].join(", ");
    get("unfold").hidden = !state.folded.size;
  };
  const show = (i) => {
    state.related = i < 0 ? null : conceptGraphTree.relatives(data, i, shows);
    panel.show(state.tree, state.folded, i);
    emphasise();
  };

  const reveal = (i) => {
    let changed = false;
    for (let at = state.tree.parent[i]; at >= 0; at = state.tree.parent[at]) changed = state.folded.delete(at) || changed;
    if (!changed) return;
    refold();
    relayout(true);
    tell();
  };
  const select = (i, far = false) => {
    if (i >= 0) reveal(i);
    if (i >= 0 && search.active() && !far) search.clear();
    state.selected = i;
    show(i);
    remember(i);
    if (i < 0) return;
    const to = { x: state.target.positions[2 * i], y: state.target.positions[2 * i + 1] };
    const [x, y] = view.toScreen(to.x, to.y);
    const seen = x > 30 && y > 60 && x < view.state.width - 30 && y < view.state.height - 30;
    // From afar, near enough that names can be read.
    const near = 14 * view.state.zoom / Math.max(1e-6, state.target.spacing * view.scale());
    const zoom = far ? Math.max(view.state.zoom, Math.min(near, Math.max(1, 0.12 * Math.sqrt(data.count)))) : view.state.zoom;
    if (far) search.clear();
    if (!seen || zoom > 1.05 * view.state.zoom) fly({ ...to, zoom });
  };
  const fold = (i) => {
    if (i < 0 || !state.tree.children[i].length) return;
    const [x, y] = screen(i);
    if (!state.folded.delete(i)) state.folded.add(i);
    refold();
    relayout(true);
    tell();
    panel.show(state.tree, state.folded, state.selected);
    // From near, the concept stays where it is.
    if (view.state.zoom <= 1.2) return;
    const [nowX, nowY] = view.toScreen(state.target.positions[2 * i], state.target.positions[2 * i + 1]);
    fly({ x: view.state.x + (nowX - x) / view.scale(), y: view.state.y - (nowY - y) / view.scale() });
  };

  const remember = (i) => {
    const hash = i < 0 ? "" : `#${new URLSearchParams({ concept: data.names[i], number: i })}`;
    if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
  };
  const recall = () => {
    // The name makes a link survive a graph that is built again; the number tells equal names apart.
    const asked = new URLSearchParams(location.hash.slice(1)), name = asked.get("concept"), number = Number(asked.get("number"));
    const i = asked.has("number") && data.names[number] === name ? number : data.names.indexOf(name);
    if (i >= 0 && i !== state.selected) select(i);
  };

  const pick = (x, y, reach) => {
    if (!data.count) return -1;
    const [mapX, mapY] = view.toMap(x, y);
    return grid.nearest(mapX, mapY, (unit + reach) / view.scale(), allowed);
  };
  const hoverAt = (i) => {
    if (state.hovered === i) return;
    state.hovered = i;
    surface.classList.toggle("over", i >= 0);
    draw();
  };
  const zoom = (factor) => { view.zoomAt(view.state.width / 2, view.state.height / 2, factor); draw(); };
  const home = () => fly({ x: 0, y: 0, zoom: 1 });

  const hover = conceptGraphPanel.hover(data, shows);
  const colors = conceptGraphColors.on(data, { changed: () => { colors.paint(state.tree); draw(); }, select: (i) => select(i) });
  const fromList = (i) => hoverAt(i >= 0 && !allowed(i) ? -1 : i);
  const panel = conceptGraphPanel.selection(data, { shows, select: (i) => { hoverAt(-1); select(i); }, fold, hovered: fromList });
  const search = conceptGraphSearch.on(data, { select: (i) => { hoverAt(-1); select(i, true); }, hovered: fromList, changed: emphasise });
  soundMapInput.pointers(surface, view, {
    hover: (x, y) => hoverAt(pick(x, y, 5)),
    leave: () => hoverAt(-1),
    choose: (x, y, pointer) => {
      search.fold();
      const i = pick(x, y, pointer === "touch" ? 16 : 6);
      if (i >= 0) select(i);
      else if (!search.active()) select(-1);
    },
    lasso: () => {},
    draw: () => {},
    changed: () => { animation.flight = null; draw(); },
  }, () => false);
  surface.addEventListener("dblclick", (event) => {
    const box = surface.getBoundingClientRect();
    fold(pick(event.clientX - box.left, event.clientY - box.top, 6));
  });

  const siblings = (i) => (state.tree.parent[i] < 0 ? state.tree.tops : state.tree.children[state.tree.parent[i]]);
  const go = (next) => () => {
    const i = state.selected < 0 ? state.tree.tops[0] : next(state.selected);
    if (i !== undefined && i >= 0) select(i);
  };
  const beside = (by) => go((i) => siblings(i)[siblings(i).indexOf(i) + by]);
  const help = () => get("help").showModal();
  const escape = () => {
    if (search.active() || document.activeElement === search.input) { search.clear(); search.input.blur(); }
    else select(-1);
  };
  soundMapInput.keyboard({
    ArrowLeft: go((i) => state.tree.parent[i]), ArrowRight: go((i) => state.tree.children[i][0]),
    ArrowUp: beside(-1), ArrowDown: beside(1), Enter: () => fold(state.selected), c: () => fold(state.selected),
    " ": panel.toggle, j: () => panel.step(1), k: () => panel.step(-1),
    "/": () => search.input.focus(), Escape: escape, "?": help,
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: home,
  });
  const pressed = {
    "zoom-in": () => zoom(1.4), "zoom-out": () => zoom(1 / 1.4), fit: home, keys: help,
    unfold: () => { state.folded.clear(); refold(); relayout(true); tell(); panel.show(state.tree, state.folded, state.selected); },
  };
  for (const [id, action] of Object.entries(pressed)) get(id).addEventListener("click", action);

  // The slider moves in hundredths where that is fine enough, so that its values can be told.
  const slider = get("threshold"), cautious = get("cautious");
  const range = () => {
    const least = state.cautious ? data.low.reduce((one, low) => low === null ? one : Math.min(one, low), weakest) : weakest;
    const grain = strongest > least ? Math.min(0.01, 10 ** Math.floor(Math.log10((strongest - least) / 50))) : 0.01;
    const digits = Math.max(0, Math.min(9, Math.round(-Math.log10(grain)))), value = Number(slider.value);
    slider.step = grain.toFixed(digits);
    slider.min = (Math.floor(least / grain + 1e-6) * grain).toFixed(digits);
    slider.max = (Math.ceil(strongest / grain - 1e-6) * grain + grain).toFixed(digits);
    slider.value = state.tree ? value : slider.min;
    return Math.max(2, digits);
  };
  const threshold = () => {
    // At its lower end the slider hides nothing, whatever rounding has done.
    state.threshold = Number(slider.value) <= Number(slider.min) ? -Infinity : Number(slider.value);
    get("threshold-value").textContent = Number(slider.value).toFixed(digits);
    rebuild(state.tree !== null);
  };
  let digits = range();
  slider.disabled = !data.edgeCount;
  slider.addEventListener("input", threshold);
  cautious.addEventListener("change", () => {
    const open = state.threshold === -Infinity;
    state.cautious = cautious.checked;
    digits = range();
    if (open) slider.value = slider.min;
    threshold();
  });
  get("cautious-field").hidden = !data.low.some((low) => low !== null);
  get("layout").value = state.layout;
  get("layout").addEventListener("change", (event) => {
    state.layout = event.target.value;
    hoverAt(-1);
    relayout(true);
    home();
  });
  get("size").addEventListener("change", () => { measure(); draw(); });
  measure();

  const visibleEdges = () => Array.from(data.parent.keys()).filter((e) => shows(e) && allowed(data.parent[e]) && allowed(data.child[e]));
  const concepts = () => Array.from(data.names.keys()).filter(allowed);
  conceptGraphExport.on(data, () => ({
    concepts: concepts(), edges: visibleEdges(), threshold: Number.isFinite(state.threshold) ? state.threshold : null,
  }));

  const resize = () => {
    state.ratio = Math.min(2, window.devicePixelRatio || 1);
    Object.assign(view.state, { width: surface.clientWidth, height: surface.clientHeight });
    canvas.width = Math.max(1, Math.round(view.state.width * state.ratio));
    canvas.height = Math.max(1, Math.round(view.state.height * state.ratio));
    if (state.tree) relayout(false);
  };
  const retheme = () => { colors.paint(state.tree); draw(); };
  document.addEventListener("themechange", retheme);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  window.addEventListener("hashchange", recall);

  get("foot").append(document.querySelector("main > details"));
  surface.setAttribute("aria-label", `Graph of ${data.whole(data.count)} concepts`);
  get("message").hidden = data.count > 0;
  resize();
  threshold();
  new ResizeObserver(resize).observe(surface);
  recall();

  // Read by tests and benchmarks.
  window.conceptGraph = Object.freeze({
    count: data.count,
    edges: () => visibleEdges().map((e) => [data.parent[e], data.child[e]]),
    visible: concepts,
    selected: () => state.selected,
    highlighted: () => Array.from(emphasis.keys()).filter((i) => emphasis[i] === 2),
    layout: () => state.layout,
    settled: () => frames.drawn > 0 && !frames.asked && !animation.flight && !animation.change && !moving(),
    labels: () => state.labels.map(({ i, x, y, angle, width }) => ({ i, x, y, angle, width, height: conceptGraphLabels.height })),
    radius,
    color: (i) => colors.state.palette[colors.state.code[i]],
    drawn: () => frames.drawn,
    screen: (i) => {
      const box = surface.getBoundingClientRect(), [x, y] = screen(i);
      return [x + box.left, y + box.top];
    },
  });
})();
