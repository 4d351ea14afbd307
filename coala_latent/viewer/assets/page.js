"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const current = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  // Pages that are opened from a disk may not have a storage.
  const remember = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* not kept */ } };
  const recall = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const name = () => { button.textContent = current() === "dark" ? "Light theme" : "Dark theme"; };
  const kept = recall();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  button.hidden = false;
  name();
  dark.addEventListener("change", name);
  button.addEventListener("click", () => {
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    remember(root.dataset.theme);
    name();
    document.dispatchEvent(new CustomEvent("themechange", { detail: current() }));
  });

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (one, other, column, numeric) => {
    if (!numeric) return one.cells[column].textContent.localeCompare(other.cells[column].textContent, undefined, { numeric: true });
    return key(one, column) - key(other, column);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      const body = table.tBodies[0];
      const rows = [...body.rows];
      // What has no number stays at the end either way.
      const missing = numeric ? rows.filter((row) => key(row, column) === null) : [];
      const known = rows.filter((row) => !missing.includes(row));
      known.sort((one, other) => (down ? -1 : 1) * compare(one, other, column, numeric));
      body.append(...known, ...missing);
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    }));
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  if (links.size && "IntersectionObserver" in window) {
    const seen = new Set();
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
      const first = [...links.keys()].find((id) => seen.has(id));
      for (const [id, link] of links) {
        if (id === first) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    });
    for (const id of links.keys()) observer.observe(document.getElementById(id));
  }
})();
