"use strict";
// Two runs side by side: what was chosen, their pictures under a slider, options and numbers.

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
  const drawn = () => ([...a.plots, ...b.plots].includes(select.value) ? stack : wipe);
  const put = () => place.replaceChildren(...drawn()(a, b, select.value));
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

/** Plots are read, each with its own axes: one above the other. */
function stack(a, b, name) {
  return [["A", a], ["B", b]].map(([letter, run]) =>
    element(
      "figure", { className: "plot" }, tag(letter),
      element("img", { alt: `${name} of ${letter}, ${title(run)}`, src: run.pictures[name] }),
    ),
  );
}

/** Picture B over picture A, from the slider's place to the right. */
function wipe(a, b, name) {
  const says = ({ descriptions }) => (Object.hasOwn(descriptions, name) ? descriptions[name] : "");
  const [mine, its] = [says(a), says(b)];
  const alt = (letter, run, said) => `${name} of ${letter}, ${title(run)}${said && `. ${said}`}`;
  const below = element("img", { alt: alt("A", a, mine) });
  const over = element("img", { alt: alt("B", b, its), className: "over" });
  const slider = element("input", {
    type: "range", min: 0, max: 100, step: 1, value: 50,
    "aria-label": "Where A ends and B begins, from the left",
  });
  const stage = element(
    "div", { className: "stage" }, below, over,
    element("div", { className: "handle" }), slider, tag("A"), tag("B"),
  );
  const hint = "Drag, or use the arrow keys.";
  const under = element("p", { className: "soft under" }, hint);
  const said = mine === its ? [mine] : [mine && `A. ${mine}`, its && `B. ${its}`];
  const texts = said.filter(Boolean).map((text) => element("p", { className: "soft under" }, text));
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
      under.textContent = `A is ${size(below)}, B ${size(over)}, shown as large as A. ${hint}`;
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
  return [stage, ...texts, under];
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
  const rows = [...union(...alike(flat(a.numbers), flat(b.numbers)))].map(numberRow);
  const left = a.left_out + b.left_out;
  const parts = [];
  if (!rows.length) parts.push(element("p", { className: "soft" }, "Neither has any yet."));
  else {
    const reading =
      "Less is better of distances and errors, SSIM among them as 1 − SSIM; more of PSNR, of scores " +
      "and of super-resolution's SSIM. Sharpness is best near 1.";
    parts.push(element("p", { className: "soft" }, reading), ...tableOf("numbers", "", rows));
  }
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

/**
 * Both runs' numbers, where what only one of them names is called as both of them: two sums of the
 * same losses in other weights, say. It must be one name of each.
 */
function alike(a, b) {
  const names = (found) => new Set(Object.keys(found).flatMap((key) => key.split("\n").slice(0, -1)));
  const [mine, its] = [names(a), names(b)];
  const [onlyMine, onlyIts] = [[...mine].filter((x) => !its.has(x)), [...its].filter((x) => !mine.has(x))];
  if (onlyMine.length !== 1 || onlyIts.length !== 1) return [a, b];
  const called = (key) =>
    key.split("\n").map((x) => (x === onlyMine[0] || x === onlyIts[0] ? `${onlyMine[0]} | ${onlyIts[0]}` : x)).join("\n");
  return [a, b].map((found) => Object.fromEntries(Object.entries(found).map(([key, x]) => [called(key), x])));
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

/** A map from each key of either to its two values; those that both have come first. */
function union(a, b) {
  const own = (from, key) => (Object.hasOwn(from, key) ? from[key] : undefined);
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  const pairs = keys.map((key) => [key, [own(a, key), own(b, key)]]);
  const lacks = ([, pair]) => pair.includes(undefined);
  return new Map(pairs.sort((x, y) => lacks(x) - lacks(y)));
}
