"use strict";
// A group as a tree: opening, its futures, their rounds; each coloured by what it earned within the group.

function earned(share) {
  if (share === null || share === undefined) return "earned-none";
  return share >= 2 / 3 ? "earned-high" : share > 1 / 3 ? "earned-middle" : "earned-low";
}
function percent(share) { return share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`; }
function signed(value) { return (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(2); }

function rewardChips(rewards) {
  return Object.entries(rewards || {}).map(([name, value]) => element("span", "chip", `${printable(name)} ${value.toFixed(2)}`));
}

function round(turn, number, prompts, view) {
  const place = element("div", "round"), facts = element("div", "facts");
  facts.append(element("span", "soft", `round ${number}`), element("span", "chip", `${turn.tokens} tokens`),
    element("span", "chip", turn.cut ? "cut off" : "ended by itself"));
  if (turn.advantage !== null) facts.append(element("span", "chip", `advantage ${signed(turn.advantage)}`), ...rewardChips(turn.rewards));
  const button = element("button", "show-prompt", "prompt"), prompt = element("pre", "prompt");
  prompt.hidden = true;
  button.addEventListener("click", () => {
    if (!prompt.firstChild) prompt.textContent = printable(prompts[turn.prompt]);
    prompt.hidden = !prompt.hidden;
    button.setAttribute("aria-expanded", String(!prompt.hidden));
  });
  facts.append(button);
  place.append(facts, prompt, shownText(turn.reply, view));
  return place;
}

function futureNode(future, number, prompts, view) {
  const node = element("details", `node future ${earned(future.correct ? 1 : 0)}`), head = element("summary", "facts");
  head.append(element("b", "", `future ${number}: ${future.correct ? "right" : "wrong"}`));
  const tokens = future.rounds.reduce((sum, turn) => sum + turn.tokens, 0);
  head.append(element("span", "chip", future.rounds.length ? `${future.rounds.length} more rounds, ${tokens} tokens` : "ended with its opening"));
  if (future.rounds.some((turn) => turn.cut)) head.append(element("span", "chip", "cut off"));
  node.append(head);
  const fill = () => { if (node.open && !node.dataset.filled) { node.dataset.filled = "1"; node.append(...future.rounds.map((turn, i) => round(turn, i + 2, prompts, view))); } };
  node.addEventListener("toggle", fill);
  if (number === 1 || view.needle) { node.open = true; fill(); }
  return node;
}

function openingNode(opening, number, group, view) {
  const sums = group.openings.map((each) => each.total), low = Math.min(...sums), high = Math.max(...sums);
  const share = high > low ? (opening.total - low) / (high - low) : opening.accuracy;
  const node = element("section", `node opening ${earned(share)}`), facts = element("div", "facts");
  facts.append(element("b", "", `opening ${number}: reward ${opening.total.toFixed(2)}`),
    element("span", "chip", `${signed(opening.above)} against the group's mean`));
  if (opening.accuracy !== null) {
    const range = opening.interval ? ` [${opening.interval.map((end) => Math.round(100 * end)).join(", ")}]` : "";
    facts.append(element("span", "chip", `futures right ${percent(opening.accuracy)}${range}${opening.used ? ` of ${opening.used}` : ""}`));
  }
  facts.append(...rewardChips(opening.rewards));
  node.append(facts, round(opening.turn, 1, group.prompts, view));
  node.append(...opening.futures.map((future, i) => futureNode(future, i + 1, group.prompts, view)));
  return node;
}

function groupColumn(group, view) {
  const column = element("div", "column");
  column.append(element("h2", "", `Step ${group.step}`));
  column.append(...group.openings.map((opening, i) => openingNode(opening, i + 1, group, view)));
  return column;
}
