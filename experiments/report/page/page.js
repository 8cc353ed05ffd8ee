"use strict";
// Everything from a run goes onto the page as text or as an attribute, never as markup.

const $ = (id) => document.getElementById(id);
const { made, runs } = JSON.parse($("data").textContent);
const byPath = new Map(runs.map((run) => [run.path, run]));
const title = (run) => `${run.command} / ${run.name}`;

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

function number(run) {
  const { what, value, whose } = run.headline;
  return [
    element("b", {}, digits(value, 3)),
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
    const sign = a.headline.larger_is_better ? -1 : 1;
    return (
      compare(a.command, b.command) ||
      compare(a.headline.what, b.headline.what) ||
      sign * (a.headline.value - b.headline.value)
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

// --- Two runs to compare ---------------------------------------------------------------------

const picked = [];

function choose(run, wanted) {
  if (wanted) picked.push(run);
  else picked.splice(picked.indexOf(run), 1);
  if (picked.length > 2) cards.get(picked.shift()).box.checked = false;
  for (const [each, { article }] of cards) article.classList.toggle("chosen", picked.includes(each));
  $("tray").hidden = !picked.length;
  $("compare").hidden = picked.length < 2;
  $("picked").textContent =
    picked.length === 1
      ? `${title(picked[0])}: choose another to compare`
      : picked.map(title).join(" and ");
}

function clear() {
  for (const run of [...picked]) {
    cards.get(run).box.checked = false;
    choose(run, false);
  }
  $("search").focus();
}

/** The pair is in the address, so that it can be kept, sent, and left by the browser's Back. */
function route() {
  const named = /^#compare=([^,]*),([^,]*)$/.exec(location.hash);
  const pair = named ? [byPath.get(named[1]), byPath.get(named[2])] : [];
  if (pair[0] && pair[1]) show(...pair);
  else if ($("pair").open) $("pair").close();
}

function go(a, b) {
  location.hash = `compare=${a.path},${b.path}`;
}

function show(a, b) {
  $("run-a").value = a.path;
  $("run-b").value = b.path;
  showPictures(a, b);
  showOptions(a, b);
  showNumbers(a, b);
  if (!$("pair").open) $("pair").showModal();
}

function addSides() {
  for (const [side, other] of [["run-a", "run-b"], ["run-b", "run-a"]]) {
    const groups = new Map();
    for (const run of [...runs].sort(orders.command)) {
      if (!groups.has(run.command)) groups.set(run.command, element("optgroup", { label: run.command }));
      groups.get(run.command).append(element("option", { value: run.path }, title(run)));
    }
    $(side).append(...groups.values());
    $(side).addEventListener("change", () => {
      const [mine, its] = [byPath.get($(side).value), byPath.get($(other).value)];
      if (side === "run-a") go(mine, its);
      else go(its, mine);
    });
  }
}

function tag(letter) {
  return element("span", { className: `tag ${letter.toLowerCase()}`, "aria-hidden": "true" }, letter);
}

function showPictures(a, b) {
  const before = $("picture")?.value;
  const names = Object.keys(a.pictures).filter((name) => Object.hasOwn(b.pictures, name));
  if (!names.length) {
    const why = [a, b].some((run) => !Object.keys(run.pictures).length)
      ? "One of them has no pictures of its own."
      : "No picture of one is called like one of the other.";
    $("pictures").replaceChildren(element("p", { className: "soft" }, why));
    return;
  }
  const options = names.map((name) => element("option", { value: name }, name));
  const select = element("select", { id: "picture" }, ...options);
  if (names.includes(before)) select.value = before;
  const place = element("div");
  const put = () => place.replaceChildren(...wipe(a, b, select.value));
  select.addEventListener("change", put);
  $("pictures").replaceChildren(
    element(
      "div",
      { className: "choice" },
      element("label", { htmlFor: "picture" }, "Picture"),
      select,
    ),
    place,
  );
  put();
}

/** Picture B over picture A, from the slider's place to the right. */
function wipe(a, b, name) {
  const below = element("img", { alt: `${name} of A, ${title(a)}` });
  const over = element("img", { alt: `${name} of B, ${title(b)}`, className: "over" });
  const slider = element("input", {
    type: "range", min: 0, max: 100, step: 1, value: 50,
    "aria-label": "Where A ends and B begins, from the left",
  });
  const stage = element(
    "div", { className: "stage" }, below, over,
    element("div", { className: "handle" }), slider, tag("A"), tag("B"),
  );
  const under = element("p", { className: "soft under" }, "Drag, or use the arrow keys.");
  const move = () => {
    stage.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} percent A`);
  };
  const size = (image) => `${image.naturalWidth}×${image.naturalHeight}`;
  const fit = () => {
    if (!(below.naturalWidth && over.naturalWidth)) return;
    // Small pictures are shown larger, by whole pixels, but no taller than the window.
    const factor = Math.max(1, Math.min(4, Math.floor(900 / below.naturalWidth)));
    const aspect = below.naturalWidth / below.naturalHeight;
    stage.style.aspectRatio = String(aspect);
    stage.style.width = `min(100%, ${below.naturalWidth * factor}px, ${70 * aspect}vh)`;
    stage.classList.toggle("crisp", factor > 1);
    if (size(below) !== size(over)) {
      over.style.objectFit = "contain";
      under.textContent = `A is ${size(below)}, B ${size(over)}, shown as large as A. ${under.textContent}`;
    }
  };
  for (const image of [below, over]) {
    image.addEventListener("load", fit);
    image.addEventListener("error", () => {
      under.textContent = `${image.alt} cannot be shown: it has been moved, or the page has.`;
    });
  }
  slider.addEventListener("input", move);
  move();
  below.src = a.pictures[name];
  over.src = b.pictures[name];
  return [stage, under];
}

function table(kind, caption, rows) {
  const head = (letter) =>
    element("th", { scope: "col" }, tag(letter), element("span", { className: "unseen" }, `Run ${letter}`));
  const columns = [head("A"), head("B")];
  if (kind === "numbers") columns.push(element("th", { scope: "col" }, "B − A"));
  const first = element("th", { scope: "col" }, caption);
  return element(
    "div",
    { className: "scroll" },
    element(
      "table",
      { className: kind },
      element("thead", {}, element("tr", {}, first, ...columns)),
      element("tbody", {}, ...rows),
    ),
  );
}

const FEW = 20;

/** A table, of which the first rows are shown until all are asked for. */
function tableOf(kind, caption, rows) {
  const shown = table(kind, caption, rows.slice(0, FEW));
  if (rows.length <= FEW) return [shown];
  const all = element("button", { type: "button", className: "more" }, `Show all ${rows.length}`);
  all.addEventListener("click", () => {
    shown.querySelector("tbody").append(...rows.slice(FEW));
    all.remove();
  });
  return [shown, all];
}

const MISSING = "–";

/** Names of options may be broken after each of their words. */
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((word) => [word, element("wbr")]);
}

/** A text's parts before, in and after what differs from the other's: whole words. */
function differing(text, other) {
  const [words, others] = [text, other].map((each) => each.match(/[\p{L}\p{N}_.+-]+|./gsu) ?? []);
  const shorter = Math.min(words.length, others.length);
  let start = 0;
  while (start < shorter && words[start] === others[start]) start++;
  let end = 0;
  while (end < shorter - start && words.at(-1 - end) === others.at(-1 - end)) end++;
  const stop = words.length - end;
  return [words.slice(0, start), words.slice(start, stop), words.slice(stop)].map((part) => part.join(""));
}

function optionCell(side, text, other) {
  if (text === undefined) return element("td", { className: "none" }, MISSING);
  const [before, marked, after] = other === undefined ? ["", text, ""] : differing(text, other);
  return element("td", {}, before, marked ? element("mark", { className: side }, marked) : null, after);
}

function showOptions(a, b) {
  const row = ([key, [mine, its]]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, ...breakable(key)),
      optionCell("a", mine, its),
      optionCell("b", its, mine),
    );
  const parts = [];
  for (const [caption, field] of [["option", "options"], ["made with", "made_with"]]) {
    const all = [...union(a[field], b[field])];
    const differ = all.filter(([, [mine, its]]) => mine !== its);
    const lacks = ([, pair]) => pair.includes(undefined);
    differ.sort((x, y) => lacks(x) - lacks(y)); // What both have comes first.
    if (differ.length) parts.push(...tableOf("options", caption, differ.map(row)));
    if (field === "options") {
      const same = all.length - differ.length;
      const text = !all.length
        ? "Neither says what its options were."
        : !differ.length
          ? `All ${all.length} options are the same.`
          : `${same} more ${same === 1 ? "is" : "are"} the same.`;
      if (!differ.length || same) parts.push(element("p", { className: "soft more" }, text));
    }
  }
  $("options").replaceChildren(...parts);
}

function showNumbers(a, b) {
  const rows = [...union(flat(a.numbers), flat(b.numbers))].map(numberRow);
  const left = a.left_out + b.left_out;
  const parts = [];
  if (!rows.length) parts.push(element("p", { className: "soft" }, "Neither has any yet."));
  else parts.push(...tableOf("numbers", "", rows));
  if (left) parts.push(element("p", { className: "soft more" }, `${left} more are in results.json.`));
  $("numbers").replaceChildren(...parts);
}

function numberRow([key, [mine, its]]) {
  const names = key.split("\n");
  const last = names.pop();
  const both = typeof mine === "number" && typeof its === "number";
  const difference = both ? its - mine : 0;
  const sign = difference > 0 ? "+" : "";
  const cell = (value) =>
    element("td", value === undefined ? { className: "none" } : {}, value === undefined ? "–" : digits(value));
  return element(
    "tr",
    { className: mine === its ? "same" : "" },
    element("th", { scope: "row" }, element("span", {}, names.map((each) => `${each} · `).join("")), last),
    cell(mine),
    cell(its),
    element("td", {}, both ? `${sign}${digits(difference)}`.replace("-", "−") : ""),
  );
}

/** `{a: {b: 1}}` as `{"a\nb": 1}`, in order. */
function flat(value, names = [], found = {}) {
  for (const [key, each] of Object.entries(value)) {
    const below = [...names, key];
    if (each !== null && typeof each === "object") flat(each, below, found);
    else found[below.join("\n")] = each;
  }
  return found;
}

/** A map from each key of either to its two values. */
function union(a, b) {
  const found = new Map();
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const own = (from) => (Object.hasOwn(from, key) ? from[key] : undefined);
    found.set(key, [own(a), own(b)]);
  }
  return found;
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
