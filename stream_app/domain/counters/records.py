"""A counter as the topic `lead-counters` shows it: figures, and the rates that follow from them (semantics 37, 39)."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from hashlib import blake2b
from operator import itemgetter
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stream_app.domain import money
from stream_app.domain.counters.dimensions import GOALS, fields_of
from stream_app.domain.counters.figures import (
    AD_CLICKS,
    AMOUNTS,
    ANSWERS,
    CLIENTS,
    CONVERSIONS,
    COST,
    COUNTS,
    DETRACTORS,
    IMPRESSIONS,
    JOINS,
    LEADS,
    LEAVES,
    PROFIT,
    PROMOTERS,
    REFUNDED,
    REVENUE,
    SESSIONS,
    SUSPICIOUS,
    TIME_TO_CLOSE_S,
    TIME_TO_CONTACT_S,
    VALUE,
    WON_COHORT,
    Figures,
)
from stream_app.domain.counters.windows import DAY, NAMES, TOTAL
from stream_app.domain.records import Money, RecordId, Revision, Timestamp
from stream_app.domain.times import MINUTE_MS, rfc3339

COUNTERS: Final = "lead-counters"
SHOWN_COUNTS: Final = (
    "page_views",
    "sessions",
    "engaged_sessions",
    "clients",
    "new_clients",
    "bots",
    "conversions",
    "assisted_conversions",
    "refunds",
    "leads",
    "contacted",
    "mql",
    "sql",
    "proposals",
    "won",
    "won_cohort",
    "refused",
    "reopened",
    "undetermined",
    "joins",
    "leaves",
    "suspicious",
)
"""Counts as they are shown; the others are sums, the funnel, or stand behind the NPS."""
FUNNEL: Final = {
    "acquisition": "acquisition",
    "activation": "activation",
    "retention": "retention",
    "referral": "referral",
    "revenue": "revenue_clients",
}

Ratio = Annotated[str | None, Meta(description="Decimal string with at most 6 decimals; null: no denominator.")]
Price = Annotated[Money | None, Meta(description="Null: no denominator, or no window of costs.")]


class Sums(msgspec.Struct, frozen=True, gc=False):
    """Amounts in the record's currency, and what is added up with them."""

    value: Annotated[Money, Meta(description="Gross value of conversions.")]
    refunded: Money
    revenue: Annotated[Money, Meta(description="Of won leads, and of paid conversions with no lead, less refunds.")]
    profit: Money
    cost: Annotated[Money, Meta(description="In `1d` and `total` only.")]
    ad_clicks: int
    impressions: int
    time_to_contact_s: int
    time_to_close_s: int


class Rates(msgspec.Struct, frozen=True, gc=False):
    """What follows from counts and sums."""

    cpc: Annotated[Price, Meta(description="cost / ad_clicks")]
    cpl: Annotated[Price, Meta(description="cost / leads")]
    cpa: Annotated[Price, Meta(description="cost / conversions")]
    cr: Annotated[Ratio, Meta(description="conversions / sessions")]
    lead_cr: Annotated[Ratio, Meta(description="leads / sessions")]
    click_cr: Annotated[Ratio, Meta(description="leads / ad_clicks")]
    lead_to_won: Annotated[Ratio, Meta(description="won_cohort / leads")]
    drr: Annotated[Ratio, Meta(description="cost / revenue")]
    roas: Annotated[Ratio, Meta(description="(value − refunded) / cost")]
    romi: Annotated[Ratio, Meta(description="(revenue − cost) / cost")]
    roi: Annotated[Ratio, Meta(description="(profit − cost) / cost")]
    arpu: Annotated[Price, Meta(description="revenue / clients")]
    growth: Annotated[Ratio, Meta(description="joins / leaves")]
    suspicious_share: Annotated[Ratio, Meta(description="suspicious / joins")]


class Funnel(msgspec.Struct, frozen=True, gc=False):
    """Distinct clients by stage."""

    acquisition: Annotated[int, Meta(description="New clients.")]
    activation: Annotated[int, Meta(description="Reached a goal of kind `activation`.")]
    retention: Annotated[int, Meta(description="Came back: a session that is not their first.")]
    referral: Annotated[int, Meta(description="Came by a referral programme's link or invitation.")]
    revenue: Annotated[int, Meta(description="Reached a paid goal.")]


