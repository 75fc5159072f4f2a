"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (query, within = document) => [...within.querySelectorAll(query)];
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const FACETS = ["dataset", "protocol", "size", "task"];
const LABELS = ["Data set", "Protocol", "Size", "Task"];
const state = { dataset: "", protocol: "", size: "", task: "", q: "", sort: "", all: "", open: "", tab: "", at: "" };
// The tables of rows, without those of published scores.
const TABLES = ".scroll:not(.published) table";
const rows = all(`${TABLES} tbody tr`).map((line, place) => ({ line, place, id: line.id, ...data.rows[line.id] }));
const byId = new Map(rows.map((row) => [row.id, row]));
for (const row of rows) row.words = row.line.textContent.toLowerCase();

// The view in the URL's hash.
function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) state[key] = given.get(key) ?? "";
}
function set(changes) {
  Object.assign(state, changes);
  const kept = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
  history.replaceState(null, "", `#${kept}`);
  show();
}

// Which rows are shown; a facet is also asked without its own choice, for its chips.
function holds(row, without = -1) {
  const chosen = FACETS.every((key, k) => k === without || !state[key] || state[key] === row.facets[k]);
  return chosen && state.q.toLowerCase().split(/\s+/).every((word) => row.words.includes(word));
}
const isOff = (item) => item.dataset.row.split(" ").every((id) => !byId.has(id) || byId.get(id).line.hidden);

function show() {
  const open = new Set(state.open.split(",").filter(Boolean));
  for (const row of rows) {
    row.line.hidden = !holds(row);
    opened(row, open.has(row.id));
  }
  for (const item of all("svg [data-row]")) item.classList.toggle("off", isOff(item));
  for (const svg of all(".panels svg")) svg.classList.toggle("off", !svg.querySelector("a:not(.off)"));
  for (const board of all(".board")) {
    board.hidden = !all(`${TABLES} tbody tr:not(.detail)`, board).some((line) => !line.hidden);
    for (const figure of all("figure", board)) figure.hidden = !figure.querySelector("svg a:not(.off)");
  }
  for (const table of all(TABLES)) {
    table.classList.toggle("all", Boolean(state.all));
    sort(table);
  }
  for (const wall of all(".wall")) showWall(wall);
  for (const chip of all("#chips button")) {
    const k = FACETS.indexOf(chip.name);
    chip.setAttribute("aria-pressed", state[chip.name] === chip.value);
    chip.disabled = Boolean(chip.value) && !rows.some((row) => row.facets[k] === chip.value && holds(row, k));
  }
  document.getElementById("none").hidden = rows.some((row) => !row.line.hidden);
  document.getElementById("all").setAttribute("aria-pressed", Boolean(state.all));
  const box = document.getElementById("q");
  if (box.value !== state.q) box.value = state.q;
}

// Sorting: a column's title and direction, in every table that has it; else the order of the mean.
function sort(table) {
  const [title, direction] = state.sort.split("~");
  const heads = all("thead th", table);
  const column = heads.findIndex((head) => head.textContent === title);
  heads.forEach((head, k) => (k === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort")));
  table.classList.toggle("sorted", column >= 0);
  const key = (row) => {
    const cell = row.line.cells[column];
    return cell.classList.contains("n") ? (cell.dataset.v === undefined ? null : +cell.dataset.v) : cell.textContent;
  };
  const sign = direction === "descending" ? -1 : 1;
  const mine = rows.filter((row) => table.contains(row.line)).sort((a, b) => a.place - b.place);
  if (column >= 0) {
    const keys = new Map(mine.map((row) => [row, key(row)]));
    mine.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" ? x - y : x < y ? -1 : +(x > y));
    });
  }
  table.tBodies[0].append(...mine.flatMap((row) => (row.detail ? [row.line, row.detail] : [row.line])));
}
function sortBy(head) {
  const next = { ascending: "descending", descending: "" };
  const direction = head.hasAttribute("aria-sort") ? next[head.getAttribute("aria-sort")] : "ascending";
  set({ sort: direction ? `${head.textContent}~${direction}` : "" });
}

