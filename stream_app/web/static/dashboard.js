// The dashboard: asks this worker for `/status`, `/counters` and `/referrals` (which answer for all workers), and draws.
// What is looked at stands in the address, so that it can be sent to somebody.

import { button, byId, drawn, element, figure, fillTable, pairs, text } from "./drawing.js";
import * as referrals from "./referrals.js";

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
const VIEWS = { sources: "Sources", referrals: "Referrals" };
const STEP_MS = { "1m": 60_000, "1h": 3_600_000, "1d": 86_400_000 };

// name, label, kind, what it means; names are those that `/counters` sorts by.
const FIGURES = [
  ["sessions", "Sessions", "count", "Visits, each under the source it is attributed to"],
  ["engaged_sessions", "Engaged", "engaged", "Sessions over 10 s, with two page views or a conversion, in all sessions"],
  ["new_clients", "New clients", "count", "Clients seen for the first time ever"],
  ["conversions", "Conversions", "count", "Goals reached, under their last non-direct source"],
  ["cr", "CR", "percent", "Conversions ÷ sessions"],
  ["value", "Value", "money", "Value of conversions"],
  ["refunded", "Refunded", "money", "Value that was given back"],
  ["leads", "Leads", "count", "Leads, under the source of what made them"],
  ["won", "Won", "count", "Leads that became clients"],
  ["revenue", "Revenue", "money", "Paid goals less refunds, and leads that were won"],
  ["cost", "Cost", "money", "What was spent on advertising"],
  ["cpl", "Cost/lead", "money", "Cost ÷ leads"],
  ["romi", "ROMI", "percent", "(revenue − cost) ÷ cost: what came back beyond the cost"],
];
// Goals have no visits of their own, and money is spent by the day.
const NOT_BY_GOAL = ["engaged_sessions", "new_clients"];
const NOT_BY_MINUTE = ["cost", "cpl", "romi"];
const ONLY_IN_TILES = ["refunded"];
const ONLY_IN_TABLE = ["engaged_sessions"];

function figuresShown() {
  return FIGURES.filter(([name]) => shown.period !== "hour" || !NOT_BY_MINUTE.includes(name));
}

function columnsShown() {
  return figuresShown().filter(
    ([name]) => !ONLY_IN_TILES.includes(name) && (shown.dimension !== "goal" || !NOT_BY_GOAL.includes(name)),
  );
}
const IN_CHARTS = [["sessions", "Sessions"], ["conversions", "Conversions"], ["value", "Value"]];

const shown = Object.assign(
  { view: "sources", period: "today", dimension: "channel", sort: "-sessions", currency: "", program: "", by: "code", rank: "earned" },
  Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
);
if (!Object.hasOwn(PERIODS, shown.period)) shown.period = "today";
if (!Object.hasOwn(DIMENSIONS, shown.dimension)) shown.dimension = "channel";
if (!Object.hasOwn(VIEWS, shown.view)) shown.view = "sources";
if (!Object.hasOwn(referrals.BY, shown.by)) shown.by = "code";
if (!referrals.sortable(shown.rank)) shown.rank = "earned";
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
  const tiles = figuresShown().filter(([name]) => !ONLY_IN_TABLE.includes(name)).map(([name, label, kind, meaning]) => [label, text(row, name, kind), meaning]);
  byId("tiles").className = "";
  byId("tiles").replaceChildren(...pairs(tiles));
}

function drawCurrencies(codes) {
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
  fillTable(byId("table"), {
    title: DIMENSIONS[shown.dimension],
    columns: columnsShown(),
    rows: rows.slice(0, ROWS),
    name: ({ keys: { campaign, ...keys } }) => {
      const rest = Object.values(keys).join(" / ");
      return campaign === undefined ? [rest] : [campaign, rest];
    },
    sorted: shown.sort.replace(/^-/, ""),
    descending: shown.sort.startsWith("-"),
    share: "sessions",
  });
  byId("note").textContent = !rows.length
    ? "Nothing was counted in this period yet."
    : rows.length > ROWS ? `The first ${ROWS}; the CSV file has all.` : "";
}