class PlanFigure(msgspec.Struct, frozen=True, gc=False):
    """A planned figure of a month."""

    plan: str
    actual: str
    completion: Ratio


class LeadCounter(msgspec.Struct, frozen=True, gc=False):
    """Live figures of one window and key. Topic `lead-counters`, compacted, key `id`; a tombstone ends it."""

    id: RecordId
    revision: Revision
    retracted: Annotated[Literal[False], Meta(description="Counters are ended by tombstones.")]
    truncated: Literal[False]
    rules_version: Annotated[str, Meta(description="Names the rules that shaped this record.")]
    window: Literal["1m", "1h", "1d", "total"]
    window_start: Annotated[Timestamp | None, Meta(description="Hours and days of the property's zone; null: total.")]
    dimension: Annotated[str, Meta(description="all, channel, source_medium, campaign, platform, goal, …")]
    keys: Annotated[dict[str, str], Meta(description="Values of the dimension; `(other)`: found no place.")]
    currency: str
    counts: Annotated[dict[str, int], Meta(description="In the record of the base currency; empty in others.")]
    sums: Sums
    rates: Rates
    plan: Annotated[
        dict[str, dict[str, PlanFigure]] | None,
        Meta(description="In `total`, where plans are set: by month and figure."),
    ]
    funnel: Annotated[Funnel | None, Meta(description="In `1d` and `total` of the base currency.")]
    nps: Annotated[str | None, Meta(description="% of scores 9–10 less % of 0–6; latest score of each client.")]


_INDEX: Final = {name: index for index, name in enumerate(COUNTS)}
_shown: Final = itemgetter(*(_INDEX[name] for name in SHOWN_COUNTS))
_stages: Final = itemgetter(*(_INDEX[name] for name in FUNNEL.values()))
_NO_COUNTS: Final = [0] * len(COUNTS)
_COUNTS_TEMPLATE: Final = "{" + ",".join(f'"{name}":%d' for name in SHOWN_COUNTS) + "}"
_FUNNEL_TEMPLATE: Final = "{" + ",".join(f'"{name}":%d' for name in FUNNEL) + "}"
_SUMS_TEMPLATE: Final = (
    "{"
    + ",".join(f'"{name}":"%s"' for name in AMOUNTS)
    + ',"ad_clicks":%d,"impressions":%d,"time_to_contact_s":%d,"time_to_close_s":%d}'
)
_RATES: Final = tuple(Rates.__struct_fields__)
_RATES_TEMPLATE: Final = "{" + ",".join(f'"{name}":%s' for name in _RATES) + "}"
(
    _CPC,
    _CPL,
    _CPA,
    _CR,
    _LEAD_CR,
    _CLICK_CR,
    _LEAD_TO_WON,
    _DRR,
    _ROAS,
    _ROMI,
    _ROI,
    _ARPU,
    _GROWTH,
    _SUSPICIOUS_SHARE,
) = range(len(_RATES))
_NULLS: Final = ["null"] * len(_RATES)
_DIVIDE: Final = Context(prec=60)
_MAX_SHORT: Final = 10_000
"""Of about a kilobyte each."""
_RATIO_UNIT: Final = Decimal("0.000001")
_ZERO: Final = Decimal(0)
_quote = msgspec.json.Encoder().encode


def counter_id(key: bytes, kind: int, start: int, currency: str, goal: str) -> str:
    """Derived from the counter's key, window, currency, and from the goal of a counter by goal."""
    text = b"%b%d:%d:%b:%b" % (key, kind, start, currency.encode(), goal.encode("utf-8", "surrogatepass"))
    return blake2b(text, digest_size=8).hexdigest()


def keys_json(dimension: str, keys: tuple[str, ...]) -> str:
    """The field `keys`, encoded."""
    return _quote(dict(zip(fields_of(dimension), keys, strict=True))).decode()


