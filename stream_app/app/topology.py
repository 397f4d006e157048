"""Which processors run over which topics, from the settings."""

from __future__ import annotations

import logging
from decimal import Decimal
from hashlib import blake2b
from typing import cast

import msgspec

from stream_app import reference
from stream_app.domain.bots import BotDetector
from stream_app.domain.contacts import ContactHasher
from stream_app.domain.costs import CostRules
from stream_app.domain.counters.facts import Facts
from stream_app.domain.counters.rules import CountedGoal, CounterRules, Plan
from stream_app.domain.counters.windows import Windows
from stream_app.domain.referral.counting import DELTA as REFERRAL_DELTA
from stream_app.domain.referral.links import LinkReader
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources import SourceResolver, SourceRules
from stream_app.domain.times import MINUTE_MS
from stream_app.engine.processor import AnyProcessor
from stream_app.engine.topology import Topology
from stream_app.processors.codes import CodesProcessor
from stream_app.processors.costs import CostsProcessor
from stream_app.processors.counters.combining import OVERFLOW, Combiner, combine_overflow
from stream_app.processors.counters.contributing import DELTA, JourneyCounter, LeadCounter, SpendCounter
from stream_app.processors.counters.processor import CountersProcessor
from stream_app.processors.journeys import JourneysProcessor
from stream_app.processors.journeys.promos import PromoCodes
from stream_app.processors.lead_facts import LeadTeller
from stream_app.processors.lead_referrals import LeadReferrals
from stream_app.processors.leads import LeadsProcessor
from stream_app.processors.orders import OrdersProcessor
from stream_app.processors.people import PeopleProcessor
from stream_app.processors.people.leaps import WAITING
from stream_app.processors.people.leaps import combine as combine_waiting
from stream_app.processors.persons import PersonsProcessor
from stream_app.processors.pseudonyms import random_names
from stream_app.processors.referral_counters import ReferralCountersProcessor, RewardsCounter
from stream_app.processors.referral_counters import combine as combine_referrals
from stream_app.processors.referral_facts import ReferralTeller
from stream_app.settings import Settings
from stream_app.settings import model as settings_model
from stream_app.settings.programs import paid_goals, programs_of
from stream_app.topics import CHANGELOG, DEAD_LETTERS, LOGICAL, REPARTITION, Catalogue

_log = logging.getLogger(__name__)


def build_topology(settings: Settings, *, partitions: int | None = None) -> Topology:
    """Every processor of this release over its topics. `partitions` overrides the setting (replay uses one). Warns
    of contacts under a key that everybody knows."""
    if settings.programs and not settings.privacy.has_key:
        _log.warning(
            "privacy.hash_key is not set: contacts are hashed under a key that everybody knows. Set a secret "
            "of your own before real contacts come (STREAM_APP_PRIVACY__HASH_KEY)"
        )
    catalogue = Catalogue.of(settings)
    count = partitions or settings.kafka.partitions
    processors = [
        cast("AnyProcessor", journeys(settings, partitions=count)),
        cast("AnyProcessor", PersonsProcessor(journey_rules(settings).client_life_ms)),
        cast("AnyProcessor", OrdersProcessor(journey_rules(settings).client_life_ms)),
        cast("AnyProcessor", leads(settings)),
        cast("AnyProcessor", costs(settings)),
        cast("AnyProcessor", codes(settings)),
        cast("AnyProcessor", people(settings, partitions=count)),
        cast("AnyProcessor", referral_counters(settings, partitions=count)),
    ]
    if settings.counters.enabled:
        processors.append(cast("AnyProcessor", counters(settings, partitions=count)))
    return Topology(
        processors=processors,
        topics={logical: catalogue.name(logical) for logical in LOGICAL},
        repartition=catalogue.name(REPARTITION),
        changelog=catalogue.name(CHANGELOG),
        dead_letters=catalogue.name(DEAD_LETTERS),
        partitions=count,
        state_version=settings.engine.state_version,
        combiners={
            DELTA: Combiner(settings.counters.dimensions),
            OVERFLOW: combine_overflow,
            REFERRAL_DELTA: combine_referrals,
            WAITING: combine_waiting,
        },
    )


