// What both views draw with: elements, figures as text, tables.

export const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const pairs = (entries) =>
  entries.map(([name, value, title = ""]) => element("div", { title }, element("dt", {}, name), element("dd", {}, value)));

export const button = (value, label) => element("button", { type: "button", value }, label);

// --- figures ----------------------------------------------------------------------------------------

export function figure(row, name) {
  const found = row?.counts[name] ?? row?.sums[name] ?? row?.rates[name];
  return found === undefined || found === null ? null : Number(found);
}

const inDigits = (number, digits, more = {}) =>
  number.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits, ...more });

export const inMoney = (number, currency) =>
  number.toLocaleString(undefined, { style: "currency", currency, currencyDisplay: "narrowSymbol" });

export function text(row, name, kind) {
  const number = figure(row, name);
  if (number === null) return "–";
  switch (kind) {
    case "money":
      return inMoney(number, row.currency);
    case "percent":
      return inDigits(number, 1, { style: "percent" });
    case "engaged": {
      const sessions = figure(row, "sessions");
      return sessions ? inDigits(number / sessions, 0, { style: "percent" }) : "–";
    }
    case "ratio":
      return inDigits(number, 2);
    default:
      return number.toLocaleString();
  }
}

// --- tables -----------------------------------------------------------------------------------------

// `columns` as name, label, kind, what it means; `share` is drawn as a bar in the first of them. A heading whose figure
// can be sorted by is a button.
export function fillTable(table, { title, columns, rows, name, sortable = () => true, sorted, descending, share }) {
  const head = columns.map(([figureName, label, , meaning]) => {
    const inside = sortable(figureName) ? button(figureName, label) : label;
    const cell = element("th", { scope: "col", title: meaning }, inside);
    if (figureName === sorted) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
    return cell;
  });
  const focus = document.activeElement?.closest?.(`#${table.id} button`)?.value;
  table.tHead.replaceChildren(element("tr", {}, element("th", { scope: "col", className: "name" }, title), ...head));
  if (focus) table.tHead.querySelector(`button[value="${focus}"]`)?.focus();
  const most = Math.max(0, ...rows.map((row) => figure(row, share) ?? 0));
  const lines = rows.map((row) => {
    const [main, rest = ""] = name(row);
    const cell = element("th", { scope: "row", className: "name", title: `${main} ${rest}`.trim() }, main);
    if (rest) cell.append(element("span", {}, `  ${rest}`));
    const cells = columns.map(([figureName, , kind]) => {
      const shown = text(row, figureName, kind);
      return element("td", { className: figure(row, figureName) ? "" : "nothing" }, shown);
    });
    if (most > 0) cells[0].style.setProperty("--share", `${(100 * (figure(row, share) ?? 0)) / most}%`);
    return element("tr", {}, cell, ...cells);
  });
  table.tBodies[0].replaceChildren(...lines);
}