// --- what is asked for ------------------------------------------------------------------------------

// These give the tasks whose figures are missing, or null if something else has been asked for meanwhile.
async function refreshReferrals(isStale) {
  return referrals.draw(shown, status, ask, isStale, drawCurrencies);
}

async function refreshSources(isStale) {
  const period = PERIODS[shown.period];
  const chart = period.chart;
  const [all, over] = await Promise.all([
    ask(counters({ window: period.window, dimension: "all", ...since(period) })),
    ask(counters({ window: chart.window, dimension: "all", by: "window", ...since(chart) })),
  ]);
  if (isStale()) return null;
  drawCurrencies([...new Set([status.currency, ...all.rows.map((row) => row.currency)])].sort());
  const table = { window: period.window, dimension: shown.dimension, currency: shown.currency, sort: shown.sort, ...since(period) };
  const rows = await ask(counters({ ...table, limit: ROWS + 1 }));
  if (isStale()) return null;
  drawTiles(all.rows);
  drawCharts(over.rows, chart);
  drawTable(rows.rows);
  byId("csv").href = counters({ ...table, format: "csv" });
  return [...all.missing_partitions, ...over.missing_partitions, ...rows.missing_partitions];
}

async function refreshFigures() {
  const turn = ++turns;
  const refresh = shown.view === "referrals" ? refreshReferrals : refreshSources;
  const missing = await refresh(() => turn !== turns);
  if (missing === null) return null;
  byId("figures").hidden = false;
  byId("admission").hidden = true;
  const tasks = new Set(missing).size;
  return tasks ? `Figures are missing: ${tasks} task(s) do not answer now.` : "";
}

function tell(trouble) {
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
}

async function look() {
  try {
    if (status === null) await lookAtWorker();
    if (shown.view === "sources" && !status.counters) return tell("Counters are off (counters.enabled is false): there are no figures to show.");
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

// Only what there is can be looked at.
function fit() {
  if (!status) return;
  const { counters: sources, programs } = status;
  if (!programs.length) shown.view = "sources";
  else if (!sources) shown.view = "referrals";
  if (!programs.includes(shown.program)) shown.program = programs[0] ?? "";
}

async function lookAtWorker() {
  const before = status;
  status = { ...(await ask("status")), at_ms: performance.now() };
  shown.currency ||= status.currency;
  fit();
  if (!before) layOut();
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
  fit();
  history.replaceState(null, "", `#${new URLSearchParams(shown)}`);
  press();
  again();
}

// Which buttons are pressed, and what belongs to the view that is looked at.
function press() {
  for (const group of GROUPS) {
    for (const one of byId(group.id).querySelectorAll("button")) {
      one.setAttribute("aria-pressed", String(one.value === shown[group.sets]));
    }
  }
  for (const part of document.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== shown.view;
  byId("views").hidden = !(status?.counters && status.programs.length);
  if (token) byId("csv").hidden = true; // a link carries none
}

function layOut() {
  byId("programs").replaceChildren(element("legend", {}, "Programme"), ...status.programs.map((name) => button(name, name)));
  press();
}

const GROUPS = [
  { id: "views", sets: "view", labels: VIEWS },
  { id: "periods", sets: "period", labels: Object.fromEntries(Object.entries(PERIODS).map(([value, { label }]) => [value, label])) },
  { id: "dimensions", sets: "dimension", labels: DIMENSIONS },
  { id: "programs", sets: "program", labels: {} },
  { id: "bys", sets: "by", labels: referrals.BY },
];
for (const { id, sets, labels } of GROUPS) {
  byId(id).append(...Object.entries(labels).map(([value, label]) => button(value, label)));
  byId(id).addEventListener("click", ({ target }) => target.value && choose({ [sets]: target.value }));
}
byId("currency").addEventListener("change", ({ target }) => choose({ currency: target.value }));
byId("table").addEventListener("click", ({ target }) => {
  if (!target.value) return;
  if (shown.view === "referrals") choose({ rank: target.value });
  else choose({ sort: shown.sort === `-${target.value}` ? target.value : `-${target.value}` });
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