def journeys(settings: Settings, *, partitions: int = 1) -> JourneysProcessor:
    """The journeys processor under these settings."""
    tables = reference.load()
    rules, sources = journey_rules(settings), source_rules(settings)
    resolver = SourceResolver(sources, tables)
    return JourneysProcessor(
        rules,
        resolver,
        BotDetector(tables.ai_crawlers),
        rules_version=rules_version(rules, sources, tables, *_program_dates(settings)),
        tellers=[
            LeadTeller(lead_referrals(settings).grounds),
            *([referral_teller(settings)] if settings.programs else []),
        ],
        counter=journey_counter(settings),
        links=links(settings),
        hasher=hasher(settings) if settings.programs else None,
        promos=promos(settings, resolver),
        pseudonyms=random_names(partitions),
    )


def promos(settings: Settings, resolver: SourceResolver) -> PromoCodes | None:
    """What makes conversions with a programme's code arrivals; None: nothing does."""
    source = resolver.of_programme() if settings.programs else None
    return PromoCodes(programs_of(settings), source) if source is not None else None


def _program_dates(settings: Settings) -> list[tuple[str, int, int]]:
    """What else of programmes shapes journeys: when they run."""
    programs = programs_of(settings).by_name.values()
    return [(program.name, program.starts, program.ends) for program in programs]


def journey_counter(settings: Settings) -> JourneyCounter | None:
    """What counts journeys; None: counters are off."""
    if not settings.counters.enabled:
        return None
    rules = counter_rules(settings)
    return JourneyCounter(Facts(rules), Windows(rules.timezone), settings.sessions.grace_minutes * MINUTE_MS)


def counters(settings: Settings, *, partitions: int) -> CountersProcessor:
    """The counters processor under these settings."""
    rules = counter_rules(settings)
    return CountersProcessor(rules, Windows(rules.timezone), rules_version=rules_version(rules), partitions=partitions)


def counter_rules(settings: Settings) -> CounterRules:
    """What the settings say about counters. Leads, purchases and sign-ups are counted, purchases are paid, unless a
    goal says otherwise (semantics 39)."""
    return CounterRules(
        goals=tuple(
            CountedGoal(
                goal.name,
                goal.kind,
                counted=goal.counted if goal.counted is not None else goal.kind in {"lead", "purchase", "signup"},
                paid=goal.paid if goal.paid is not None else goal.kind == "purchase",
            )
            for goal in settings.goals
        ),
        base_currency=settings.base_currency,
        rates=settings.costs.rates,
        timezone=settings.site.timezone,
        dimensions=settings.counters.dimensions,
        values=settings.counters.values,
        plans=tuple(
            Plan(plan.month, plan.campaign, plan.source, plan.medium, plan.figures) for plan in settings.counters.plans
        ),
    )


def leads(settings: Settings) -> LeadsProcessor:
    """The leads processor under these settings."""
    tables = reference.load()
    rules, sources = journey_rules(settings), source_rules(settings)
    return LeadsProcessor(
        SourceResolver(sources, tables),
        currency=rules.currency,
        grace_ms=rules.sessions.grace_ms,
        rules_version=rules_version(rules, sources, tables),
        counter=LeadCounter(Facts(counter_rules(settings))) if settings.counters.enabled else None,
        referrals=lead_referrals(settings),
    )


def referral_teller(settings: Settings) -> ReferralTeller:
    """What journeys tells people of referral programmes."""
    return ReferralTeller(programs_of(settings), paid_goals(settings))


def lead_referrals(settings: Settings) -> LeadReferrals:
    """What leads tell people of referral programmes."""
    return LeadReferrals(programs_of(settings), referral_teller(settings))


def codes(settings: Settings) -> CodesProcessor:
    """The codes processor under these settings."""
    return CodesProcessor(grace_ms=journey_rules(settings).sessions.grace_ms)


def people(settings: Settings, *, partitions: int = 1) -> PeopleProcessor:
    """The people processor under these settings."""
    programs = programs_of(settings)
    return PeopleProcessor(
        programs,
        hasher(settings),
        grace_ms=journey_rules(settings).sessions.grace_ms,
        currency=settings.site.currency,
        rules_version=rules_version(tuple(programs.by_name.values()), programs.exchange),
        counter=RewardsCounter(),
        pseudonyms=random_names(partitions),
        partitions=partitions,
    )


