"use strict";
// Filters, search, the opened group, the keyboard; and, where a server gave the page, new steps as they come.

const state = JSON.parse(document.getElementById("state").textContent);
const $ = (id) => document.getElementById(id);
const view = { needle: "", raw: false };
let entries = state.rows.map(entryOf), generation = null, opened = null, compared = null, search = { text: "", found: new Set(), number: 0 };
const list = new GroupList($("list"), $("rows"), (index) => open(index));

const fromFile = {
  async text(index) {
    let block = $(`g${index}`);
    while (!block && document.readyState === "loading") { await pause(50); block = $(`g${index}`); }
    if (!block) throw new Error("the page is not whole; write it again");
    const bytes = Uint8Array.from(atob(block.textContent), (char) => char.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
  },
};
const fromServer = { text: async (index) => (await asked(`/group?index=${index}`)).text() };
const source = state.served ? fromServer : fromFile;

function pause(milliseconds) { return new Promise((done) => setTimeout(done, milliseconds)); }
async function asked(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}
let complaint = null;
function complain(message, by) {
  // What following says it also takes back; other messages stay until there is another one.
  complaint = by; $("problem-message").textContent = printable(message); $("problem-message").hidden = !message;
}
const group = async (index) => JSON.parse(await source.text(index));

function bound(id, otherwise) { return $(id).value === "" ? otherwise : Number($(id).value); }
function passes(entry) {
  const low = bound("accuracy-from", -1) / 100, high = bound("accuracy-to", 101) / 100, signal = $("signal").value;
  return entry.step >= bound("step-from", 0) && entry.step <= bound("step-to", Infinity)
    && entry.problem.toLowerCase().includes($("problem").value.toLowerCase())
    && (entry.accuracy === null ? low < 0 && high > 1 : entry.accuracy >= low && entry.accuracy <= high)
    && (signal === "" || entry.signal === (signal === "1")) && (!$("broken").checked || entry.broken > 0) && (!$("cut").checked || entry.cut > 0)
    && (!search.text || search.found.has(entry.index));
}
function refresh() {
  const shown = entries.filter(passes).sort(ORDERS[$("sort").value]);
  list.show(shown);
  const steps = new Set(entries.map((entry) => entry.step)).size;
  const searched = search.text && search.done < search.total ? ` · searched ${search.done} of ${search.total}` : "";
  $("summary").textContent = `${shown.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} groups · ${steps.toLocaleString("en")} steps${searched}`;
}

async function searchFor(text) {
  // Questions at once; replies by and by, the newest steps first.
  const number = search.number + 1;
  search = { text, number, found: new Set(), done: 0, total: entries.length };
  view.needle = text;
  if (!text) { refresh(); return; }
  for (const entry of entries) if (entry.question.toLowerCase().includes(text)) search.found.add(entry.index);
  refresh();
  let drawn = performance.now();
  for (const entry of [...entries].reverse()) {
    if (!search.found.has(entry.index) && await holds(entry.index, text)) search.found.add(entry.index);
    if (search.number !== number) return;
    search.done++;
    if (performance.now() - drawn > 300) { refresh(); drawn = performance.now(); await pause(0); }
  }
  refresh();
}
async function holds(index, text) {
  try {
    const found = await group(index), turns = found.openings.flatMap((o) => [o.turn, ...o.futures.flatMap((future) => future.rounds)]);
    return found.question.toLowerCase().includes(text) || turns.some((turn) => turn.reply.toLowerCase().includes(text));
  } catch (error) { complain(error.message, holds); return false; }
}

async function open(index, other = null) {
  opened = index; compared = other;
  list.select(index);
  document.querySelector("main").classList.add("opened");
  try {
    const groups = [await group(index), ...(other === null ? [] : [await group(other)])];
    if (opened !== index || compared !== other) return;
    show(groups);
    if (complaint === open) complain("", open);
  } catch (error) { complain(error.message, open); }
}
function show(groups) {
  const pane = $("group-pane"), back = element("button", "", "‹ list"), question = element("div", "question-text");
  back.id = "back";
  back.addEventListener("click", close);
  question.append(shownText(groups[0].question, view));
  const gold = element("p", "", "Right answer: ");
  gold.append(element("b", "", printable(groups[0].gold)));
  const columns = element("div", groups.length > 1 ? "columns two" : "columns");
  columns.append(...groups.map((each) => groupColumn(each, view)));
  pane.replaceChildren(back, question, gold, stepsBar(), columns);
  pane.scrollTop = 0;
}
function close() { document.querySelector("main").classList.remove("opened"); $("list").focus(); list.draw(); }

function ofProblem() { return entries.filter((entry) => entry.problem === entries[opened].problem); }
function stepsBar() {
  const bar = element("div", "bar"), same = ofProblem();
  const step = stepChoice("step-here", same, opened, (index) => open(index, compared));
  bar.append(labelled("step", step));
  if (same.length > 1) {
    const other = stepChoice("step-compared", same.filter((entry) => entry.index !== opened), compared, (index) => open(opened, index));
    other.prepend(new Option("none", "", false, compared === null));
    if (compared === null) other.value = "";
    bar.append(labelled("compared with step", other));
  } else bar.append(element("span", "soft", "this problem was trained in one step only"));
  const raw = element("button", "", view.raw ? "show formatted" : "show raw text");
  raw.addEventListener("click", toggleRaw);
  bar.append(raw);
  return bar;
}
function stepChoice(id, choices, chosen, onChoice) {
  const select = element("select");
  select.id = id;
  for (const entry of choices) select.append(new Option(`${entry.step}: ${percent(entry.accuracy)} right`, entry.index, false, entry.index === chosen));
  select.addEventListener("change", () => onChoice(select.value === "" ? null : Number(select.value)));
  return select;
}
function labelled(text, control) { const label = element("label", "", `${text} `); label.append(control); return label; }
function toggleRaw() { view.raw = !view.raw; if (opened !== null) open(opened, compared); }

function move(by) {
  const next = list.neighbour(by);
  if (next) open(next.index);
}
function moveStep(by) {
  if (opened === null) return;
  const same = ofProblem(), next = same[same.findIndex((entry) => entry.index === opened) + by];
  if (next) open(next.index);
}
function compareFirst() {
  if (opened === null) return;
  const first = ofProblem().find((entry) => entry.index !== opened);
  if (first) open(opened, compared === null ? first.index : null);
}
const KEYS = {
  j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1), "/": () => $("search").focus(),
  "[": () => moveStep(-1), "]": () => moveStep(1), c: compareFirst, r: toggleRaw, Escape: close,
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
  if (event.key.startsWith("Arrow") && $("group-pane").contains(event.target)) return;
  if (KEYS[event.key]) { event.preventDefault(); if (typing) event.target.blur(); KEYS[event.key](); }
});

