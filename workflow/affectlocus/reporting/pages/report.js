"use strict";
// Sorts and filters the tables of the report, explains a number on hover and focus, and shows the samples behind it.
// Without this script the page shows the same numbers. It makes no request: the samples are in the page.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const words = (element) => (element ? element.textContent.replace(/\s+/g, " ").trim() : "");

  // Sorting and filtering: the items of a table are its rows, or the row groups of a table of claims.

  const itemsOf = (table) =>
    table.classList.contains("claims") ? [...table.tBodies] : table.tBodies.length ? [...table.tBodies[0].rows] : [];
  const cellOf = (item, column) => (item.rows ? item.rows[0] : item).cells[column];
  const valueOf = (cell) => {
    if (!cell) return null;
    const text = words(cell.querySelector(".value") || cell.querySelector(".verdict") || cell);
    const number = Number.parseFloat(text.replace(/−/g, "-").replace(/[<,\s]/g, ""));
    return /^[<\s]*[-+−]?[\d.,]/.test(text) && !Number.isNaN(number) ? number : text;
  };
  const compare = (one, two) => {
    if (typeof one === "number" && typeof two === "number") return one - two;
    if (typeof one !== typeof two) return typeof one === "number" ? -1 : 1;
    return one.localeCompare(two, "en", { numeric: true });
  };

  function sortable(table) {
    const original = itemsOf(table);
    if (original.length < 2) return;
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      if (!words(heading)) return;
      const button = make("button", { type: "button", class: "sort" }, ...heading.childNodes);
      button.title = "Sort by this column";
      heading.append(button);
      button.addEventListener("click", () => {
        const filled = original.map((item) => valueOf(cellOf(item, column))).filter((value) => value !== "" && value !== null);
        const numeric = filled.filter((value) => typeof value === "number").length > filled.length / 2;
        const order = numeric ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
        const next = order[(order.indexOf(heading.getAttribute("aria-sort") || "") + 1) % 3];
        headings.forEach((each) => each.removeAttribute("aria-sort"));
        if (next) heading.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const sorted = !next
          ? original
          : [...original].sort((one, two) => {
              const [first, second] = [one, two].map((item) => valueOf(cellOf(item, column)));
              const missing = Number(first === "" || first === null) - Number(second === "" || second === null);
              return missing || sign * compare(first, second);
            });
        const parent = original[0].parentNode;
        const end = original.reduce((last, item) => (last.compareDocumentPosition(item) & 4 ? item : last)).nextSibling;
        sorted.forEach((item) => parent.insertBefore(item, end));
      });
    });
  }

  function filterable(table) {
    const items = itemsOf(table);
    if (items.length < (table.classList.contains("claims") ? 2 : 6)) return;
    const texts = items.map((item) => words(item).toLowerCase());
    const input = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const found = make("output", { "aria-live": "polite" });
    const line = make("p", { class: "filter" }, make("label", {}, "Filter ", input), " ", found);
    const chosen = new Set();
    const apply = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      items.forEach((item, at) => {
        const verdict = chosen.size ? words(item.querySelector(".verdict")).replace(/^\W+/, "").split(" ")[0] : "";
        const fits = wanted.every((word) => texts[at].includes(word)) && (!chosen.size || chosen.has(verdict));
        item.hidden = !fits;
        shown += fits;
      });
      found.textContent = wanted.length || chosen.size ? `${shown} of ${items.length} rows` : "";
    };
    input.addEventListener("input", apply);
    const tally = table.classList.contains("claims") ? table.previousElementSibling : null;
    if (tally && tally.classList.contains("tally")) {
      const untested = table.nextElementSibling;
      all("li", tally).forEach((entry) => {
        const word = words(entry.querySelector(".verdict")).replace(/^\W+/, "");
        const button = make("button", { type: "button", "aria-pressed": "false" }, ...entry.childNodes);
        button.title = `Show only these`;
        entry.append(button);
        button.addEventListener("click", () => {
          if (word === "untestable" && untested) {
            untested.open = !untested.open;
            button.setAttribute("aria-pressed", String(untested.open));
            return;
          }
          if (!chosen.delete(word)) chosen.add(word);
          button.setAttribute("aria-pressed", String(chosen.has(word)));
          apply();
        });
      });
    }
    const box = table.closest(".scroll") || table;
    box.before(line);
  }

  // The samples: base64 of zlib's format.

  const packed = document.getElementById("samples-packed");
  let unpacked = null;
  const unpack = () => {
    unpacked ??= (async () => {
      const bytes = Uint8Array.from(atob(packed.textContent.trim()), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      return new Response(stream).json();
    })();
    return unpacked;
  };

  const dialog = make("dialog", { class: "samples", "aria-labelledby": "samples-title" });
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  function counted(answers) {
    const counts = new Map();
    answers.forEach((answer) => counts.set(answer, (counts.get(answer) || 0) + 1));
    return [...counts].sort((one, two) => two[1] - one[1]);
  }

  async function showSamples(cell, task, about = "") {
    const title = make("h2", { id: "samples-title" }, cell);
    const close = make("button", { type: "button", class: "close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    dialog.replaceChildren(make("div", { class: "bar" }, title, close));
    if (about) dialog.append(make("p", {}, about));
    if (!dialog.open) dialog.showModal();
    let data;
    try {
      data = await unpack();
    } catch {
      dialog.append(make("p", {}, "This browser cannot unpack the samples."));
      dialog.append(make("p", { class: "path" }, `They are in cells/${cell}.`));
      return;
    }
    const mine = data.cells[cell] || {};
    const tasks = Object.keys(mine).filter((name) => data.tasks[name]);
    if (!tasks.length) {
      dialog.append(make("p", {}, "The page has no samples of this cell."));
      return;
    }
    const which = make("select");
    tasks.forEach((name) => which.append(make("option", { value: name }, name)));
    which.value = tasks.includes(task) ? task : tasks[0];
    const kind = make("select");
    for (const [value, text] of [["all", "all"], ["wrong", "mostly wrong"], ["right", "mostly right"]])
      kind.append(make("option", { value }, text));
    const kindLabel = make("label", {}, "Show ", kind);
    const controls = make("p", { class: "filter" }, make("label", {}, "Task ", which), " ", kindLabel);
    const place = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Samples" });
    const source = make("p", { class: "path" });
    dialog.append(controls, place, source);
    const draw = () => {
      const name = which.value;
      const { of, labelled, samples, answers } = data.tasks[name];
      const replicates = Object.entries(mine[name]);
      kindLabel.hidden = !labelled;
      const heads = ["Sample", "Prompt", labelled ? "True label" : "Target", replicates.length > 1 ? "Answers" : "Answer"];
      if (labelled) heads.push(replicates.length > 1 ? "Right" : "Right?");
      const body = make("tbody");
      samples.forEach(([id, prompt, truth], at) => {
        const given = replicates.map(([, each]) => answers[each[at]] ?? "");
        const right = given.filter((answer) => answer.split("\n")[0] === truth).length;
        const most = 2 * right > given.length;
        if (labelled && kind.value !== "all" && (kind.value === "right") !== most) return;
        const said = counted(given).slice(0, labelled ? undefined : 3).map(([answer, times]) => (given.length > 1 ? `${answer || "(none)"} ×${times}` : answer || "(none)"));
        const row = make("tr", {}, make("th", { scope: "row" }, id), make("td", { class: "long" }, prompt), make("td", {}, truth));
        row.append(make("td", { class: "said" }, said.join(labelled && !given.some((answer) => answer.includes("\n")) ? ", " : "\n")));
        if (labelled) row.append(make("td", { class: "number" }, given.length > 1 ? `${right} of ${given.length}` : right ? "yes" : "no"));
        body.append(row);
      });
      const head = make("tr");
      heads.forEach((text) => head.append(make("th", { scope: "col" }, text)));
      const table = make("table", {}, make("thead", {}, head), body);
      place.replaceChildren(table);
      sortable(table);
      const first = samples.length < of ? `The first ${samples.length} of ${of} samples` : `All ${of} samples`;
      const times = replicates.length > 1 ? `; answers of ${replicates.length} replicates or draws` : "";
      const folder = [cell, replicates[0][0]].filter(Boolean).join("/");
      const command = `affectlocus show ${document.body.dataset.results}/cells/${folder}/predictions.parquet --where task=${name}`;
      const rest = `${samples.length < of ? "All of them" : "The file"}${replicates.length > 1 ? " of one replicate" : ""}`;
      source.replaceChildren(`${first}${times}. ${rest}: `, make("code", {}, command));
    };
    which.addEventListener("change", draw);
    kind.addEventListener("change", draw);
    draw();
    close.focus();
  }

  // Numbers: what they are on hover and focus, and their samples on click.

  const tip = make("div", { class: "tip", role: "tooltip", id: "tip" });
  tip.hidden = true;
  document.body.append(tip);
  let leaving = 0;
  const hide = () => {
    tip.hidden = true;
    all("[aria-describedby=tip]").forEach((one) => one.removeAttribute("aria-describedby"));
  };
  const hideSoon = () => {
    clearTimeout(leaving);
    leaving = setTimeout(hide, 200);
  };
  tip.addEventListener("pointerenter", () => clearTimeout(leaving));
  tip.addEventListener("pointerleave", hideSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, true);

  function explain(button, text) {
    const show = () => {
      clearTimeout(leaving);
      tip.textContent = text;
      tip.hidden = false;
      button.setAttribute("aria-describedby", "tip");
      const box = button.getBoundingClientRect();
      const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
      const below = box.bottom + tip.offsetHeight < innerHeight;
      tip.style.left = `${Math.max(8, left)}px`;
      tip.style.top = `${below ? box.bottom : box.top - tip.offsetHeight}px`;
    };
    button.addEventListener("pointerenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("pointerleave", hideSoon);
    button.addEventListener("blur", hideSoon);
  }

  function explained(table) {
    const headings = [...table.tHead.rows[0].cells];
    const buttons = [];
    for (const row of table.tBodies[0].rows) {
      const cell = row.dataset.cell;
      [...row.cells].forEach((place, column) => {
        const value = place.querySelector(".value");
        if (!value) return;
        const heading = headings[column];
        const task = heading.dataset.task || "";
        const [sign, interval] = [words(value.querySelector("sup")), words(place.querySelector(".interval"))];
        const name = words(heading).replace(words(heading.querySelector(".n")), "").trim();
        const lines = [`${name}, ${words(row.cells[0])}: ${words(value).replace(sign, "")}`];
        if (interval) lines.push(`${table.dataset.confidence} interval ${interval}`);
        const n = words(heading.querySelector(".n"));
        lines.push(`${/^n =/.test(n) ? `${n} samples, ` : ""}${row.dataset.counted}`);
        if (sign) lines.push(`significantly ${sign === "+" ? "better" : "worse"} than the reference`);
        if (packed) lines.push("Click: its samples");
        const button = make("button", { type: "button", class: "one", tabindex: "-1" }, ...place.childNodes);
        place.append(button);
        explain(button, lines.join("\n"));
        if (packed) button.addEventListener("click", () => showSamples(cell, task, lines.slice(0, -1).join("; ")));
        buttons.push(button);
      });
    }
    if (!buttons.length) return;
    buttons[0].tabIndex = 0;
    // One stop of the tab key for each table; arrows lead from number to number.
    table.addEventListener("keydown", (event) => {
      const from = event.target.closest("button.one");
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!from || !step) return;
      let [row, column] = [from.closest("tr"), from.closest("td").cellIndex];
      for (;;) {
        column += step[1];
        if (step[0]) do row = step[0] > 0 ? row.nextElementSibling : row.previousElementSibling; while (row && row.hidden);
        const next = row && row.cells[column];
        if (!next) return;
        const to = next.querySelector("button.one");
        if (!to) continue;
        event.preventDefault();
        from.tabIndex = -1;
        to.tabIndex = 0;
        to.focus();
        return;
      }
    });
  }

  // Ids of cells in the text below a verdict, and in plain tables, lead to the samples.

  function linked(place) {
    const known = new Set(all("tr[data-cell]").map((row) => row.dataset.cell));
    for (const node of [...place.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE)) {
      const parts = node.textContent.split(/(, | )/);
      if (!parts.some((part) => known.has(part))) continue;
      node.replaceWith(
        ...parts.map((part) => {
          if (!known.has(part)) return part;
          const button = make("button", { type: "button", class: "cell", title: "Show its samples" }, part);
          button.addEventListener("click", () => showSamples(part, ""));
          return button;
        }),
      );
    }
  }

  all("table.claims, table.sortable").forEach((table) => {
    filterable(table);
    sortable(table);
  });
  all("table.scores[data-confidence]").forEach(explained);
  if (packed) all(".basis, td.trace").forEach(linked);
  document.documentElement.classList.add("scripted");
})();