class Renderer:
    """Makes the records of one site."""

    def __init__(self, base_currency: str, rules_version: str) -> None:
        self._base = base_currency
        self._version = _quote(rules_version).decode()
        self._nothing: dict[str, str] = {}
        self._no_sums: dict[str, str] = {}
        self._short: dict[tuple[str | int, ...], tuple[str, str]] = {}

    def record(
        self,
        record_id: str,
        revision: int,
        kind: int,
        start: int,
        dimension: str,
        keys: str,
        currency: str,
        figures: Figures,
        plan: bytes = b"null",
    ) -> bytes:
        """The record's bytes, as msgspec would encode a `LeadCounter`. `keys` and `plan` are encoded already. By hand,
        since counters write more records than anything else."""
        if kind < DAY:
            shown, rest = self._short_window(figures.counts, currency)
        else:
            shown, rest = self._by_counts(figures.counts, currency, plan, figures)
        return (
            f'{{"id":"{record_id}","revision":{revision},"retracted":false,"truncated":false,'
            f'"rules_version":{self._version},"window":"{NAMES[kind]}",'
            f'"window_start":{"null" if kind == TOTAL else _time(start)},'
            f'"dimension":"{dimension}","keys":{keys},"currency":"{currency}",'
            f'"counts":{shown},'
            f'"sums":{self._sums(currency, figures)},'
            f"{rest}"
        ).encode("utf-8", "surrogatepass")

    def _short_window(self, counts: list[int], currency: str) -> tuple[str, str]:
        """As `_by_counts`, remembered: short windows show nothing but their sums that does not follow from the counts,
        are the most, and much alike."""
        alike: tuple[str | int, ...] = (currency, *counts)
        found = self._short.get(alike)
        if found is None:
            if len(self._short) >= _MAX_SHORT:
                self._short.clear()
            found = self._short[alike] = self._by_counts(counts, currency, b"null", None)
        return found

    def _by_counts(self, counts: list[int], currency: str, plan: bytes, long: Figures | None) -> tuple[str, str]:
        """The field `counts`, and all that follows the sums. `long`: the figures of a day or of `total`."""
        base = currency == self._base
        if len(counts) < len(COUNTS):
            counts = counts + _NO_COUNTS[len(counts) :]
        return (
            _COUNTS_TEMPLATE % _shown(counts) if base else "{}",
            f'"rates":{_rates(counts, currency, base=base, long=long)},'
            f'"plan":{plan.decode()},'
            f'"funnel":{_FUNNEL_TEMPLATE % _stages(counts) if base and long is not None else "null"},'
            f'"nps":{_nps(counts)}}}',
        )

    def _sums(self, currency: str, figures: Figures) -> str:
        amounts = figures.amounts
        nothing = self._nothing.get(currency)
        if nothing is None:
            nothing = self._nothing[currency] = money.shown(_ZERO, currency)
            self._no_sums[currency] = _SUMS_TEMPLATE % (*[nothing] * len(AMOUNTS), 0, 0, 0, 0)
        if not amounts and not any(figures.counts[AD_CLICKS:ANSWERS]):
            return self._no_sums[currency]
        return _SUMS_TEMPLATE % (
            *[money.shown(amounts[index], currency) if index in amounts else nothing for index in range(len(AMOUNTS))],
            figures.count(AD_CLICKS),
            figures.count(IMPRESSIONS),
            figures.count(TIME_TO_CONTACT_S),
            figures.count(TIME_TO_CLOSE_S),
        )


def with_all(own: Figures, everything: Figures | None) -> Figures:
    """The figures of a goal with the sessions and cost of `all` (semantics 39)."""
    counts = own.counts + [0] * (len(COUNTS) - len(own.counts))
    amounts = dict(own.amounts)
    if everything is not None:
        for index in (SESSIONS, AD_CLICKS, IMPRESSIONS):
            counts[index] = everything.count(index)
        if COST in everything.amounts:
            amounts[COST] = everything.amounts[COST]
    return Figures(counts, amounts)


