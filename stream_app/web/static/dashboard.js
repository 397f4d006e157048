// The dashboard: asks this worker for `/status` and `/counters` (which answers for all workers), and draws.
// What is looked at stands in the address, so that it can be sent to somebody.

const STATUS_EVERY_MS = 2_000;
const FIGURES_EVERY_MS = 5_000;
const ROWS = 50;

// `window` and `days` of the figures; the chart has so many buckets of its own window.
const PERIODS = {
  hour: { label: "Last hour", window: "1m", from: "60m", chart: { window: "1m", from: "60m", buckets: 60, by: "by minute" } },
  today: { label: "Today", window: "1d", days: 1, chart: { window: "1h", from: "24h", buckets: 24, by: "by hour, last 24 hours" } },
  month: { label: "Last 30 days", window: "1d", days: 30, chart: { window: "1d", days: 30, buckets: 30, by: "by day" } },
  total: { label: "Everything", window: "total", chart: { window: "1d", days: 90, buckets: 90, by: "by day, last 90 days" } },
};
const DIMENSIONS = {
  channel: "Channel", source_medium: "Source / medium", campaign: "Campaign", platform: "Platform", goal: "Goal",
};
const STEP_MS = { "1m": 60_000, "1h": 3_600_000, "1d": 86_400_000 };

// name, label, kind, what it means; names are those that `/counters` sorts by.
const FIGURES = [
  ["sessions", "Sessions", "count", "Visits, each under the source it is attributed to"],
  ["engaged_sessions", "Engaged", "engaged", "Sessions over 10 s, with two page views or a conversion"],
  ["new_clients", "New clients", "count", "Clients seen for the first time ever"],
  ["conversions", "Conversions", "count", "Goals reached, under their last non-direct source"],
  ["cr", "CR", "percent", "Conversions ÷ sessions"],
  ["value", "Value", "money", "Value of conversions"],
  ["refunded", "Refunded", "money", "Value that was given back"],
  ["leads", "Leads", "count", "Leads, under the source of what made them"],
  ["won", "Won", "count", "Leads that became clients"],
  ["cost", "Cost", "money", "What was spent on advertising"],
  ["cpl", "Cost per lead", "money", "Cost ÷ leads"],
  ["roas", "ROAS", "ratio", "Revenue of advertising ÷ cost"],
];
// Goals have no visits of their own, and money is spent by the day.
const NOT_BY_GOAL = ["engaged_sessions", "new_clients"];
const NOT_BY_MINUTE = ["cost", "cpl", "roas"];

function figuresShown() {
  return FIGURES.filter(([name]) => shown.period !== "hour" || !NOT_BY_MINUTE.includes(name));
}

function columnsShown() {
  return figuresShown().filter(
    ([name]) => name !== "refunded" && (shown.dimension !== "goal" || !NOT_BY_GOAL.includes(name)),
  );
}
const IN_CHARTS = [["sessions", "Sessions"], ["conversions", "Conversions"], ["value", "Value"]];

const byId = (id) => document.getElementById(id);
const shown = Object.assign(
  { period: "today", dimension: "channel", sort: "-sessions", currency: "" },
  Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
);
if (!Object.hasOwn(PERIODS, shown.period)) shown.period = "today";
if (!Object.hasOwn(DIMENSIONS, shown.dimension)) shown.dimension = "channel";
let token = sessionStorage.getItem("token") ?? "";
let status = null;
let turns = 0;

class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

async function ask(address) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(15_000) });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error ?? answer.statusText);
  return body;
}

const counters = (parameters) => `counters?${new URLSearchParams(parameters)}`;

// Days are those of the site's time zone, as the windows are.
function dayOf(ms) {
  return new Date(ms).toLocaleDateString("sv-SE", { timeZone: status.timezone });
}

function since({ from, days }) {
  if (from) return { from };
  return days ? { from: dayOf(Date.now() - (days - 1) * STEP_MS["1d"]) } : {};
}

// --- elements ---------------------------------------------------------------------------------------

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const pairs = (entries) =>
  entries.map(([name, value, title = ""]) => element("div", { title }, element("dt", {}, name), element("dd", {}, value)));

// --- figures ----------------------------------------------------------------------------------------

function figure(row, name) {
  const found = row?.counts[name] ?? row?.sums[name] ?? row?.rates[name];
  return found === undefined || found === null ? null : Number(found);
}

function text(row, name, kind) {
  const number = figure(row, name);
  if (number === null) return "–";
  switch (kind) {
    case "money":
      return number.toLocaleString(undefined, { style: "currency", currency: row.currency, currencyDisplay: "narrowSymbol" });
    case "percent":
      return number.toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 });
    case "engaged": {
      const sessions = figure(row, "sessions");
      return sessions ? (number / sessions).toLocaleString(undefined, { style: "percent" }) : "–";
    }
    case "ratio":
      return number.toLocaleString(undefined, { maximumFractionDigits: 2 });
    default:
      return number.toLocaleString();
  }
}

// --- this worker ------------------------------------------------------------------------------------

