"""Bytes of clicks and conversions → compact events with their sources resolved."""

from __future__ import annotations

from collections.abc import Callable

from stream_app.domain.bots import BotDetector
from stream_app.domain.contacts import ContactHasher
from stream_app.domain.errors import Refused
from stream_app.domain.events import Click, Conversion, moment, money_of, read_click, read_conversion
from stream_app.domain.hits import BOT, CONVERSION, KIND_OF_CLICK, REFUND, SPAM, Hit, Sale
from stream_app.domain.ids import order_key
from stream_app.domain.referral.links import NO_CODE, LinkReader
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.times import DAY_MS, LATEST_MS, MINUTE_MS, to_ms
from stream_app.engine.processor import Decoder, Rejected

CLOCK_SKEW_MS = 5 * MINUTE_MS
MAX_USER_AGENTS = 20_000
"""Verdicts on user agents that the click decoder keeps at hand."""


def direct_source(resolver: SourceResolver) -> Source:
    """What a visit without any source is called; custom rules may give it a channel of their own."""
    return resolver.resolve("", "").source or DIRECT


_UNITS = (("seconds", 1_000, 1), ("microseconds", 1, 1_000), ("nanoseconds", 1, 1_000_000))
"""What trackers send in place of milliseconds, and how much that is."""
_UNIT_WITHIN_MS = 366 * DAY_MS