// An opened row.
function opened(row, isOpen) {
  if (isOpen && !row.detail) {
    row.detail = make("tr", { class: "detail", id: `${row.id}-detail` });
    row.detail.append(make("td", { colspan: row.line.cells.length }, detail(row)));
  }
  row.button.setAttribute("aria-expanded", isOpen);
  if (row.detail) row.detail.hidden = !isOpen || row.line.hidden;
}
function detail(row) {
  const groups = make("div", { class: "groups" });
  const group = (title, content, wide) => groups.append(make("div", wide ? { class: "wide-group" } : {}, make("h4", {}, title), content));
  const folded = (title, content) => groups.append(make("details", {}, make("summary", {}, title), content));
  const lines = (pairs) => make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  if (row.command) group("Repeat it", make("code", {}, row.command), true);
  if (row.badges.length) group("Badges", lines(row.badges), true);
  if (row.curves.length) group(`Validation ${row.metric} by epoch, a line per seed`, curves(row));
  let first = true;
  for (const [title, pairs] of row.groups.map((place) => data.groups[place])) {
    const named = pairs.map(([name, value]) => [data.names[name], value]);
    if (title.includes(" | ") && !first) folded(title, lines(named));
    else group(title, lines(named), title === "Runs" && named.length > 8);
    first &&= !title.includes(" | ");
  }
  return groups;
}
function curves(row) {
  const [width, height, left] = [300, 150, 64];
  const values = row.curves.flatMap(([, curve]) => curve).filter((value) => value !== null);
  const log = values.every((value) => value > 0) ? Math.log : (value) => value;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const y = (value) => 8 + (height - 30) * (1 - (log(value) - log(low)) / (log(high) - log(low) || 1));
  const longest = Math.max(...row.curves.map(([, curve]) => curve.length));
  const x = (k) => left + ((width - left - 8) * k) / Math.max(longest - 1, 1);
  const node = (tag, attributes, said) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (said !== undefined) made.textContent = said;
    return made;
  };
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": `${low} to ${high} in ${longest} epochs` });
  for (const value of [low, high]) {
    svg.append(node("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }));
    svg.append(node("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(+value.toPrecision(3))));
  }
  svg.append(node("text", { x: left, y: height - 4 }, "1"), node("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, `${longest} epochs`));
  for (const [seed, curve] of row.curves) {
    const points = curve.map((value, k) => (value === null ? "" : `${x(k).toFixed(1)},${y(value).toFixed(1)}`)).join(" ");
    const line = node("polyline", { points, style: "--c:#0072B2" });
    line.append(node("title", {}, `seed ${seed}`));
    svg.append(line);
  }
  return svg;
}

// The wall: a tab for each kind of pictures, one size at a time.
function showWall(wall) {
  const panels = all(".panel", wall);
  const tab = panels.some((panel) => panel.dataset.title === state.tab) ? state.tab : panels[0].dataset.title;
  for (const panel of panels) {
    panel.hidden = panel.dataset.title !== tab;
    const sizes = all(".size", panel);
    for (const strip of all(".strip[data-row]", panel)) strip.hidden = isOff(strip);
    const filled = sizes.filter((size) => size.querySelector(".strip:not([hidden])"));
    // The size with the most rows is shown first, of several the smallest.
    const count = (size) => all(".strip:not([hidden])", size).length;
    const fullest = filled.reduce((best, size) => (best && count(best) >= count(size) ? best : size), undefined);
    const chosen = filled.find((size) => size.dataset.size === state.at) ?? fullest;
    for (const size of sizes) size.hidden = size !== chosen;
    for (const button of all(".sizes button", panel)) {
      button.setAttribute("aria-pressed", button.value === chosen?.dataset.size);
      button.disabled = !filled.some((size) => size.dataset.size === button.value);
    }
  }
  for (const button of all("[role=tab]", wall)) {
    button.setAttribute("aria-selected", button.value === tab);
    button.tabIndex = button.value === tab ? 0 : -1;
  }
  wall.hidden = !all(".strip[data-row]", wall).some((strip) => !isOff(strip));
}

// A point, a row and its pictures are marked together.
function mark(event) {
  const item = event.target.closest?.("[data-row], tbody tr[id]:not(.detail)");
  const ids = item ? (item.dataset.row ?? item.id).split(" ") : [];
  for (const old of all(".on")) old.classList.remove("on");
  if (ids.length !== 1) return;
  byId.get(ids[0])?.line.classList.add("on");
  for (const same of all(`[data-row~="${ids[0]}"]`)) same.classList.add("on");
  const readout = item.closest(".board")?.querySelector(".readout");
  if (readout && item.getAttribute("aria-label")) readout.textContent = item.getAttribute("aria-label");
}
function goTo(event) {
  const link = event.target.closest("a[data-row]");
  const row = link && byId.get(link.dataset.row);
  if (!row) return;
  event.preventDefault();
  row.line.scrollIntoView({ block: "center" });
  row.button.focus({ preventScroll: true });
}

// What is shown, as files and text.
const csvField = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
const shown = () => all("tbody tr[id]:not(.detail)").filter((line) => !line.hidden).map((line) => byId.get(line.id));
function values(row) {
  const found = [...data.cells[row.cell]];
  for (const [place, value] of row.changed) found[place] = value;
  return found;
}
function csv() {
  const lines = [data.columns, ...shown().map(values)];
  const file = new Blob([lines.map((line) => line.map(csvField).join(",") + "\n").join("")], { type: "text/csv" });
  const link = make("a", { download: "bench.csv", href: URL.createObjectURL(file) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
function markdown() {
  const line = (cells) => `| ${cells.map((cell) => cell.innerText.trim().replace(/\s+/g, " ").replaceAll("|", "\\|")).join(" | ")} |`;
  return all(".board:not([hidden])").map((board) => {
    const visible = (cells) => [...cells].filter((cell) => cell.offsetParent);
    const heads = visible(board.querySelector("thead tr").cells);
    const rule = `|${heads.map((head) => (head.classList.contains("n") ? "--:" : "---")).join("|")}|`;
    const body = all("tbody tr:not(.detail):not([hidden]), tfoot tr", board).map((row) => line(visible(row.cells)));
    return [`## ${board.querySelector("h2").innerText}`, "", line(heads), rule, ...body].join("\n");
  }).join("\n\n");
}
async function copy() {
  const content = markdown();
  const done = await navigator.clipboard?.writeText(content).then(() => true, () => false);
  if (!done) {
    const area = document.body.appendChild(make("textarea"));
    area.value = content;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  document.getElementById("said").textContent = `Copied ${shown().length} rows`;
}

// What exists only with a script.
for (const row of rows) {
  const name = row.line.querySelector(".name");
  row.button = make("button", { "aria-expanded": "false", title: "Show curves, measures and digests" }, name.textContent);
  name.replaceChildren(row.button);
  row.button.addEventListener("click", () => {
    const open = new Set(state.open.split(",").filter(Boolean));
    if (!open.delete(row.id)) open.add(row.id);
    set({ open: [...open].join(",") });
  });
}
FACETS.forEach((key, k) => {
  const found = [...new Set(rows.map((row) => row.facets[k]))].sort((a, b) => parseInt(a) - parseInt(b) || (a < b ? -1 : 1));
  if (found.length < 2) return;
  const group = make("div", { class: "chips", role: "group", "aria-label": LABELS[k] }, make("span", {}, LABELS[k]));
  for (const value of ["", ...found]) {
    const chip = make("button", { name: key, value }, value || "all");
    chip.addEventListener("click", () => set({ [key]: value }));
    group.append(chip);
  }
  document.getElementById("chips").append(group);
});
for (const wall of all(".wall")) {
  const panels = all(".panel", wall);
  const tabs = make("div", { class: "tabs", role: "tablist", "aria-label": "Kinds of pictures" });
  for (const panel of panels) {
    const tab = make("button", { role: "tab", value: panel.dataset.title }, panel.dataset.title);
    tab.addEventListener("click", () => set({ tab: tab.value }));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step && all("[role=tab]", tabs)[panels.indexOf(panel) + step];
      if (next) (next.focus(), next.click());
    });
    tabs.append(tab);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-label", panel.dataset.title);
    panel.querySelector("h4").hidden = true;
    const sizes = make("div", { class: "sizes", role: "group", "aria-label": "Size" });
    for (const size of all(".size", panel)) {
      const button = make("button", { value: size.dataset.size }, size.dataset.size);
      button.addEventListener("click", () => set({ at: button.value }));
      size.querySelector("h5").hidden = true;
      sizes.append(button);
    }
    if (sizes.children.length > 1) panel.querySelector(".hint").after(sizes);
  }
  if (panels.length > 1) wall.querySelector("h3").after(tabs);
}
for (const head of all(`${TABLES} thead th`)) head.querySelector("button").addEventListener("click", () => sortBy(head));
for (const name of ["mouseover", "focusin"]) document.addEventListener(name, mark);
document.addEventListener("click", goTo);
document.getElementById("q").addEventListener("input", (event) => set({ q: event.target.value }));
document.getElementById("all").addEventListener("click", () => set({ all: state.all ? "" : "1" }));
document.getElementById("csv").addEventListener("click", csv);
document.getElementById("md").addEventListener("click", copy);
addEventListener("hashchange", () => { readHash(); show(); });
document.getElementById("controls").hidden = false;
readHash();
show();