function drawStatus(now, before) {
  byId("version").textContent = now.version;
  byId("state").textContent = now.ready ? "Ready" : `Not ready: ${now.reason.replaceAll("_", " ")}`;
  byId("state").className = `state ${now.ready ? "ready" : "waiting"}`;
  byId("detail").textContent = now.detail;
  document.title = `stream-app: ${byId("state").textContent}`;
  const seconds = before ? (now.at_ms - before.at_ms) / 1_000 : 0;
  const rate = seconds > 0 ? Math.max(0, now.events - before.events) / seconds : null;
  const dead = Object.values(now.dead_letters).reduce((sum, n) => sum + n, 0);
  const reasons = Object.entries(now.dead_letters).map(([reason, n]) => `${reason}: ${n.toLocaleString()}`);
  byId("worker").replaceChildren(
    ...pairs([
      ["Events/s", rate === null ? "–" : Math.round(rate).toLocaleString(), "Taken by this worker"],
      ["Waiting", now.waiting.toLocaleString(), "Records that this worker has yet to take"],
      ["Dead letters", dead.toLocaleString(), reasons.join("\n") || "Records that could not be taken: none"],
    ]),
  );
}

// --- all together, over time ------------------------------------------------------------------------

function drawTiles(rows) {
  const row = rows.find((one) => one.currency === shown.currency);
  const tiles = figuresShown().map(([name, label, kind, meaning]) => [label, text(row, name, kind), meaning]);
  byId("tiles").replaceChildren(...pairs(tiles));
}

function drawCurrencies(rows) {
  const codes = [...new Set([status.currency, ...rows.map((row) => row.currency)])].sort();
  if (!codes.includes(shown.currency)) shown.currency = status.currency;
  byId("currencies").hidden = codes.length < 2;
  byId("currency").replaceChildren(
    ...codes.map((code) => element("option", { value: code, selected: code === shown.currency }, code)),
  );
}

function bucketOf(window, rows) {
  if (window === "1d") return (ms) => dayOf(ms);
  // Where a zone is half an hour off, so are its hours.
  const phase = rows.length ? Date.parse(rows[0].window_start) % STEP_MS[window] : 0;
  return (ms) => Math.floor((ms - phase) / STEP_MS[window]);
}

function drawCharts(rows, { window, buckets, by }) {
  const bucket = bucketOf(window, rows);
  const own = rows.filter((row) => row.currency === shown.currency);
  const known = new Map(own.map((row) => [bucket(Date.parse(row.window_start)), row]));
  const times = Array.from({ length: buckets }, (_, i) => Date.now() - (buckets - 1 - i) * STEP_MS[window]);
  const when = new Intl.DateTimeFormat(undefined, {
    timeZone: status.timezone,
    ...(window === "1d" ? { dateStyle: "medium" } : { hour: "2-digit", minute: "2-digit" }),
  });
  const charts = IN_CHARTS.map(([name, label]) => {
    const kind = FIGURES.find(([other]) => other === name)[2];
    const found = times.map((ms) => known.get(bucket(ms)));
    const values = found.map((row) => figure(row, name) ?? 0);
    const most = Math.max(...values, 0);
    const bars = values.map((value, i) => {
      const height = most > 0 ? Math.max(value > 0 ? 1 : 0, (60 * value) / most) : 0;
      const start = found[i] ? Date.parse(found[i].window_start) : times[i];
      const tip = drawn("title", {}, `${when.format(start)}: ${found[i] ? text(found[i], name, kind) : "0"}`);
      return drawn(
        "g", {}, tip,
        drawn("rect", { class: "hit", x: i * 10, y: 0, width: 10, height: 60 }),
        drawn("rect", { class: i === buckets - 1 ? "now" : "", x: i * 10 + 1, y: 60 - height, width: 8, height }),
      );
    });
    const peak = found[values.indexOf(most)];
    const highest = peak ? `most: ${text(peak, name, kind)}` : "nothing yet";
    return element(
      "figure", {},
      element("figcaption", {}, element("span", {}, `${label} ${by}`), element("b", {}, highest)),
      drawn(
        "svg",
        { viewBox: `0 0 ${buckets * 10} 60`, preserveAspectRatio: "none", role: "img", "aria-label": `${label} ${by}, ${highest}` },
        ...bars,
      ),
    );
  });
  byId("charts").replaceChildren(...charts);
}

// --- the table --------------------------------------------------------------------------------------

