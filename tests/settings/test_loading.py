"""Settings: what is read, what wins, what is refused and in which words."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from stream_app.settings import Settings, SettingsError, load, parse, show

SKELETON = """
[kafka]
bootstrap = "127.0.0.1:9092"
app_id = "stream-app"
topic_prefix = ""
partitions = 8
replication = 1
[engine]
commit_interval_ms = 100
state_directory = "state"
shutdown_deadline_s = 30
[web]
host = "127.0.0.1"
port = 6066
[site]
own_domains = ["shop.example.com"]
timezone = "Europe/Riga"
currency = "EUR"
[sources]
profile = "extended"
auto_tag_wins = false
excluded_referrers = ["paypal.com", "accounts.google.com", ".bank.example/3ds"]
[[sources.rules]]
channel = "Brand"
all = [{ field = "campaign", contains = "brand" }]
[sessions]
profile = "ga4"
timeout_minutes = 30
grace_minutes = 60
campaign_timeout_days = 90
[attribution]
lookback_days = 90
count_direct = false
path_transform = "none"
[[attribution.custom_models]]
name = "ours"
position = { first = 0.3, middle = 0.3, last = 0.4 }
multipliers = { "Paid Social" = 0.5 }
[[goals]]
name = "lead_form"
kind = "lead"
acquisition = false
[phone_numbers]
"+37120000001" = { source = "newspaper", medium = "offline", campaign = "spring" }
[costs]
base_currency = "EUR"
rates = { USD = "0.92" }
multipliers = { "agency-account" = "1.15" }
[[programs]]
name = "friends"
levels = ["10%", "5%", "2%"]
goals = ["purchase"]
attribution = "first"
lookback_days = 365
holding_days = 14
minimum_payout = "20"
minimum_order = "0"
first_purchases = 0
link_parameters = ["ref", "via"]
referred_reward = { kind = "discount", amount = "5%" }
"""


def refused(raw: dict[str, object], environ: dict[str, str] | None = None) -> dict[str, str]:
    """Key → message of every problem."""
    with pytest.raises(SettingsError) as caught:
        parse(raw, environ)
    return {problem.key: problem.message for problem in caught.value.problems}


def test_every_key_of_the_contract_is_known(tmp_path: Path) -> None:
    """The skeleton of the contract is read whole, with its types."""
    path = tmp_path / "app.toml"
    path.write_text(SKELETON, encoding="utf-8")
    settings = load(path, {})
    assert settings.site.timezone == "Europe/Riga"
    assert settings.costs.rates == {"USD": Decimal("0.92")}
    assert settings.programs[0].minimum_payout == Decimal(20)
    assert settings.phone_numbers["+37120000001"].campaign == "spring"
    assert settings.sources.rules[0].all[0].contains == "brand"


def test_without_a_file_the_defaults_hold() -> None:
    """No file, no variables: defaults, which are valid themselves."""
    assert load(None, {}) == Settings()


def test_what_show_prints_is_read_again_as_the_same_settings() -> None:
    """`config show` gives a configuration, not only a picture of one."""
    settings = parse(tomllib.loads(SKELETON))
    assert parse(tomllib.loads(show(settings))) == settings


def test_all_problems_are_named_at_once() -> None:
    """Each with its key, its value and what is allowed, wherever it is nested."""
    found = refused(
        {
            "kafka": {"partitions": 0, "boostrap": "x:1"},
            "engin": {},
            "site": {"own_domains": ["a", 3]},
            "goals": [{"nam": "x"}],
            "sources": {"rules": [{"channel": "B", "all": [{"field": "campaig", "contains": "x"}]}]},
        }
    )
    assert found["kafka.partitions"] == "= 0 is wrong; allowed: a whole number from 1 to 4096"
    assert found["kafka.boostrap"] == "is not a known key; did you mean bootstrap?"
    assert found["engin"] == "is not a known section; did you mean engine?"
    assert "$[1]" in found["site.own_domains"]
    assert found["goals[0].nam"] == "is not a known key; did you mean name?"
    assert found["goals[0].name"].startswith("is missing")
    assert '"campaig"' in found["sources.rules[0].all[0].field"]
    assert '"campaign"' in found["sources.rules[0].all[0].field"]


@pytest.mark.parametrize(
    ("raw", "key", "words"),
    [
        ({"engine": {"commit_interval_ms": "100"}}, "engine.commit_interval_ms", "a whole number from 1 to 10000 (ms)"),
        ({"engine": {"commit_interval_ms": True}}, "engine.commit_interval_ms", "= true"),
        ({"kafka": {"bootstrap": "nowhere"}}, "kafka.bootstrap", "host:port"),
        ({"kafka": {"app_id": "a b"}}, "kafka.app_id", "letters"),
        ({"kafka": 5}, "kafka", "not a section"),
        ({"goals": {"name": "x"}}, "goals", "list of tables"),
        ({"site": {"timezone": "Mars/Olympus"}}, "site.timezone", "Europe/Riga"),
        ({"site": {"currency": "euro"}}, "site.currency", "ISO 4217"),
        ({"site": {"currency": "BTC"}}, "site.currency", "ISO 4217"),
        ({"site": {"own_domains": ["shop.example.com", "*.example.com"]}}, "site.own_domains", '"*.example.com"'),
        ({"sources": {"excluded_referrers": ["a.example", "*.bank.example"]}}, "sources.excluded_referrers", '"*.bank'),
        ({"sources": {"excluded_referrers": ["two words"]}}, "sources.excluded_referrers", "bank.example/3ds"),
        ({"costs": {"base_currency": "XXX"}}, "costs.base_currency", "ISO 4217"),
        ({"costs": {"rates": {"ABC": "2"}}}, 'costs.rates."ABC"', "ISO 4217"),
        ({"costs": {"base_currency": "EUR", "rates": {"USD": 1, "EUR": "2"}}}, 'costs.rates."EUR"', "base currency"),
        ({"site": {"currency": "USD"}, "costs": {"rates": {"USD": "2"}}}, 'costs.rates."USD"', "base currency"),
        (
            {
                "counters": {
                    "plans": [
                        {"month": "2026-03", "campaign": "Spring", "figures": {"leads": 1, "cost": 2}},
                        {"month": "2026-03", "campaign": "spring ", "figures": {"leads": 3, "value": 2}},
                        {"month": "2026-04", "campaign": "spring", "figures": {"leads": 3}},
                        {"month": "2026-03", "figures": {"leads": 3}},
                    ]
                }
            },
            "counters.plans",
            "leads of spring in 2026-03 is planned twice",
        ),
        ({"sessions": {"timeout_minutes": 476}}, "sessions.timeout_minutes", "475"),
        ({"sessions": {"campaign_timeout_days": 0}}, "sessions.campaign_timeout_days", "730"),
        ({"kafka": {"replication": 1, "min_insync_replicas": 2}}, "kafka.min_insync_replicas", "replication = 1"),
        ({"engine": {"transaction_timeout_ms": 25_000}}, "engine.transaction_timeout_ms", "25000"),
        ({"engine": {"heartbeat_interval_ms": 10_000}}, "engine.heartbeat_interval_ms", "third"),
        ({"goals": [{"name": "a"}, {"name": "a"}]}, "goals", '"a" twice'),
        ({"costs": {"rates": {"USD": "-1"}}}, 'costs.rates."USD"', "above 0"),
        ({"costs": {"rates": {"USD": "NaN"}}}, 'costs.rates."USD"', "above 0"),
        ({"costs": {"rates": {"usd": "1"}}}, "costs.rates", "usd"),
        (
            {"sources": {"rules": [{"channel": "B", "any": [{"field": "term", "regex": "("}]}]}},
            "sources.rules[0].any[0].regex",
            "regular expression",
        ),
        (
            {"sources": {"rules": [{"channel": "B", "any": [{"field": "term", "starts": "a", "ends": "b"}]}]}},
            "sources.rules[0].any[0]",
            "exactly one",
        ),
        ({"sources": {"rules": [{"channel": "B"}]}}, "sources.rules[0].all", "needs conditions"),
        ({"phone_numbers": {"+371": {"source": "a"}}}, 'phone_numbers."+371".medium', "is missing"),
        ({"programs": [{"name": "p", "levels": ["ten"]}]}, "programs[0].levels", "percentage"),
        ({"attribution": {"custom_models": [{"name": "linear"}]}}, "attribution.custom_models", '"linear"'),
        (
            {"attribution": {"custom_models": [{"name": "a", "multipliers": {"Paid social": 2}}]}},
            "attribution.custom_models[0].multipliers",
            'did you mean "Paid Social"?',
        ),
        (
            {"attribution": {"custom_models": [{"name": "a", "position": {"first": 0, "middle": 0, "last": 0}}]}},
            "attribution.custom_models[0].position",
            "above 0",
        ),
        (
            {
                "attribution": {
                    "custom_models": [
                        {"name": "a", "rules": [{"factor": 2, "all": [{"field": "landing_path", "starts": "/x"}]}]}
                    ]
                }
            },
            "attribution.custom_models[0].rules[0].all",
            "landing_path",
        ),
        (
            {"attribution": {"custom_models": [{"name": "a", "multipliers": {"Email": float("nan")}}]}},
            "attribution.custom_models[0].multipliers",
            "nan",
        ),
        ({"web": {"token": "a", "token_file": "b"}}, "web.token", "only one"),
    ],
)
def test_wrong_values_name_key_and_what_is_allowed(raw: dict[str, object], key: str, words: str) -> None:
    """One problem each, under the key that must be changed."""
    found = refused(raw)
    assert list(found) == [key]
    assert words in found[key]


def test_secrets_never_appear_in_messages_or_in_show() -> None:
    """Neither a wrong secret nor a right one is quoted."""
    found = refused({"web": {"token": 4711_4711}})
    assert "47114711" not in found["web.token"]
    settings = parse({"web": {"token": "geheim"}})
    assert "geheim" not in show(settings)
    assert "token = " in show(settings)


def test_the_environment_wins_over_the_file() -> None:
    """Numbers, lists, tables and nested keys come from variables as text."""
    settings = parse(
        {"web": {"port": 1}, "site": {"own_domains": ["old.example"]}},
        {
            "STREAM_APP_WEB__PORT": "0",
            "STREAM_APP_SITE__OWN_DOMAINS": "a.example, b.example",
            "STREAM_APP_SOURCES__EXCLUDED_REFERRERS": '["paypal.com"]',
            "STREAM_APP_ENGINE__SHUTDOWN_DEADLINE_S": "2.5",
            "STREAM_APP_SOURCES__AUTO_TAG_WINS": "true",
            "STREAM_APP_COSTS__RATES": '{"USD": "0.9"}',
            "STREAM_APP_GOALS": '[{"name": "order", "kind": "purchase"}]',
            "STREAM_APP_KAFKA__SECURITY__PROTOCOL": "SSL",
            "STREAM_APP_SESSIONS__CAMPAIGN_TIMEOUT_DAYS": "30",
            "STREAM_APP_KAFKA__APP_ID": "",
            "STREAM_APP_LOG_LEVEL": "debug",
            "OTHER": "x",
        },
    )
    assert settings.web.port == 0
    assert settings.site.own_domains == ("a.example", "b.example")
    assert settings.sources.excluded_referrers == ("paypal.com",)
    assert settings.engine.shutdown_deadline_s == 2.5
    assert settings.sources.auto_tag_wins
    assert settings.costs.rates == {"USD": Decimal("0.9")}
    assert settings.goals[0].kind == "purchase"
    assert settings.kafka.security.protocol == "SSL"
    assert settings.sessions.campaign_timeout_days == 30
    assert settings.kafka.app_id == "stream-app"  # an empty variable says nothing


def test_wrong_variables_are_named() -> None:
    """The message tells which variable it was, and a missing underscore is found."""
    found = refused(
        {},
        {
            "STREAM_APP_WEB__PORT": "99999",
            "STREAM_APP_SITE__OWN_DOMAIN": "a",
            "STREAM_APP_KAFKA_BOOTSTRAP": "h:1",
            "STREAM_APP_SOURCES__AUTO_TAG_WINS": "perhaps",
        },
    )
    assert "STREAM_APP_WEB__PORT" in found["web.port"]
    assert "own_domains" in found["site.own_domain"]
    assert "STREAM_APP_KAFKA__BOOTSTRAP" in found["STREAM_APP_KAFKA_BOOTSTRAP"]
    assert "true or false" in found["sources.auto_tag_wins"]


def test_kafka_bootstrap_is_a_fallback_only() -> None:
    """The file and our own variable win over KAFKA_BOOTSTRAP."""
    given = {"KAFKA_BOOTSTRAP": "fallback:9092"}
    assert parse({}, given).kafka.bootstrap == "fallback:9092"
    assert parse({"kafka": {"bootstrap": "file:1"}}, given).kafka.bootstrap == "file:1"
    assert parse({}, {**given, "STREAM_APP_KAFKA__BOOTSTRAP": "ours:1"}).kafka.bootstrap == "ours:1"
    assert parse({}, {"KAFKA_BOOTSTRAP": "a:1,b:2"}).kafka.servers == ["a:1", "b:2"]


@pytest.mark.parametrize("content", [b"[kafka", b"\xff\xfe", None])
def test_files_that_cannot_be_read_are_named(content: bytes | None, tmp_path: Path) -> None:
    """No file, no UTF-8, no TOML: one problem that names the file."""
    path = tmp_path / "app.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"app\.toml"):
        load(path, {})


def test_defaults_that_depend_on_others() -> None:
    """The campaign timeout follows the profile, the copies in sync the replication."""
    assert parse({}).sessions.effective_campaign_timeout_days == 90
    assert parse({"sessions": {"profile": "ua"}}).sessions.effective_campaign_timeout_days == 183
    assert [parse({"kafka": {"replication": n}}).kafka.effective_min_insync_replicas for n in (1, 2, 3)] == [1, 1, 2]
