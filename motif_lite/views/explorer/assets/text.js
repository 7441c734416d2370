"use strict";
// A reply as elements: tags marked, code as code, mathematics by KaTeX. What a model wrote only ever becomes text nodes.

const LONGEST_SHOWN = 20000, LONGEST_FORMULA = 2000, MOST_FORMULAS = 200;
const UNPRINTABLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const PIECES = /(<\/?(?:reasoning|answer|think|thinking|thought)>)|```[^\n`]*\n([\s\S]*?)```|\\\[([\s\S]+?)\\\]|\$\$([\s\S]+?)\$\$|\\\(([\s\S]+?)\\\)|\$([^\s$](?:[^$\n]*?[^\s$])?)\$(?!\d)|(\\boxed\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*\})|`([^`\n]+)`/g;

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function printable(text) { return text.replace(UNPRINTABLE, "\ufffd"); }

function matched(text, needle) {
  // Text with what was searched for marked.
  const found = document.createDocumentFragment();
  if (!needle) { found.append(text); return found; }
  const lower = text.toLowerCase();
  let start = 0;
  for (let at = lower.indexOf(needle); at >= 0; at = lower.indexOf(needle, start)) {
    found.append(text.slice(start, at), element("mark", "", text.slice(at, at + needle.length)));
    start = at + needle.length;
  }
  found.append(text.slice(start));
  return found;
}

function formula(source, whole, display) {
  const place = element("span", "math");
  try {
    katex.render(source, place, { displayMode: display, throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200 });
  } catch (error) { place.textContent = whole; }
  return place;
}

function isMoney(source) { return !/[\\^_=]/.test(source) && !/^[A-Za-z]\w?$/.test(source) && !/^[\d\s+*\/().-]+$/.test(source); }

function pieces(text, needle) {
  const found = document.createDocumentFragment();
  let start = 0, formulas = 0;
  for (const match of text.matchAll(PIECES)) {
    const [whole, tag, code, display, display2, inline, dollars, boxed, word] = match;
    const source = display ?? display2 ?? inline ?? dollars ?? boxed;
    if (source !== undefined && (source.length > LONGEST_FORMULA || formulas++ > MOST_FORMULAS || (dollars !== undefined && isMoney(dollars)))) continue;
    found.append(matched(text.slice(start, match.index), needle));
    if (tag) found.append(element("span", "tag", tag));
    else if (code !== undefined) found.append(element("pre", "", code));
    else if (word !== undefined) found.append(element("code", "", word));
    else found.append(formula(source, whole, display !== undefined || display2 !== undefined));
    start = match.index + whole.length;
  }
  found.append(matched(text.slice(start), needle));
  return found;
}

function shownText(text, view) {
  // A reply or a question; a very long one is cut until its button is pressed, which shows it as plain text.
  const place = element("div", "text");
  const clean = printable(text);
  const shown = clean.slice(0, LONGEST_SHOWN);
  place.append(view.raw ? matched(shown, view.needle) : pieces(shown, view.needle));
  if (clean.length > LONGEST_SHOWN) {
    const more = element("button", "more", `show all ${clean.length.toLocaleString("en")} characters`);
    more.addEventListener("click", () => { place.textContent = clean; });
    place.append(" ", more);
  }
  return place;
}