function drawTable(rows) {
  const sorted = shown.sort.replace(/^-/, "");
  const columns = columnsShown();
  const head = columns.map(([name, label, , meaning]) => {
    const cell = element("th", { scope: "col", title: meaning }, element("button", { type: "button", value: name }, label));
    if (name === sorted) cell.setAttribute("aria-sort", shown.sort.startsWith("-") ? "descending" : "ascending");
    return cell;
  });
  const table = byId("table");
  const focus = document.activeElement?.closest?.("#table button")?.value;
  table.tHead.replaceChildren(
    element("tr", {}, element("th", { scope: "col", className: "name" }, DIMENSIONS[shown.dimension]), ...head),
  );
  if (focus) table.tHead.querySelector(`button[value="${focus}"]`)?.focus();
  const most = Math.max(1, ...rows.map((row) => figure(row, "sessions") ?? 0));
  const lines = rows.slice(0, ROWS).map((row) => {
    const { campaign, ...keys } = row.keys;
    const rest = Object.values(keys).join(" / ");
    const name = element("th", { scope: "row", className: "name", title: Object.values(row.keys).join(" / ") });
    name.append(...(campaign === undefined ? [rest] : [campaign, element("span", {}, `  ${rest}`)]));
    const cells = columns.map(([figureName, , kind]) => element("td", {}, text(row, figureName, kind)));
    cells[0].style.setProperty("--share", `${(100 * (figure(row, "sessions") ?? 0)) / most}%`);
    return element("tr", {}, name, ...cells);
  });
  table.tBodies[0].replaceChildren(...lines);
  byId("note").textContent = !rows.length
    ? "Nothing was counted in this period yet."
    : rows.length > ROWS ? `The first ${ROWS}; the CSV file has all.` : "";
}

// --- what is asked for ------------------------------------------------------------------------------

async function refreshFigures() {
  const turn = ++turns;
  const period = PERIODS[shown.period];
  const chart = period.chart;
  const [all, over] = await Promise.all([
    ask(counters({ window: period.window, dimension: "all", ...since(period) })),
    ask(counters({ window: chart.window, dimension: "all", by: "window", ...since(chart) })),
  ]);
  if (turn !== turns) return null;
  drawCurrencies(all.rows);
  const table = { window: period.window, dimension: shown.dimension, currency: shown.currency, sort: shown.sort, ...since(period) };
  const rows = await ask(counters({ ...table, limit: ROWS + 1 }));
  if (turn !== turns) return null; // something else has been asked for meanwhile
  drawTiles(all.rows);
  drawCharts(over.rows, chart);
  drawTable(rows.rows);
  byId("csv").href = counters({ ...table, format: "csv" });
  byId("csv").hidden = Boolean(token); // a link carries none
  const missing = new Set([...all.missing_partitions, ...over.missing_partitions, ...rows.missing_partitions]);
  byId("figures").hidden = false;
  byId("admission").hidden = true;
  return missing.size ? `Figures are missing: ${missing.size} task(s) do not answer now.` : "";
}

function tell(trouble) {
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
}

async function look() {
  try {
    if (status === null) await lookAtWorker();
    if (!status.counters) return tell("Counters are off (counters.enabled is false): there are no figures to show.");
    const trouble = await refreshFigures();
    if (trouble !== null) tell(trouble);
  } catch (error) {
    if (error instanceof Refused && error.code === 401) {
      byId("admission").hidden = false;
      byId("figures").hidden = true;
      tell(token ? "That is not the token." : "");
      token = "";
      return;
    }
    tell(error instanceof Refused ? error.message : "This worker does not answer; it is asked again.");
  }
}

async function lookAtWorker() {
  const before = status;
  status = { ...(await ask("status")), at_ms: performance.now() };
  shown.currency ||= status.currency;
  drawStatus(status, before);
}

// Nobody looks at a hidden page, and a slow answer is not asked for at once again. Gives what begins a turn now.
function repeat(work, everyMs) {
  let timer = null;
  let current = 0;
  const turn = async () => {
    const own = ++current;
    clearTimeout(timer);
    const began = performance.now();
    if (!document.hidden) await work();
    if (own === current) timer = setTimeout(turn, Math.max(everyMs, 3 * (performance.now() - began)));
  };
  turn();
  return turn;
}

function choose(change) {
  Object.assign(shown, change);
  history.replaceState(null, "", `#${new URLSearchParams(shown)}`);
  press();
  again();
}

function press() {
  for (const button of document.querySelectorAll("#periods button, #dimensions button")) {
    const chosen = button.value === shown.period || button.value === shown.dimension;
    button.setAttribute("aria-pressed", String(chosen));
  }
}

const button = (value, label) => element("button", { type: "button", value }, label);
byId("periods").append(...Object.entries(PERIODS).map(([value, { label }]) => button(value, label)));
byId("dimensions").append(...Object.entries(DIMENSIONS).map(([value, label]) => button(value, label)));
byId("periods").addEventListener("click", ({ target }) => target.value && choose({ period: target.value }));
byId("dimensions").addEventListener("click", ({ target }) => target.value && choose({ dimension: target.value }));
byId("currency").addEventListener("change", ({ target }) => choose({ currency: target.value }));
byId("table").addEventListener("click", ({ target }) => {
  if (target.value) choose({ sort: shown.sort === `-${target.value}` ? target.value : `-${target.value}` });
});
byId("admission").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("token", token);
  again();
});
document.addEventListener("visibilitychange", () => document.hidden || again());
press();
repeat(async () => {
  try {
    await lookAtWorker();
  } catch {
    byId("state").textContent = "Does not answer";
    byId("state").className = "state waiting";
  }
}, STATUS_EVERY_MS);
const again = repeat(look, FIGURES_EVERY_MS);