let waiting = 0;
$("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => searchFor($("search").value.toLowerCase()), 250); });
$("filters").addEventListener("input", (event) => { if (event.target.id !== "search") refresh(); });
$("filters").addEventListener("reset", () => setTimeout(() => { searchFor(""); refresh(); }));
$("filters").addEventListener("submit", (event) => event.preventDefault());

function restart() {
  // A resumed run has cut steps off: indices of groups that were listed may be others' now.
  entries = [];
  opened = compared = null;
  list.select(-1);
  document.querySelector("main").classList.remove("opened");
  $("group-pane").replaceChildren(element("p", "soft", "The run was resumed from an earlier step. Choose a group in the list."));
  searchFor(search.text);
}
async function follow() {
  for (;;) {
    try {
      const answer = await (await asked(`/list?from=${entries.length}`)).json();
      const restarted = generation !== null && answer.generation !== generation;
      generation = answer.generation;
      if (restarted) { restart(); continue; }
      if (answer.rows.length) {
        const first = entries.length, mine = search;
        for (const row of answer.rows) entries.push(entryOf(row, entries.length));
        if (mine.text) for (const entry of entries.slice(first)) if (await holds(entry.index, mine.text)) mine.found.add(entry.index);
        refresh();
      }
      if (complaint === follow) complain("", follow);
    } catch (error) { complain(error instanceof TypeError ? "the server does not answer; start it again: python run.py view" : error.message, follow); }
    await pause(2000);
  }
}
refresh();
if (state.served) follow();
