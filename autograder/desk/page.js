"use strict";
// Sorts and filters the table of students. Without this script the page still shows everything, in order of ids.
const table = document.getElementById("students");
const body = table.tBodies[0];
const rows = Array.from(body.rows);
const search = document.getElementById("search");
const only = document.getElementById("only");
const status = document.getElementById("shown");

function value(row, column) {
  const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(header) {
  const headers = Array.from(header.parentElement.cells);
  const column = headers.indexOf(header);
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  headers.forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  rows.sort((a, b) => direction * compare(value(a, column), value(b, column)));
  body.append(...rows);
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const kinds = row.dataset.kinds.split(" ");
    const wanted = only.value === "" || (only.value === "any" ? row.dataset.kinds !== "" : kinds.includes(only.value));
    row.hidden = !wanted || !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  status.textContent = `${shown} of ${rows.length} students shown`;
}

function openTarget() {
  const card = location.hash && document.getElementById(location.hash.slice(1));
  if (card && card.tagName === "DETAILS") card.open = true;
}

table.tHead.addEventListener("click", (event) => {
  const header = event.target.closest("th");
  if (header) sortBy(header);
});
search.addEventListener("input", filter);
only.addEventListener("change", filter);
document.getElementById("open-cards").addEventListener("click", () => {
  const cards = Array.from(document.querySelectorAll("details.card"));
  const open = !cards.every((card) => card.open);
  cards.forEach((card) => { card.open = open; });
});
window.addEventListener("hashchange", openTarget);
openTarget();
filter();