def ratio(numerator: Decimal | int, denominator: Decimal | int) -> str | None:
    """Half-up at six decimals, without trailing zeros; None without a denominator."""
    if not denominator:
        return None
    share = _DIVIDE.divide(Decimal(numerator), Decimal(denominator)).quantize(_RATIO_UNIT, ROUND_HALF_UP, _DIVIDE)
    text = f"{share:f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def price(numerator: Decimal, denominator: int, currency: str) -> str | None:
    """Half-up at the currency's minor unit; None without a denominator."""
    if not denominator:
        return None
    return money.shown(_DIVIDE.divide(numerator, Decimal(denominator)) if numerator else numerator, currency)


def _rates(counts: list[int], currency: str, *, base: bool, long: Figures | None) -> str:
    found = _NULLS.copy()
    if base:
        sessions, leads, joins = counts[SESSIONS], counts[LEADS], counts[JOINS]
        if sessions:
            found[_CR] = _ratio_of_counts(counts[CONVERSIONS], sessions)
            found[_LEAD_CR] = _ratio_of_counts(leads, sessions)
        if leads:
            found[_LEAD_TO_WON] = _ratio_of_counts(counts[WON_COHORT], leads)
        if counts[LEAVES]:
            found[_GROWTH] = _ratio_of_counts(joins, counts[LEAVES])
        if joins:
            found[_SUSPICIOUS_SHARE] = _ratio_of_counts(counts[SUSPICIOUS], joins)
    if long is not None:
        _rates_of_money(found, long, counts, currency, base=base)
    return _RATES_TEMPLATE % tuple(found)


def _rates_of_money(found: list[str], figures: Figures, counts: list[int], currency: str, *, base: bool) -> None:
    amounts = figures.amounts
    cost, revenue, clicks = amounts.get(COST, _ZERO), amounts.get(REVENUE, _ZERO), counts[AD_CLICKS]
    if clicks:
        found[_CPC] = _quoted(price(cost, clicks, currency))
    if base:
        found[_CPL] = _quoted(price(cost, counts[LEADS], currency))
        found[_CPA] = _quoted(price(cost, counts[CONVERSIONS], currency))
        found[_CLICK_CR] = _quoted(ratio(counts[LEADS], clicks))
        found[_ARPU] = _quoted(price(revenue, counts[CLIENTS], currency))
    if revenue:
        found[_DRR] = _quoted(ratio(cost, revenue))
    if cost:
        net = money.add(amounts.get(VALUE, _ZERO), -amounts.get(REFUNDED, _ZERO))
        found[_ROAS] = _quoted(ratio(net, cost))
        found[_ROMI] = _quoted(ratio(money.add(revenue, -cost), cost))
        found[_ROI] = _quoted(ratio(money.add(amounts.get(PROFIT, _ZERO), -cost), cost))


def _quoted(rate: str | None) -> str:
    return "null" if rate is None else f'"{rate}"'


_ratios: dict[tuple[int, int], str] = {}
_MAX_RATIOS = 50_000


def _ratio_of_counts(numerator: int, denominator: int) -> str:
    """As `ratio`, encoded and remembered: counts are small and come again."""
    if not numerator:
        return '"0"'
    key = numerator, denominator
    found = _ratios.get(key)
    if found is None:
        if len(_ratios) >= _MAX_RATIOS:
            _ratios.clear()
        found = _ratios[key] = _quoted(ratio(numerator, denominator))
    return found


def _nps(counts: list[int]) -> str:
    answers = counts[ANSWERS]
    if not answers:
        return "null"
    score = _DIVIDE.divide(Decimal(100 * (counts[PROMOTERS] - counts[DETRACTORS])), Decimal(answers))
    text = f"{score.quantize(Decimal('0.01'), ROUND_HALF_UP, _DIVIDE):f}".rstrip("0").rstrip(".")
    return f'"{"0" if text == "-0" else text}"'


_times: dict[int, str] = {}


def _time(minute: int) -> str:
    found = _times.get(minute)
    if found is None:
        if len(_times) >= _MAX_RATIOS:
            _times.clear()
        found = _times[minute] = f'"{rfc3339(minute * MINUTE_MS)}"'
    return found


__all__ = ["COUNTERS", "GOALS", "LeadCounter", "Renderer", "counter_id", "keys_json", "price", "ratio", "with_all"]
