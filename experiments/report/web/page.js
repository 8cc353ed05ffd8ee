"use strict";
// The cards of all runs: searched, filtered, sorted. What compares two of them is in pair.js.
// Everything from a run goes onto the page as text or as an attribute, never as markup.

const $ = (id) => document.getElementById(id);
const { made, runs } = JSON.parse($("data").textContent);
const byPath = new Map(runs.map((run) => [run.path, run]));
const given = (run) => (run.given.length ? ` (${run.given.join(", ")})` : "");
const title = (run) => `${run.command} / ${run.name}${given(run)}`;

/** An element with properties (aria-*, data-* and role as attributes) and children. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function date(seconds) {
  const when = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = [when.getFullYear(), two(when.getMonth() + 1), two(when.getDate())].join("-");
  return `${day} ${two(when.getHours())}:${two(when.getMinutes())}`;
}

function time(seconds) {
  return element("time", { dateTime: new Date(seconds * 1000).toISOString() }, date(seconds));
}

function digits(value, count = 4) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(count)));
}

// --- Cards -----------------------------------------------------------------------------------

const MAY_RUN = 600; // Seconds since a run last wrote, within which it may be running still.
const cards = new Map(runs.map((run) => [run, card(run)]));

function card(run) {
  const name = element("bdi", {}, run.name);
  const box = element("input", { type: "checkbox", "aria-label": `Compare ${title(run)}` });
  box.addEventListener("change", () => choose(run, box.checked));
  const target = run.report ?? `${run.path}/`;
  const article = element(
    "article",
    { className: "card" },
    tile(run),
    element(
      "div",
      { className: "words" },
      element(
        "div",
        { className: "line" },
        element("h2", {}, element("a", { href: target }, name)),
        element("label", { className: "pick soft" }, box, element("span", { "aria-hidden": "true" }, "compare")),
      ),
      element(
        "div",
        { className: "line soft" },
        element("bdi", {}, run.command),
        run.started ? time(run.started) : null,
      ),
      run.given.length ? compared(run) : null,
      run.headline && run.thumbnail ? element("p", { className: "number" }, ...number(run)) : null,
      run.state === "unfinished" ? unfinished(run) : null,
      run.problems.length ? problems(run) : null,
    ),
  );
  return { item: element("li", {}, article), article, box };
}

function tile(run) {
  if (run.thumbnail) {
    const alt = `Pictures of ${title(run)}`;
    return element(
      "div",
      { className: "tile" },
      element("img", { src: run.thumbnail, alt, loading: "lazy", decoding: "async" }),
    );
  }
  if (!run.headline) return element("div", { className: "tile bare soft" }, "no pictures");
  const [value, ...what] = number(run);
  return element(
    "div",
    { className: "tile" },
    element("div", { className: "big" }, value.textContent),
    element("div", { className: "soft" }, ...what),
  );
}

function compared(run) {
  const [a, b] = run.given.map((each) => element("bdi", {}, each));
  return element("div", { className: "soft" }, a, " and ", b);
}

function number(run) {
  const { what, value, whose } = run.headline;
  return [
    element("b", {}, Number.isInteger(value) || value >= 1000 ? digits(value, 3) : value.toPrecision(3)),
    element("span", {}, ` ${what}`),
    element("bdi", { className: "soft" }, whose ? ` · ${whose}` : ""),
  ];
}

function unfinished(run) {
  const { written, step, resume } = run;
  const at = step === null ? "" : ` at step ${step}`;
  const last = written === null ? "" : `Last wrote ${date(written)}. `;
  const running = written !== null && made - written < MAY_RUN ? "It may be running still. " : "";
  const hint = resume ? "To go on with it:" : "It cannot be resumed: start it anew.";
  return element(
    "div",
    { className: "note" },
    element("strong", {}, `Unfinished${at}`),
    element("div", { className: "soft" }, last + running + hint),
    resume ? element("code", { tabIndex: 0, role: "group", "aria-label": "Command to resume" }, resume) : null,
  );
}

function problems(run) {
  return element(
    "div",
    { className: "note" },
    element("strong", {}, "Something is wrong"),
    element("ul", {}, ...run.problems.map((problem) => element("li", {}, element("bdi", {}, problem)))),
  );
}

// --- Search, filter, sort --------------------------------------------------------------------

const chosen = { command: null };
const haystack = new Map(
  runs.map((run) => {
    const options = Object.entries(run.options).map(([key, value]) => `${key}=${value}`);
    const state = [run.state, run.problems.length ? "wrong" : "", run.headline?.what ?? ""];
    return [run, [run.command, run.name, ...options, ...state].join("\n").toLowerCase()];
  }),
);

const compare = new Intl.Collator("en", { numeric: true }).compare;
const newest = (a, b) => b.started - a.started;
const orders = {
  newest,
  oldest: (a, b) => -newest(a, b),
  name: (a, b) => compare(a.name, b.name) || newest(a, b),
  command: (a, b) => compare(a.command, b.command) || newest(a, b),
  // Numbers of different things do not compare: those of one thing stand together.
  number: (a, b) => {
    if (!a.headline || !b.headline) return Boolean(b.headline) - Boolean(a.headline) || newest(a, b);
    return (
      compare(a.command, b.command) ||
      compare(a.headline.what, b.headline.what) ||
      (a.headline.comparable ? 0 : compare(a.headline.whose, b.headline.whose)) ||
      a.headline.off - b.headline.off
    );
  },
};

function update() {
  const words = $("search").value.toLowerCase().split(/\s+/);
  const shown = runs.filter(
    (run) =>
      (chosen.command === null || run.command === chosen.command) &&
      words.every((word) => haystack.get(run).includes(word)),
  );
  shown.sort(orders[$("sort").value] ?? newest);
  $("cards").replaceChildren(...shown.map((run) => cards.get(run).item));
  const all = runs.length;
  const plural = all === 1 ? "run" : "runs";
  $("count").textContent = shown.length === all ? `${all} ${plural}` : `${shown.length} of ${all} ${plural}`;
  if (!all) {
    $("count").textContent = "No runs yet";
    $("cards").replaceChildren(
      element("li", { className: "empty" }, "Begin with ", element("code", {}, "perceptual-jax demo")),
    );
  } else if (!shown.length) {
    $("cards").replaceChildren(element("li", { className: "empty" }, "No run matches."));
  }
}

function addCommands() {
  const counts = new Map();
  for (const run of runs) counts.set(run.command, (counts.get(run.command) ?? 0) + 1);
  const names = [...counts.keys()].sort(compare);
  $("commands").hidden = names.length < 2;
  for (const command of [null, ...names]) {
    const count = command === null ? runs.length : counts.get(command);
    const button = element(
      "button",
      { type: "button", "aria-pressed": String(command === null) },
      element("bdi", {}, command ?? "all"),
      element("span", {}, String(count)),
    );
    button.addEventListener("click", () => {
      chosen.command = command;
      for (const each of $("commands").children) each.setAttribute("aria-pressed", String(each === button));
      update();
    });
    $("commands").append(button);
  }
}

// --- Light and dark --------------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** What was stored, or null: a browser may refuse to store anything for a file. */
function stored(...value) {
  try {
    if (value.length) localStorage.setItem("perceptual-jax-theme", value[0]);
    return localStorage.getItem("perceptual-jax-theme");
  } catch {
    return null;
  }
}

function paint(theme) {
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  const dark = (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", dark ? "Change to light colours" : "Change to dark colours");
  return dark;
}

// --- Begin -----------------------------------------------------------------------------------

$("made").append("as of ", time(made));
$("theme").addEventListener("click", () => {
  const theme = paint() ? "light" : "dark";
  stored(theme);
  paint(theme);
});
prefersDark.addEventListener("change", () => paint());
$("tools").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", update);
$("sort").addEventListener("change", update);
$("compare").addEventListener("click", () => go(...picked));
$("clear").addEventListener("click", clear);
$("close").addEventListener("click", () => $("pair").close());
$("pair").addEventListener("close", () => {
  if (location.hash) location.hash = "";
});
window.addEventListener("hashchange", route);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !$("pair").open) {
    event.preventDefault();
    $("search").focus();
  } else if (event.key === "Escape" && event.target === $("search")) {
    $("search").value = "";
    update();
  }
});
paint(stored());
addCommands();
addSides();
update();
route();
