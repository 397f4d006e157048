// Referral programmes, since they began: what `/referrals` answers.

import { byId, figure, fillTable, inMoney, pairs, text } from "./drawing.js";

const ROWS = 50;
export const BY = { code: "Code", advocate_kind: "Kind of advocate", level: "Level" };

// name, label, kind, what it means; names are those that `/referrals` sorts by.
const PEOPLE = [
  ["users", "Taking part", "count", "Enrolled and not left"],
  ["visits", "Visits", "count", "Visits through links, counted once the grace period is over"],
  ["invites", "Invitations", "count", "Invitations sent"],
  ["referred", "Referred", "count", "People newly bound to a referrer"],
  ["conversions", "Conversions", "count", "Conversions of referred people that qualified"],
  ["refused_fraud", "Refused", "count", "Conversions that a rule against fraud blocked"],
];
const RATES = [
  ["k_factor", "K-factor", "ratio", "Referred ÷ taking part: above 1 the programme grows by itself"],
  ["invite_conversion", "Invites convert", "percent", "Referred by somebody who invites ÷ invitations"],
  ["share_of_customers", "Share who refer", "percent", "Customers who referred somebody ÷ customers"],
];
const MONEY = [
  ["earned", "Earned", "money", "All rewards, whatever became of them: the sum of the other amounts"],
  ["pending", "Pending", "money", "Owed, while the holding period lasts"],
  ["on_hold", "On hold", "money", "Something looks wrong: waits for your approve or reject"],
  ["approved", "To be paid", "money", "Approved and not yet paid out"],
  ["paid", "Paid", "money", "Paid out"],
  ["refunded", "Refunded", "money", "Taken back with refunds before it was paid"],
  ["rejected", "Rejected", "money", "Blocked by a rule, or rejected"],
];
const NOT_BY = { code: ["users", "invites"], advocate_kind: ["invites"], level: ["users", "visits", "invites", "referred"] };
const COHORT = [
  ["customers", "Customers", "count", "People with a paid conversion"],
  ["repeat_30d", "Again in 30 days", "share", "Paid again within 30 days of the first time"],
  ["repeat_90d", "Again in 90 days", "share", "Paid again within 90 days of the first time"],
  ["repeat_365d", "Again in a year", "share", "Paid again within 365 days of the first time"],
  ["revenue", "Revenue", "money", "Paid conversions less refunds"],
  ["revenue_per_customer", "Revenue per customer", "money", "Revenue ÷ customers"],
];

const NAMES = {
  code: ({ code }) => code,
  advocate_kind: ({ advocate_kind: kind }) => kind.replaceAll("_", " "),
  level: ({ level }) => `Level ${level}`,
};

const columnsBy = (by) => [
  ...PEOPLE.filter(([name]) => !NOT_BY[by].includes(name)),
  ...(by === "advocate_kind" ? RATES.slice(0, 1) : []),
  ...MONEY,
];
export const sortable = (name) => [...PEOPLE, ...MONEY].some(([other]) => other === name);

const inCurrency = (row, currency) => row && { ...row, currency, sums: row.sums[currency] ?? {} };

// Draws the programme `shown.program`; gives the tasks that are missing, or null if something else is wanted meanwhile.
export async function draw(shown, status, ask, isStale, drawCurrencies) {
  const [all, by] = await Promise.all([
    ask(`referrals?${new URLSearchParams({ program: shown.program })}`),
    ask(`referrals?${new URLSearchParams({
      dimension: shown.by, program: shown.program, sort: shown.rank, currency: shown.currency, limit: ROWS + 1,
    })}`),
  ]);
  if (isStale()) return null;
  const [program] = all.rows;
  drawCurrencies([...new Set([status.currency, ...Object.keys(program?.sums ?? {})])].sort());
  const row = inCurrency(program, shown.currency);
  const amounts = MONEY.map(([name, label, , meaning]) => [
    label, inMoney(figure(row, name) ?? 0, shown.currency), meaning,
  ]);
  byId("tiles").className = "dense";
  byId("tiles").replaceChildren(
    ...pairs([...[...PEOPLE, ...RATES].map(([name, label, kind, meaning]) => [label, text(row, name, kind), meaning]), ...amounts]),
  );
  drawCohorts(program?.cohorts[shown.currency], shown.currency);
  fillTable(byId("table"), {
    title: BY[shown.by],
    columns: columnsBy(shown.by),
    rows: by.rows.slice(0, ROWS).map((one) => inCurrency(one, shown.currency)),
    name: ({ keys }) => [NAMES[shown.by](keys)],
    sortable,
    sorted: shown.rank,
    descending: true,
    share: columnsBy(shown.by)[0][0],
  });
  byId("note").textContent = !by.rows.length
    ? "Nobody has taken part in this programme yet."
    : by.rows.length > ROWS ? `The first ${ROWS}.` : "";
  return [...all.missing_partitions, ...by.missing_partitions];
}

function drawCohorts(cohorts, currency) {
  const body = byId("cohorts");
  body.hidden = !cohorts;
  if (!cohorts) return;
  const shares = (cohort) => (name) =>
    name.startsWith("repeat") ? (cohort.customers ? cohort[name] / cohort.customers : null) : cohort[name];
  const rows = Object.entries({ "Referred customers": cohorts.referred, "All others": cohorts.other }).map(([who, cohort]) => ({
    who, currency, counts: Object.fromEntries(COHORT.map(([name]) => [name, shares(cohort)(name)])), sums: {}, rates: {},
  }));
  fillTable(body.querySelector("table"), {
    title: "Since the programme began",
    columns: COHORT.map(([name, label, kind, meaning]) => [name, label, kind === "share" ? "percent" : kind, meaning]),
    rows,
    name: ({ who }) => [who],
    sortable: () => false,
    share: "customers",
  });
}
