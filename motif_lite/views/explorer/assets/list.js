"use strict";
// The list of groups: filtered, sorted, and drawn only where it is seen.

const ROW_HEIGHT = 58;
const FIELDS = ["step", "problem", "question", "accuracy", "reward", "spread", "signal", "broken", "cut", "openings"];
const ORDERS = {
  newest: (a, b) => b.step - a.step || a.index - b.index, oldest: (a, b) => a.index - b.index,
  accuracy: (a, b) => (a.accuracy ?? 2) - (b.accuracy ?? 2), "-accuracy": (a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1),
  reward: (a, b) => a.reward - b.reward, "-reward": (a, b) => b.reward - a.reward, "-spread": (a, b) => b.spread - a.spread,
  problem: (a, b) => (a.problem < b.problem ? -1 : a.problem > b.problem ? 1 : a.step - b.step),
};

function entryOf(values, index) {
  const entry = { index };
  FIELDS.forEach((name, i) => { entry[name] = values[i]; });
  return entry;
}

class GroupList {
  constructor(list, rows, onOpen) {
    Object.assign(this, { list, rows, onOpen, shown: [], selected: -1, drawn: new Map() });
    list.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(list);
  }

  show(entries) {
    this.shown = entries;
    this.rows.style.height = `${entries.length * ROW_HEIGHT}px`;
    this.drawn.forEach((row) => row.remove());
    this.drawn.clear();
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - 5);
    const last = Math.min(this.shown.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_HEIGHT) + 5);
    for (const [place, row] of this.drawn) if (place < first || place >= last) { row.remove(); this.drawn.delete(place); }
    for (let place = first; place < last; place++) if (!this.drawn.has(place)) {
      const row = this.row(this.shown[place], place);
      this.drawn.set(place, row);
      this.rows.append(row);
    }
  }

  row(entry, place) {
    const row = element("div", `row ${earned(entry.accuracy)}`), line = element("div", "line");
    row.style.top = `${place * ROW_HEIGHT}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(entry.index === this.selected));
    row.dataset.index = entry.index;
    line.append(element("b", "", `step ${entry.step}`), element("span", "name", printable(entry.problem)));
    if (!entry.signal) line.append(element("span", "chip", "no signal"));
    if (entry.broken) line.append(element("span", "chip", `form ${entry.broken}`));
    if (entry.cut) line.append(element("span", "chip", `cut ${entry.cut}`));
    line.append(element("span", "score", percent(entry.accuracy)));
    row.append(line, element("div", "question", printable(entry.question)));
    row.addEventListener("click", () => this.onOpen(entry.index));
    return row;
  }

  select(index) {
    this.selected = index;
    this.drawn.forEach((row) => row.setAttribute("aria-selected", String(Number(row.dataset.index) === index)));
    const place = this.shown.findIndex((entry) => entry.index === index);
    if (place < 0) return;
    const top = place * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW_HEIGHT - this.list.clientHeight;
  }

  neighbour(by) {
    const place = this.shown.findIndex((entry) => entry.index === this.selected);
    return this.shown[Math.min(this.shown.length - 1, Math.max(0, place + by))];
  }
}