def _untimely(at: int, ts: int, limit_ms: int, limit: str) -> Rejected:
    """Why a record's time is refused: a property of the record alone (semantics 2)."""
    age = ts - at
    if age > limit_ms or age < -CLOCK_SKEW_MS:
        for unit, up, down in _UNITS:
            if abs(ts - at * up // down) < _UNIT_WITHIN_MS < abs(age):
                hint = f"; in {unit}? milliseconds are expected"
                break
        else:
            hint = ""
        if age > limit_ms:
            minutes = age // MINUTE_MS
            return Rejected("too_late", f"occurred_at: {minutes} min before it arrived, more than {limit}{hint}")
        return Rejected("clock_skew", f"occurred_at: more than 5 min after it arrived{hint}")
    return Rejected("bad_field", "occurred_at: expected a time between 1970 and 9999")


class _Verdicts(dict[str, bool]):
    """Which user agents are programs': a plain dict where the verdict is known."""

    def __init__(self, bots: BotDetector) -> None:
        super().__init__()
        self._is_bot = bots.is_bot

    def __missing__(self, user_agent: str) -> bool:
        if len(self) >= MAX_USER_AGENTS:
            self.clear()
        bot = self[user_agent] = self._is_bot(user_agent)
        return bot


def click_decoder(
    rules: JourneyRules,
    resolver: SourceResolver,
    bots: BotDetector,
    links: LinkReader | None = None,
    hasher: ContactHasher | None = None,
) -> Decoder[Hit]:
    """A click's bytes → its compact event with the source resolved. A closure, as every click passes here."""
    grace_ms = rules.sessions.grace_ms
    resolve = resolver.resolve
    direct = direct_source(resolver)
    is_bot = _Verdicts(bots)
    captured = _capturing(links, hasher)

    def decode(key: bytes | None, value: bytes | None, ts: int) -> Hit:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            click = read_click(value)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None
        client = click.client_id
        if key is not None:
            if key != client.encode():
                raise Rejected("key_mismatch", "client_id: the record's key is another")
            client = ""
        at = click.occurred_at
        if at.__class__ is not int:
            at = to_ms(at)  # type: ignore[arg-type]
        age = ts - at
        if not -CLOCK_SKEW_MS <= age <= grace_ms or not 0 <= at <= LATEST_MS:
            raise _untimely(at, ts, grace_ms, "grace")
        user_agent = click.user_agent
        if user_agent and is_bot[user_agent]:
            return Hit(at, click.event_id, BOT, client=client)
        url = click.url
        arrival = resolve(url, click.referrer or "")
        source = arrival.source
        kind = arrival.kind
        referral = ""
        if kind in {"none", "referral"}:
            referral = arrival.referrer_host
        elif kind == "spam":
            return Hit(at, click.event_id, SPAM, client=client)
        elif source is direct:
            source = None
        code = captured(click, source)
        if "?" in url or "#" in url:
            url = url.partition("?")[0].partition("#")[0]
        user = click.user_id or ""
        return Hit(at, click.event_id, KIND_OF_CLICK[click.kind], source, referral, user, url, None, client, code)

    return decode


def _capturing(links: LinkReader | None, hasher: ContactHasher | None) -> Callable[[Click, Source | None], str]:
    """How a visit's referral code is found, with what else people need to know of the visit. A click without one says
    its ip's hash alone."""
    if hasher is None:
        return lambda _click, _source: ""
    find = links.captured if links else lambda _url, _referrer, _click_id: ""

    def captured(click: Click, source: Source | None) -> str:
        code = find(click.url, click.referrer or "", source.click_id_type if source is not None else "")
        ip = hasher.ip(click.ip).hex() if click.ip else ""
        return f"{code or NO_CODE}{ip}" if ip else code

    return captured


class ConversionDecoder:
    """A conversion's or refund's bytes → its compact event."""

    def __init__(
        self, rules: JourneyRules, resolver: SourceResolver, bots: BotDetector, hasher: ContactHasher | None = None
    ) -> None:
        self._hasher = hasher
        self._grace_ms = rules.sessions.grace_ms
        self._life_ms = rules.client_life_ms
        self._currency = rules.currency
        self._goals = {goal.name: goal for goal in rules.goals}
        self._resolver = resolver
        self._is_bot = bots.is_bot

    def __call__(self, key: bytes | None, value: bytes | None, ts: int) -> Hit:
        """Raises Rejected, and nothing else, whatever the bytes."""
        try:
            return self._hit(key, read_conversion(value), ts)
        except Refused as refused:
            raise Rejected(refused.reason, refused.detail) from None

    def _hit(self, key: bytes | None, conversion: Conversion, ts: int) -> Hit:
        client_id = conversion.client_id
        if key is not None and key != client_id.encode():
            raise Rejected("key_mismatch", "client_id: the record's key is another")
        at = moment(conversion.occurred_at)
        age = ts - at
        if not -CLOCK_SKEW_MS <= age <= self._life_ms or not 0 <= at <= LATEST_MS:
            raise _untimely(at, ts, self._life_ms, "the life of a client's state")
        value = money_of(conversion.value, conversion.currency, self._currency, "value")
        profit = money_of(conversion.profit, conversion.currency, self._currency, "profit", signed=True)
        amount = value if value is not None else profit
        goal = self._goals.get(conversion.goal)
        source = self._offline_source(conversion)
        called = conversion.called_number or conversion.called_email
        lead_id = conversion.lead_id or ""
        if goal is not None and goal.kind == "lead" and not lead_id:
            lead_id = conversion.event_id
        sale = Sale(
            goal=conversion.goal,
            value=value.amount if value is not None else None,
            currency=amount.currency if amount is not None else "",
            order_id=conversion.order_id or "",
            order=order_key(conversion.goal, conversion.order_id) if conversion.order_id else 0,
            lead_id=lead_id,
            offline=source is not None or bool(called) or (goal is not None and goal.offline),
            late=age > self._grace_ms,
            bot=bool(conversion.user_agent) and self._is_bot(conversion.user_agent or ""),
            profit=profit.amount if profit is not None else None,
            segment=tuple(sorted(conversion.segment.items())) if conversion.segment else (),
            score=conversion.score,
            suspicious=bool(conversion.suspicious),
            promo_code=conversion.promo_code or "",
            invite_code=conversion.invite_code or "",
            contact=self._contact(conversion),
        )
        return Hit(
            at,
            conversion.event_id,
            REFUND if conversion.kind == "refund" else CONVERSION,
            source,
            "",
            conversion.user_id or "",
            "",
            sale,
            client_id if key is None else "",
        )

    def _contact(self, conversion: Conversion) -> tuple[bytes, ...]:
        """Contacts leave this place as keyed hashes only."""
        if self._hasher is None:
            return ()
        return self._hasher.contact(conversion.email, conversion.phone, conversion.name, conversion.ip).packed()

    def _offline_source(self, conversion: Conversion) -> Source | None:
        """The touchpoint that an offline conversion is itself: named by its fields, else by what was called."""
        source, medium, campaign = conversion.source or "", conversion.medium or "", conversion.campaign or ""
        if source or medium or campaign:
            return self._resolver.of_fields(source, medium, campaign)
        if conversion.called_number or conversion.called_email:
            return self._resolver.of_call(conversion.called_number or "", conversion.called_email or "")
        return None
