"use strict";
// What is visible as files: node-link JSON, as networkx reads it, and GraphML, as Gephi does.
const conceptGraphExport = (() => {
  const graph = (data, scene) => ({
    directed: true, multigraph: false, graph: { title: data.title, threshold: scene.threshold },
    nodes: scene.concepts.map((i) => ({
      id: i, label: data.names[i], recordings: data.counts[i], centrality: data.centrality[i],
      accuracy: data.accuracy ? data.accuracy[i] : null,
    })),
    edges: scene.edges.map((e) => ({
      source: data.parent[e], target: data.child[e], weight: data.strength[e], low: data.low[e], high: data.high[e],
    })),
  });
  const json = (data, scene) => `${JSON.stringify(graph(data, scene), null, 1)}\n`;

  // XML 1.0 has no way to write these at all.
  const IMPOSSIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
  const NAMED = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;" };
  const xml = (text) => String(text)
    .replace(IMPOSSIBLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .replace(/[&<>"\r\n\t]/g, (character) => NAMED[character]);

  const KEYS = {
    node: { label: "string", recordings: "double", centrality: "double", accuracy: "double" },
    edge: { weight: "double", low: "double", high: "double" },
  };
  const graphml = (data, scene) => {
    const { nodes, edges } = graph(data, scene), lines = [];
    const values = (kind, of) => Object.keys(KEYS[kind]).filter((name) => of[name] !== null)
      .map((name) => `<data key="${name}">${xml(of[name])}</data>`).join("");
    for (const [kind, names] of Object.entries(KEYS)) {
      for (const [name, type] of Object.entries(names)) {
        lines.push(`<key id="${name}" for="${kind}" attr.name="${name}" attr.type="${type}"/>`);
      }
    }
    lines.push('<key id="title" for="graph" attr.name="title" attr.type="string"/>', '<graph id="concepts" edgedefault="directed">',
      `<data key="title">${xml(data.title)}</data>`);
    for (const node of nodes) lines.push(`<node id="${node.id}">${values("node", node)}</node>`);
    edges.forEach((edge, e) => lines.push(`<edge id="e${e}" source="${edge.source}" target="${edge.target}">${values("edge", edge)}</edge>`));
    return `<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="${data.graphml}">\n${lines.join("\n")}\n</graph>\n</graphml>\n`;
  };

  const save = (data, text, type, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `${data.title.replace(/[^\p{L}\p{N} ._-]+/gu, " ").replace(/\s+/gu, " ").trim() || "concepts"}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const on = (data, scene) => {
    document.getElementById("export-json").addEventListener("click", () => save(data, json(data, scene()), "application/json", "json"));
    document.getElementById("export-graphml").addEventListener("click", () => save(data, graphml(data, scene()), "application/graphml+xml", "graphml"));
  };
  return { on };
})();
