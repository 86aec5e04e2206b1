"use strict";
// Filters hide rows and columns; without this script everything is there.
(() => {
  const byId = (id) => document.getElementById(id);
  const fields = { secret: byId("by-secret"), chain: byId("by-chain"), outcome: byId("by-outcome") };
  const text = byId("by-text");
  const rows = [...document.querySelectorAll("[data-row]")].map((row) => ({
    row,
    secret: [row.dataset.secret],
    chain: (row.dataset.chain ?? "").split("\n"),
    outcome: (row.dataset.outcome ?? "").split(" "),
    has: (name) => name in row.dataset,
    words: [...row.cells].filter((cell) => !cell.querySelector("svg")).map((cell) => cell.textContent).join(" ").toLowerCase(),
  }));

  const fits = (entry) =>
    Object.entries(fields).every(([name, field]) => !field.value || !entry.has(name) || entry[name].includes(field.value)) &&
    entry.words.includes(text.value.trim().toLowerCase());

  const countIn = (section) => {
    const all = section.querySelectorAll("[data-row]");
    const shown = [...all].filter((row) => !row.hidden).length;
    const place = section.querySelector(".count");
    if (place) place.textContent = shown === all.length ? `${all.length}` : `${shown} of ${all.length}`;
  };

  const showColumns = () => {
    const table = byId("heat");
    if (!table) return;
    const heads = [...table.tHead.rows[0].cells];
    const hidden = heads.map((head) => "chain" in head.dataset && fields.chain.value && head.dataset.chain !== fields.chain.value);
    for (const row of table.rows) [...row.cells].forEach((cell, at) => { cell.hidden = Boolean(hidden[at]); });
  };

  const describe = () => {
    const parts = Object.entries(fields).filter(([, field]) => field.value).map(([name, field]) => `${name} ${field.value}`);
    if (text.value.trim()) parts.push(`text “${text.value.trim()}”`);
    byId("filtered").textContent = parts.length ? `Filtered by ${parts.join(", ")}` : "";
  };

  const apply = () => {
    for (const entry of rows) entry.row.hidden = !fits(entry);
    for (const group of document.querySelectorAll("tbody[data-group]")) {
      group.hidden = ![...group.querySelectorAll("[data-row]")].some((row) => !row.hidden);
    }
    document.querySelectorAll("section").forEach(countIn);
    showColumns();
    describe();
  };

  for (const field of [...Object.values(fields), text]) field.addEventListener("input", apply);
  byId("reset").addEventListener("click", () => {
    for (const field of [...Object.values(fields), text]) field.value = "";
    apply();
    text.focus();
  });
  byId("filters").hidden = false;
  // A browser may have kept what was chosen before the page was loaded again.
  apply();
})();