def referral_counters(settings: Settings, *, partitions: int) -> ReferralCountersProcessor:
    """The processor of referral programmes' figures."""
    currency = settings.base_currency
    return ReferralCountersProcessor(
        Windows(settings.site.timezone),
        base_currency=currency,
        rules_version=rules_version(currency),
        values=settings.counters.values,
        partitions=partitions,
    )


def hasher(settings: Settings) -> ContactHasher:
    """Turns contacts into keyed hashes."""
    return ContactHasher(settings.privacy.read_key(), settings.privacy.phone_region)


def links(settings: Settings) -> LinkReader:
    """Finds codes in links."""
    programs = settings.programs
    return LinkReader(
        {name for program in programs for name in program.link_parameters},
        {prefix for program in programs for prefix in program.path_prefixes},
        {host for program in programs for host in program.fraud.coupon_sites},
    )


def costs(settings: Settings) -> CostsProcessor:
    """The costs processor under these settings."""
    section = settings.costs
    rules = CostRules(settings.base_currency, section.rates, section.multipliers)
    counter = None
    if settings.counters.enabled:
        counted = counter_rules(settings)
        counter = SpendCounter(Facts(counted), Windows(counted.timezone))
    return CostsProcessor(rules, SourceResolver(source_rules(settings), reference.load()), counter)


def rules_version(*rules: object) -> str:
    """A short name of everything that shapes an output: equal versions mean that equal events give equal records."""
    digest = blake2b(digest_size=6)
    for part in rules:
        digest.update(msgspec.json.encode(part, order="sorted", enc_hook=_plain))
    return digest.hexdigest()


def _plain(value: object) -> object:
    """Sets and the like have no order of their own."""
    if isinstance(value, frozenset | set):
        return sorted(value, key=repr)
    return repr(value)


def source_rules(settings: Settings) -> SourceRules:
    """What the settings say about sources."""
    numbers = {**settings.phone_numbers, **settings.email_addresses}
    return msgspec.convert(
        {
            "own_domains": settings.site.own_domains,
            "profile": settings.sources.profile,
            "auto_tag_wins": settings.sources.auto_tag_wins,
            "excluded_referrers": settings.sources.excluded_referrers,
            "rules": [_without_none(msgspec.to_builtins(rule)) for rule in settings.sources.rules],
            "phone_numbers": {
                number: {k: v for k, v in msgspec.structs.asdict(source).items() if v}
                for number, source in numbers.items()
            },
            "referral_parameters": sorted({p for program in settings.programs for p in program.link_parameters}),
            "referral_prefixes": sorted({p for program in settings.programs for p in program.path_prefixes}),
        },
        SourceRules,
    )


def _without_none(value: object) -> object:
    """Optional keys that were not given are left out."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value


def journey_rules(settings: Settings) -> JourneyRules:
    """What the settings say about sessions, attribution and goals."""
    sessions, attribution = settings.sessions, settings.attribution
    return msgspec.convert(
        {
            "sessions": msgspec.structs.asdict(sessions),
            "attribution": {
                "lookback_days": attribution.lookback_days,
                "count_direct": attribution.count_direct,
                "path_transform": attribution.path_transform,
                "custom_models": [_custom_model(model) for model in attribution.custom_models],
                "persons": attribution.persons,
            },
            "goals": [
                {"name": g.name, "kind": g.kind, "acquisition": g.acquisition, "offline": g.offline}
                for g in settings.goals
            ],
            "currency": settings.site.currency,
            "timezone": settings.site.timezone,
            "referral_lookback_days": max((program.lookback_days for program in settings.programs), default=0),
        },
        JourneyRules,
    )


def _custom_model(model: settings_model.CustomModel) -> dict[str, object]:
    """A credit model of the settings, its numbers as they were written: 0.3 is three tenths."""
    position = model.position
    return {
        "name": model.name,
        "position": None if position is None else {k: _exact(v) for k, v in msgspec.structs.asdict(position).items()},
        "multipliers": {channel: _exact(factor) for channel, factor in model.multipliers.items()},
        "rules": [
            {**_without_none(msgspec.to_builtins(rule)), "factor": _exact(rule.factor)}  # type: ignore[dict-item]
            for rule in model.rules
        ],
        "half_life_days": None if model.half_life_days is None else _exact(model.half_life_days),
        "count_direct": model.count_direct,
        "lookback_days": model.lookback_days,
    }


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))
