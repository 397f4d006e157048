"""Every key of the configuration with its meaning, unit, default and range.

This is the single source: values are checked against these types, error messages and `docs/configuration.md` are
made from them. Checks that span several keys are in the `problems` method of their section.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, field

from stream_app.settings.errors import read_secret

Found = Iterator[tuple[str, str]]
"""Problems of a section: (key inside the section, what is wrong and what is allowed)."""


def _key(
    text: str,
    *,
    unit: str = "",
    secret: bool = False,
    allowed: str = "",
    **constraints: Any,
) -> Meta:
    """Documentation and constraints of one key. `allowed` replaces the words made from the constraints."""
    return Meta(description=text, extra={"unit": unit, "secret": secret, "allowed": allowed}, **constraints)


_NAME = r"^[A-Za-z0-9._-]{1,200}$"
_NAME_ALLOWED = "1–200 letters, digits, '.', '_' and '-'"
_CURRENCY = r"^[A-Z]{3}$"
_CURRENCY_ALLOWED = "three capital letters (ISO 4217), as EUR"


def _no_currency(code: str) -> str:
    """What is wrong with a currency that is none; empty: nothing. So is "", where another one is meant then."""
    from stream_app.domain.money import MINOR_UNITS

    return f'= "{code}" is no currency; allowed: {_CURRENCY_ALLOWED}' if code and code not in MINOR_UNITS else ""


_AMOUNT = r"^\d+(\.\d+)?%?$"
_AMOUNT_ALLOWED = 'a percentage as "10%" or an amount as "15.00"'

Currency = Annotated[str, Meta(pattern=_CURRENCY, extra={"allowed": _CURRENCY_ALLOWED})]
Amount = Annotated[str, Meta(pattern=_AMOUNT, extra={"allowed": _AMOUNT_ALLOWED})]
Factor = Annotated[Decimal, Meta(extra={"allowed": "a number above 0, best as text"})]
Money = Annotated[Decimal, Meta(extra={"allowed": "an amount of 0 or more, best as text"})]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    def problems(self) -> Found:
        """What is wrong between the keys of this section."""
        yield from ()


class Security(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a protected Kafka. Whatever asks for protection that `protocol` does not give is an error."""

    protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        _key("Encryption (SSL) and log-in (SASL) towards the brokers."),
    ] = "PLAINTEXT"
    ca_file: Annotated[
        str, _key("Certificates (PEM) of the authorities to trust; empty: those of the operating system.")
    ] = ""
    certificate_file: Annotated[str, _key("Client certificate (PEM), for mutual TLS.")] = ""
    key_file: Annotated[str, _key("Private key (PEM) of the client certificate; empty: in the certificate's file.")] = (
        ""
    )
    key_password: Annotated[str, _key("Password of the private key.", secret=True)] = ""
    verify_hostname: Annotated[bool, _key("Whether the broker's certificate must name the host connected to.")] = True
    mechanism: Annotated[
        Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], _key("SASL mechanism.")
    ] = ""
    username: Annotated[str, _key("User for PLAIN and SCRAM.")] = ""
    password: Annotated[str, _key("Password for PLAIN and SCRAM.", secret=True)] = ""
    password_file: Annotated[str, _key("File that holds the password, in place of `password`.")] = ""
    token: Annotated[str, _key("Bearer token for OAUTHBEARER.", secret=True)] = ""
    token_file: Annotated[
        str, _key("File that holds the bearer token; read again at each log-in, so that it can be renewed.")
    ] = ""
    token_url: Annotated[
        str, _key("OAuth 2 endpoint that gives tokens for client credentials (https, or http on loopback).")
    ] = ""
    client_id: Annotated[str, _key("OAuth 2 client id.")] = ""
    client_secret: Annotated[str, _key("OAuth 2 client secret.", secret=True)] = ""
    scope: Annotated[str, _key("OAuth 2 scope.")] = ""
    allow_cleartext_password: Annotated[
        bool, _key("Lets PLAIN and OAUTHBEARER send their secret over an unencrypted connection (SASL_PLAINTEXT).")
    ] = False

    def problems(self) -> Found:
        """Fail closed: half-configured protection never turns into none."""
        tls = self.protocol in {"SSL", "SASL_SSL"}
        sasl = self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}
        if not tls:
            for name in ("ca_file", "certificate_file", "key_file", "key_password"):
                if getattr(self, name):
                    yield (
                        "protocol",
                        f"is {self.protocol}, which has no TLS, but {name} is set; use SSL or SASL_SSL",
                    )
                    break
        if not sasl:
            for name in ("mechanism", "username", "password", "password_file", "token", "token_file", "token_url"):
                if getattr(self, name):
                    yield "protocol", f'is {self.protocol}, which has no log-in, but {name} is set; use "SASL_SSL"'
                    break
        if (self.key_file or self.key_password) and not self.certificate_file:
            yield "certificate_file", "is missing, but key_file or key_password is set"
        if sasl:
            yield from self._sasl_problems()

    def _sasl_problems(self) -> Found:
        if not self.mechanism:
            yield "mechanism", f'is missing; protocol {self.protocol} needs one, best "SCRAM-SHA-512"'
        elif self.mechanism == "OAUTHBEARER":
            given = [name for name in ("token", "token_file", "token_url") if getattr(self, name)]
            if len(given) != 1:
                yield "token", "OAUTHBEARER needs exactly one of token, token_file and token_url"
            if self.token_url and not (self.client_id and self.client_secret):
                yield "client_id", "token_url needs client_id and client_secret"
            if self.token_url and not self.token_url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
                yield "token_url", "must be https (http only on loopback)"
        else:
            if not self.username:
                yield "username", f"is missing; {self.mechanism} needs one"
            if bool(self.password) == bool(self.password_file):
                yield "password", f"{self.mechanism} needs exactly one of password and password_file"
        if (
            self.protocol == "SASL_PLAINTEXT"
            and self.mechanism in {"PLAIN", "OAUTHBEARER"}
            and not self.allow_cleartext_password
        ):
            yield (
                "protocol",
                f'SASL_PLAINTEXT with {self.mechanism} would send the secret unencrypted; use "SASL_SSL", a SCRAM '
                "mechanism, or say allow_cleartext_password = true",
            )


class Kafka(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The brokers and the topics on them."""

    bootstrap: Annotated[
        str,
        _key(
            "Brokers to ask first, as host:port, comma-separated. Without it the variable `KAFKA_BOOTSTRAP` counts.",
            pattern=r"^\s*[^\s,:/]+:\d{1,5}(\s*,\s*[^\s,:/]+:\d{1,5})*\s*$|^\s*\[[0-9A-Fa-f:]+\]:\d{1,5}\s*$",
            allowed="host:port, several separated by commas",
        ),
    ] = "127.0.0.1:9092"
    app_id: Annotated[
        str,
        _key(
            "Consumer group and prefix of transactional ids. All workers of one deployment share it.",
            pattern=_NAME,
            allowed=_NAME_ALLOWED,
        ),
    ] = "stream-app"
    topic_prefix: Annotated[
        str,
        _key(
            "Put before every topic name.",
            pattern=r"^[A-Za-z0-9._-]{0,100}$",
            allowed="up to 100 letters, digits, '.', '_' and '-'",
        ),
    ] = ""
    partitions: Annotated[
        int,
        _key(
            "Partitions of every input topic, of the changelog and of the repartition topic: the largest number of "
            "workers that can share the work. Fixed for the life of an app_id.",
            ge=1,
            le=4096,
        ),
    ] = 8
    replication: Annotated[int, _key("Copies of every partition; 3 in production.", ge=1, le=15)] = 1
    min_insync_replicas: Annotated[
        int,
        _key(
            "Copies that must confirm a write; 0: one less than `replication`, but at least 1.",
            ge=0,
            le=15,
        ),
    ] = 0
    max_message_bytes: Annotated[
        int,
        _key("`max.message.bytes` of the input topics; the others get 64 KiB more.", unit="bytes", ge=1024, le=1 << 28),
    ] = 1_048_588
    input_retention_days: Annotated[
        int,
        _key("How long input topics keep records; 0: for ever, for reprocessing.", unit="days", ge=0),
    ] = 0
    output_retention_days: Annotated[
        int, _key("How long sessions, conversions and rewards are kept; 0: for ever.", unit="days", ge=0)
    ] = 0
    dead_letter_retention_days: Annotated[
        int,
        _key(
            "How long dead letters, which hold original bytes, are kept; 0: for ever.",
            unit="days",
            ge=0,
        ),
    ] = 90
    request_timeout_ms: Annotated[int, _key("Patience with one request to a broker.", unit="ms", ge=1000)] = 20_000
    security: Security = field(default_factory=Security)

    @property
    def effective_min_insync_replicas(self) -> int:
        """`min.insync.replicas` of every topic."""
        return self.min_insync_replicas or max(1, self.replication - 1)

    @property
    def servers(self) -> list[str]:
        """The brokers to ask first."""
        return [part.strip() for part in self.bootstrap.split(",")]

    def problems(self) -> Found:
        """Replicas that cannot be had."""
        if self.min_insync_replicas > self.replication:
            yield "min_insync_replicas", f"= {self.min_insync_replicas} is more than replication = {self.replication}"


class Engine(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Commits, state and patience."""

    commit_interval_ms: Annotated[
        int, _key("Longest time records wait for their commit: latency against throughput.", unit="ms", ge=1, le=10_000)
    ] = 100
    commit_records: Annotated[
        int, _key("A commit begins as soon as a task holds this many records.", unit="records", ge=1, le=1_000_000)
    ] = 30_000
    state_directory: Annotated[
        str,
        _key("Where the state is kept, one directory per worker process. It can be rebuilt from Kafka.", min_length=1),
    ] = "state"
    shutdown_deadline_s: Annotated[
        float, _key("After SIGTERM the process has ended within this time, whatever hangs.", unit="s", gt=0, le=3600)
    ] = 30
    cache_entries: Annotated[
        int,
        _key(
            "Decoded states kept in memory, per worker: 3 to 4 KB each. "
            "Enough for the visits of the last half hour saves reading them again when they close.",
            unit="states",
            ge=0,
            le=100_000_000,
        ),
    ] = 150_000
    block_cache_mb: Annotated[
        int, _key("Memory of the store for reading, shared by all partitions of a worker.", unit="MiB", ge=8)
    ] = 128
    write_buffer_mb: Annotated[
        int, _key("Memory of the store for writing, shared by all partitions of a worker.", unit="MiB", ge=8)
    ] = 128
    state_version: Annotated[
        int,
        _key("Version in which states are written. Raise it once all workers run the release that reads it.", ge=1),
    ] = 1
    session_timeout_ms: Annotated[
        int, _key("A worker silent for this long loses its partitions.", unit="ms", ge=1000, le=1_800_000)
    ] = 15_000
    heartbeat_interval_ms: Annotated[int, _key("How often a worker says it lives.", unit="ms", ge=100)] = 3_000
    rebalance_timeout_ms: Annotated[
        int, _key("How long a worker may take to give partitions back.", unit="ms", ge=1000)
    ] = 60_000
    commit_deadline_ms: Annotated[int, _key("A commit that takes longer has failed.", unit="ms", ge=100)] = 10_000
    transaction_timeout_ms: Annotated[
        int,
        _key(
            "The broker aborts a transaction left open for this long. More than session_timeout_ms + "
            "commit_deadline_ms.",
            unit="ms",
            ge=1000,
            le=900_000,
        ),
    ] = 30_000
    group_instance_id: Annotated[
        str,
        _key(
            "Name of this worker for static membership: its restart disturbs nobody. Unique per worker; empty: off.",
            pattern=r"^[A-Za-z0-9._-]{0,200}$",
            allowed="up to 200 letters, digits, '.', '_' and '-'",
        ),
    ] = ""
    max_failures: Annotated[
        int, _key("Failures of one task in a row after which the process exits, for its supervisor.", ge=1, le=1000)
    ] = 8
    max_record_bytes: Annotated[
        int, _key("Larger input records become dead letters (`too_large`).", unit="bytes", ge=256, le=1 << 20)
    ] = 1 << 20

    def problems(self) -> Found:
        """The order of time-outs that fencing relies on."""
        if self.session_timeout_ms + self.commit_deadline_ms >= self.transaction_timeout_ms:
            yield (
                "transaction_timeout_ms",
                f"= {self.transaction_timeout_ms} must be more than session_timeout_ms + commit_deadline_ms = "
                f"{self.session_timeout_ms + self.commit_deadline_ms}",
            )
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            yield (
                "heartbeat_interval_ms",
                f"= {self.heartbeat_interval_ms} must be at most a third of session_timeout_ms = "
                f"{self.session_timeout_ms}",
            )
        if self.commit_interval_ms >= self.commit_deadline_ms:
            yield (
                "commit_interval_ms",
                f"= {self.commit_interval_ms} must be less than commit_deadline_ms = {self.commit_deadline_ms}",
            )


class Web(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server of each worker: health, metrics, lookups."""

    host: Annotated[str, _key("Address to listen on; 0.0.0.0 for all.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, _key("Port to listen on; 0: any free one, printed at start.", ge=0, le=65535)] = 6066
    token: Annotated[
        str,
        _key(
            "Bearer token that lookups of a single client need, beyond loopback counters and the dashboard, too; the "
            "same on all workers. Empty: they are off.",
            secret=True,
        ),
    ] = ""
    token_file: Annotated[str, _key("File that holds the token, in place of `token`.")] = ""
    advertised_url: Annotated[
        str,
        _key(
            "How other workers reach this one, as http://host:port; empty: made from host and port.",
            pattern=r"^(https?://[^\s/]+/?)?$",
            allowed="http://host:port or https://host:port",
        ),
    ] = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach what listens there."""
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def problems(self) -> Found:
        """One token, not two."""
        if self.token and self.token_file:
            yield "token", "only one of token and token_file can be given"

    def read_token(self) -> str:
        """The token itself, from wherever it is kept. Raises `SettingsError` when its file cannot be used."""
        return read_secret("web.token_file", self.token_file) if self.token_file else self.token


class Site(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The property whose visitors are watched."""

    own_domains: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...],
        _key("Domains of your own: visits between them, and their subdomains, bring no new source."),
    ] = ()
    timezone: Annotated[str, _key("Time zone of days and hours (IANA name).", allowed="a name as Europe/Riga")] = "UTC"
    currency: Annotated[
        str, _key("Currency of money given without one.", pattern=_CURRENCY, allowed=_CURRENCY_ALLOWED)
    ] = "EUR"

    def problems(self) -> Found:
        """A domain, time zone or currency nobody knows."""
        from stream_app.domain.sources.hosts import split_url

        for domain in self.own_domains:
            bare = domain.strip().lstrip(".")
            if split_url(bare if "//" in bare else f"//{bare}") is None:
                yield (
                    "own_domains",
                    f'= "{domain}" is no domain; allowed: as shop.example.com, which means its subdomains too',
                )
        try:
            ZoneInfo(self.timezone)
        except (KeyError, OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
            yield "timezone", f'= "{self.timezone}" is not a time zone; allowed: an IANA name as Europe/Riga'
        if wrong := _no_currency(self.currency):
            yield "currency", wrong


Field = Literal[
    "source",
    "medium",
    "campaign",
    "term",
    "content",
    "platform",
    "landing_host",
    "landing_path",
    "referrer_host",
    "click_id_type",
]


class Condition(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test of one field; exactly one comparison. Letter case never matters."""

    field: Annotated[Field, _key("What is looked at.")]
    equals: Annotated[str, _key("The whole text.")] | None = None
    contains: Annotated[str, _key("Any part of it.")] | None = None
    starts: Annotated[str, _key("Its beginning.")] | None = None
    ends: Annotated[str, _key("Its end.")] | None = None
    regex: Annotated[str, _key("A regular expression found in it; up to 500 characters.")] | None = None
    one_of: Annotated[tuple[str, ...], _key("One of these texts, whole.")] | None = None
    negate: Annotated[bool, _key("Turns the answer round.")] = msgspec.field(default=False, name="not")

    def problems(self) -> Found:
        """Exactly one comparison, and a regular expression that compiles."""
        names = ("equals", "contains", "starts", "ends", "regex", "one_of")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            yield "", f"has {len(given)} comparisons; allowed: exactly one of {', '.join(names)}"
        if self.regex is not None:
            from stream_app.domain.sources.custom import compile_pattern

            try:
                compile_pattern(self.regex)
            except ValueError as exc:
                yield "regex", f"cannot be used: {exc}"


class SourceRule(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel of your own, or a source that is not one. The first rule that matches wins."""

    channel: Annotated[str, _key("Channel that matching arrivals get.", max_length=100)] = ""
    exclude: Annotated[bool, _key("Matching arrivals bring no source at all.")] = False
    all: Annotated[tuple[Condition, ...], _key("All of these must hold.")] = ()
    any: Annotated[tuple[Condition, ...], _key("At least one of these must hold.")] = ()

    def problems(self) -> Found:
        """A rule says what it does and when."""
        if bool(self.channel) == self.exclude:
            yield "channel", "a rule has either a channel or exclude = true"
        if not self.all and not self.any:
            yield "all", "a rule needs conditions in all or any"


class Sources(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where visits come from."""

    profile: Annotated[
        Literal["extended", "ga4"],
        _key("Channel groups: GA4's own, or those with messengers, AI assistants, offline and referral programmes."),
    ] = "extended"
    auto_tag_wins: Annotated[bool, _key("Whether Google click ids win over utm tags, as in GA4.")] = False
    excluded_referrers: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        _key("Hosts, with or without a path, that are never a source: payment, log-in. A leading dot is the same."),
    ] = ()
    rules: Annotated[tuple[SourceRule, ...], _key("Channels of your own, before the built-in ones.")] = ()

    def problems(self) -> Found:
        """Referrers without a host."""
        from stream_app.domain.sources.matching import split_pattern

        for referrer in self.excluded_referrers:
            try:
                split_pattern(referrer.partition("://")[2] or referrer)
            except ValueError:
                yield (
                    "excluded_referrers",
                    f'= "{referrer}" names no host; allowed: as paypal.com or bank.example/3ds, subdomains too',
                )


class Sessions(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a visit begins and ends."""

    profile: Annotated[Literal["ga4", "ua"], _key("`ua` also splits at midnight and when the campaign changes.")] = (
        "ga4"
    )
    timeout_minutes: Annotated[
        int, _key("A pause this long, or longer, ends a session.", unit="minutes", ge=1, le=475)
    ] = 30
    grace_minutes: Annotated[
        int, _key("How late events may come and still be sorted in as if on time.", unit="minutes", ge=1, le=10_080)
    ] = 60
    campaign_timeout_days: (
        Annotated[
            int,
            _key(
                "How long a direct session is attributed to the last source before it; 90 by default, 183 in `ua`.",
                unit="days",
                ge=1,
                le=730,
            ),
        ]
        | None
    ) = None
    max_events: Annotated[int, _key("A session with this many events is split.", unit="events", ge=2)] = 1_000
    max_age_hours: Annotated[int, _key("A session this old is split.", unit="hours", ge=1, le=168)] = 24

    @property
    def effective_campaign_timeout_days(self) -> int:
        """The campaign timeout, with the profile's default."""
        return self.campaign_timeout_days or (183 if self.profile == "ua" else 90)


_MOST = 1_000_000
_LONGEST_HALF_LIFE = 3_650

Weight = Annotated[float, Meta(ge=0, le=_MOST)]


class Position(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights by position on the path."""

    first: Annotated[float, _key("Weight of the first touchpoint.", ge=0, le=_MOST)]
    middle: Annotated[float, _key("Weight shared by those between.", ge=0, le=_MOST)]
    last: Annotated[float, _key("Weight of the last touchpoint.", ge=0, le=_MOST)]

    def problems(self) -> Found:
        """Weights of nothing."""
        if self.first == self.middle == self.last == 0:
            yield "", "has no weight at all; allowed: at least one of first, middle and last above 0"


class FactorRule(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A factor for some touchpoints. The first rule that matches wins, also over the channel's factor."""

    factor: Annotated[float, _key("What their weight is multiplied by; 0: they get no credit.", ge=0, le=_MOST)]
    all: Annotated[tuple[Condition, ...], _key("All of these must hold.")] = ()
    any: Annotated[tuple[Condition, ...], _key("At least one of these must hold.")] = ()

    def problems(self) -> Found:
        """A rule says when, by what is known of a touchpoint."""
        if not self.all and not self.any:
            yield "all", "a rule needs conditions in all or any"
        for name in ("all", "any"):
            for condition in getattr(self, name):
                if condition.field in {"landing_host", "landing_path", "referrer_host"}:
                    yield name, f'looks at "{condition.field}", which a touchpoint does not keep'


class CustomModel(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credit model of your own: position × factor × decay, normalised. Where all weights are 0 it is last_click."""

    name: Annotated[str, _key("Its name in `credits`.", pattern=_NAME, allowed=_NAME_ALLOWED)]
    position: Annotated[Position, _key("Weights by position; without it all are equal.")] | None = None
    multipliers: Annotated[dict[str, Weight], _key("Factors by channel; 1 for the others.")] = msgspec.field(
        default_factory=dict
    )
    rules: Annotated[tuple[FactorRule, ...], _key("Factors by rule, before those by channel.")] = ()
    half_life_days: (
        Annotated[
            float,
            _key("Credit halves with every so many days of age.", unit="days", ge=0.001, le=_LONGEST_HALF_LIFE),
        ]
        | None
    ) = None
    count_direct: Annotated[bool, _key("Whether direct visits get credit beside others.")] = False
    lookback_days: (
        Annotated[
            int,
            _key(
                "Touchpoints up to this age get credit, where that is less than elsewhere.", unit="days", ge=1, le=400
            ),
        ]
        | None
    ) = None


class Attribution(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How credit is shared."""

    lookback_days: Annotated[int, _key("Touchpoints up to this age get credit.", unit="days", ge=1, le=400)] = 90
    count_direct: Annotated[
        bool, _key("Whether direct visits get credit beside others in linear, position and decay.")
    ] = False
    path_transform: Annotated[
        Literal["none", "exposure", "unique", "first"],
        _key(
            "What is done to a path before models see it. `exposure`: consecutive equal touchpoints are one, "
            "A>A>B>A → A>B>A. `unique`: each once, where it came last, A>B>A → B>A. `first`: each once, where it came "
            "first, A>B>A → A>B."
        ),
    ] = "none"
    custom_models: Annotated[tuple[CustomModel, ...], _key("Models of your own.")] = ()
    persons: Annotated[
        bool,
        _key(
            "Whether a conversion sees the touchpoints of its user on all clients that were known to be theirs by "
            "then. Off: those of its own client, whoever used it."
        ),
    ] = True

    def problems(self) -> Found:
        """Names that are taken."""
        taken = {"last_click", "first_click", "last_non_direct", "linear", "position_based", "time_decay"}
        for model in self.custom_models:
            if model.name in taken:
                yield "custom_models", f'has the name "{model.name}" twice, or it is a built-in one'
            taken.add(model.name)


class Goal(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A goal that conversions name."""

    name: Annotated[str, _key("As in the field `goal` of conversions.", min_length=1, max_length=128)]
    kind: Annotated[
        Literal["lead", "purchase", "signup", "activation", "nps", "join", "leave", "other"], _key("What it means.")
    ] = "other"
    acquisition: Annotated[bool, _key("Looks back 30 days only.")] = False
    counted: Annotated[bool, _key("Whether counters count it; by default leads, purchases and sign-ups.")] | None = None
    paid: Annotated[bool, _key("Whether its value is revenue; by default that of purchases is.")] | None = None
    offline: Annotated[bool, _key("Happens off the site: never starts a session.")] = False


class OfflineSource(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source that a phone number or e-mail address stands for."""

    source: Annotated[str, _key("Source.", min_length=1, max_length=2048)]
    medium: Annotated[str, _key("Medium.", min_length=1, max_length=2048)]
    campaign: Annotated[str, _key("Campaign.", max_length=2048)] = ""


class Costs(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money of advertising."""

    base_currency: Annotated[
        str,
        _key(
            "Currency that costs are brought to; empty: that of the site.",
            pattern=r"^([A-Z]{3})?$",
            allowed=_CURRENCY_ALLOWED,
        ),
    ] = ""
    rates: Annotated[dict[Currency, Factor], _key("How much of the base currency one unit of another is worth.")] = (
        msgspec.field(default_factory=dict)
    )
    multipliers: Annotated[dict[str, Factor], _key("Factor on the costs of an account, as an agency's fee.")] = (
        msgspec.field(default_factory=dict)
    )

    def problems(self) -> Found:
        """Rates and multipliers of nothing."""
        if wrong := _no_currency(self.base_currency):
            yield "base_currency", wrong
        for code in self.rates:
            if wrong := _no_currency(code):
                yield f'rates."{code}"', wrong
        for name in ("rates", "multipliers"):
            for key, value in getattr(self, name).items():
                if not (value.is_finite() and value > 0):
                    yield f'{name}."{key}"', f"= {value} is wrong; allowed: a number above 0"


class Plan(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Planned figures of one month: counters say how far they are met."""

    month: Annotated[str, _key("The month.", pattern=r"^\d{4}-(0[1-9]|1[0-2])$", allowed="YYYY-MM")]
    campaign: Annotated[str, _key("Campaign, in any letter case; empty: everything.", max_length=2048)] = ""
    source: Annotated[str, _key("Its source; empty: any.", max_length=2048)] = ""
    medium: Annotated[str, _key("Its medium; empty: any.", max_length=2048)] = ""
    figures: Annotated[
        dict[str, Money],
        _key("What is planned, by the name of a count or sum: `leads`, `conversions`, `revenue`, `cost` …"),
    ]

    def problems(self) -> Found:
        """Figures that no counter has, and amounts below nothing."""
        from stream_app.domain.counters.rules import PLANNED

        for name, amount in self.figures.items():
            if name not in PLANNED:
                yield f"figures.{name}", f"is no figure; allowed: {', '.join(PLANNED)}"
            elif not (amount.is_finite() and amount >= 0):
                yield f"figures.{name}", f"= {amount} is wrong; allowed: an amount of 0 or more"
        if not self.campaign and (self.source or self.medium):
            yield "campaign", "is missing; allowed: source and medium belong to a campaign"


class Counters(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Live counters: the topic lead-counters."""

    enabled: Annotated[bool, _key("Whether there are any. Counting takes a part of a worker's time.")] = True
    dimensions: Annotated[
        tuple[
            Annotated[
                str,
                _key(
                    "",
                    pattern=r"^(term|content|landing|owner|refusal_reason|segment\.[A-Za-z0-9_.-]{1,64})$",
                    allowed="term, content, landing, owner, refusal_reason or segment.NAME",
                ),
            ],
            ...,
        ],
        _key(
            "Further dimensions to count by, besides all, channel, source_medium, campaign, platform and goal: `term`, "
            "`content`, `landing`, `owner`, `refusal_reason`, and `segment.NAME` for a field of conversions' `segment`."
        ),
    ] = ()
    values: Annotated[
        int,
        _key(
            "Values of one dimension in one window, over all partitions; what comes on top is counted under `(other)`.",
            ge=1,
            le=10_000_000,
        ),
    ] = 10_000
    plans: Annotated[tuple[Plan, ...], _key("Planned figures by month and campaign.")] = ()

    def problems(self) -> Found:
        """What is named twice."""
        for name in sorted({name for name in self.dimensions if self.dimensions.count(name) > 1}):
            yield "dimensions", f'has "{name}" twice'
        planned = set()
        for plan in self.plans:
            names = (plan.campaign, plan.source, plan.medium)
            for figure in plan.figures:
                one = (plan.month, *(name.strip().casefold() for name in names), figure)
                if one in planned:
                    yield "plans", f"{figure} of {one[1] or 'everything'} in {plan.month} is planned twice"
                planned.add(one)


class ReferredReward(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the referred person gets."""

    kind: Annotated[Literal["percent", "fixed", "discount", "gift"], _key("Kind of reward.")]
    amount: Annotated[Amount, _key("How much.")] = "0"


class Boost(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other rates for a time."""

    start: Annotated[str, _key("First moment (RFC 3339).")] = msgspec.field(name="from")
    end: Annotated[str, _key("First moment after it (RFC 3339).")] = msgspec.field(name="to")
    levels: Annotated[tuple[Amount, ...], _key("Rates by level.", min_length=1, max_length=3)]


class ProgramRate(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates that hold under conditions; the one that pays most counts."""

    levels: Annotated[tuple[Amount, ...], _key("Rates by level.", min_length=1, max_length=3)]
    advocate_kinds: Annotated[tuple[str, ...], _key("Only for these kinds of referrers; empty: all.")] = ()
    goals: Annotated[tuple[str, ...], _key("Only for these goals; empty: all.")] = ()
    minimum: Annotated[Money, _key("Only from this basis on, in the programme's currency.")] = Decimal(0)
    occasion: Annotated[
        Literal["any", "first", "repeat"],
        _key("Only for a referred person's first conversion, or only for later ones."),
    ] = "any"

    def problems(self) -> Found:
        """Amounts below nothing."""
        if not (self.minimum.is_finite() and self.minimum >= 0):
            yield "minimum", f"= {self.minimum} is wrong; allowed: an amount of 0 or more"


class Fraud(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What puts a reward on hold until somebody has looked at it."""

    same_ip: Annotated[int, _key("More conversions than this from one ip are held; 0: off.", ge=0, le=1_000_000)] = 3
    burst: Annotated[int, _key("More conversions than this in `burst_minutes` are held; 0: off.", ge=0, le=1_000)] = 0
    burst_minutes: Annotated[int, _key("Time for `burst`.", unit="minutes", ge=1, le=43_200)] = 60
    similar: Annotated[bool, _key("Holds when referrer and referred have a similar name or e-mail.")] = True
    disposable_mail: Annotated[bool, _key("Holds when the referred person's mailbox is one to throw away.")] = True
    free_mail: Annotated[bool, _key("Holds when it is at a free mail service: for programmes among companies.")] = False
    brand_bidding: Annotated[bool, _key("Holds when a referral link was reached by a paid advertisement.")] = True
    coupon_sites: Annotated[
        tuple[
            Annotated[
                str,
                Meta(pattern=r"^[^./:@\s][^/:@\s]{0,252}$", extra={"allowed": 'a host as "coupons.example"'}),
            ],
            ...,
        ],
        _key("Hosts of coupon sites, subdomains included: what comes from there is held."),
    ] = ()


class Program(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A referral programme."""

    name: Annotated[str, _key("Its name.", pattern=_NAME, allowed=_NAME_ALLOWED)]
    kind: Annotated[
        Literal["customers", "champions", "ecosystem", "employees", "partner_network", "expert_club", "mastermind"],
        _key("Who refers in it: for reports."),
    ] = "customers"
    levels: Annotated[tuple[Amount, ...], _key("Rates or amounts by level, nearest first.", min_length=1, max_length=3)]
    rates: Annotated[tuple[ProgramRate, ...], _key("Other rates under conditions.")] = ()
    goals: Annotated[
        tuple[str, ...], _key("Goals that bind and earn; without these and `qualifies_on`: all paid goals.")
    ] = ()
    qualifies_on: Annotated[
        tuple[str, ...], _key("Further goals, or lead statuses (mql, sql, won: the lead's revenue is the basis).")
    ] = ()
    attribution: Annotated[Literal["first", "last"], _key("Which referrer's link counts.")] = "first"
    basis: Annotated[Literal["value", "profit"], _key("What rates apply to.")] = "value"
    reward: Annotated[Literal["money", "discount", "gift"], _key("What a referrer gets; only money is paid out.")] = (
        "money"
    )
    currency: Annotated[
        str,
        _key(
            "Currency of fixed amounts and minimums; empty: that of the site.",
            pattern=r"^([A-Z]{3})?$",
            allowed=_CURRENCY_ALLOWED,
        ),
    ] = ""
    lookback_days: Annotated[int, _key("How long a visit through a link counts.", unit="days", ge=1, le=730)] = 365
    convert_within_days: Annotated[int, _key("Time to convert after binding; 0: any.", unit="days", ge=0)] = 0
    holding_days: Annotated[int, _key("Wait before a reward is approved.", unit="days", ge=0, le=90)] = 14
    minimum_payout: Annotated[Money, _key("Least amount paid out.")] = Decimal(0)
    minimum_order: Annotated[Money, _key("Least value of an order that earns.")] = Decimal(0)
    first_purchases: Annotated[int, _key("Only the first so many purchases earn; 0: every one.", ge=0)] = 0
    first_months: Annotated[int, _key("Only so many months from binding on earn; 0: any.", unit="months", ge=0)] = 0
    cap: Annotated[Money, _key("Most that one referrer earns in a period; 0: no limit.")] = Decimal(0)
    cap_period: Annotated[Literal["day", "month", "year", "total"], _key("Period of `cap` (UTC).")] = "month"
    exclusive: Annotated[bool, _key("Whether no other programme pays for the same conversion.")] = True
    valid_from: Annotated[str, _key("First moment (RFC 3339); empty: always.")] = ""
    valid_to: Annotated[str, _key("First moment after the programme's end (RFC 3339); empty: never ends.")] = ""
    link_parameters: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^\s=&#?]+$", extra={"allowed": "a parameter's name"})], ...],
        _key("URL parameters that carry a code."),
    ] = ("ref", "via")
    path_prefixes: Annotated[
        tuple[Annotated[str, Meta(pattern="^/", extra={"allowed": "a path that begins with /"})], ...],
        _key("Beginnings of paths that a code follows, as /r/."),
    ] = ()
    referred_reward: Annotated[ReferredReward, _key("What the referred person gets.")] | None = None
    review_days: Annotated[int, _key("Time for a person to review what is on hold.", unit="days", ge=0)] = 30
    on_deadline: Annotated[Literal["approve", "reject"], _key("What happens when nobody did.")] = "approve"
    boosts: Annotated[tuple[Boost, ...], _key("Other rates for a time.")] = ()
    fraud: Fraud = field(default_factory=Fraud)

    def problems(self) -> Found:
        """Amounts below nothing, and whatever makes no sense together."""
        found = False
        for name in ("minimum_payout", "minimum_order", "cap"):
            value = getattr(self, name)
            if not (value.is_finite() and value >= 0):
                found = True
                yield name, f"= {value} is wrong; allowed: an amount of 0 or more"
        if not found:
            from stream_app.settings.programs import problems_of

            yield from problems_of(self)


class Privacy(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """E-mail, telephone, name and ip are kept as keyed hashes only."""

    hash_key: Annotated[
        str,
        _key(
            "Key of the hashes; the same on every worker, and for ever: other hashes compare with nothing.", secret=True
        ),
    ] = ""
    hash_key_file: Annotated[str, _key("File that holds the key, in place of `hash_key`.")] = ""
    phone_region: Annotated[
        str,
        _key(
            "Country (ISO 3166) of telephone numbers without +.", pattern="^([A-Z]{2})?$", allowed="two capital letters"
        ),
    ] = ""

    def problems(self) -> Found:
        """One key, long enough to be one."""
        if self.hash_key and self.hash_key_file:
            yield "hash_key", "only one of hash_key and hash_key_file can be given"
        if self.hash_key and len(self.hash_key.encode()) < 16:
            yield "hash_key", "is too short; allowed: at least 16 bytes, best 32 random ones"

    @property
    def has_key(self) -> bool:
        """Whether there is a key of one's own."""
        return bool(self.hash_key or self.hash_key_file)

    def read_key(self) -> bytes:
        """The key. Without one, a fixed one: good for demonstrations, for anybody could guess hashes. Raises
        `SettingsError` when its file cannot be used."""
        key = read_secret("privacy.hash_key_file", self.hash_key_file) if self.hash_key_file else self.hash_key
        return (key or "stream-app demonstration").encode()


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    kafka: Kafka = field(default_factory=Kafka)
    engine: Engine = field(default_factory=Engine)
    web: Web = field(default_factory=Web)
    site: Site = field(default_factory=Site)
    sources: Sources = field(default_factory=Sources)
    sessions: Sessions = field(default_factory=Sessions)
    attribution: Attribution = field(default_factory=Attribution)
    goals: Annotated[tuple[Goal, ...], _key("What conversions mean.")] = ()
    phone_numbers: Annotated[dict[str, OfflineSource], _key("Sources of calls by the number that was called.")] = field(
        default_factory=dict
    )
    email_addresses: Annotated[
        dict[str, OfflineSource], _key("Sources of letters by the address that was written to.")
    ] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    counters: Counters = field(default_factory=Counters)
    programs: Annotated[tuple[Program, ...], _key("Referral programmes.")] = ()
    privacy: Privacy = field(default_factory=Privacy)

    @property
    def base_currency(self) -> str:
        """What other currencies are converted to: that of `[costs]`, else the site's."""
        return self.costs.base_currency or self.site.currency

    def problems(self) -> Found:
        """Names given twice."""
        for section, names in (
            ("goals", [goal.name for goal in self.goals]),
            ("programs", [program.name for program in self.programs]),
        ):
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield section, f'has the name "{name}" twice'
        base = self.base_currency
        if self.costs.rates.get(base, 1) != 1:
            yield f'costs.rates."{base}"', f"{base} is the base currency itself; allowed: rates of others"
        yield from self._misspelt_channels()

    def _misspelt_channels(self) -> Found:
        """A factor for a channel that nothing is ever put into. `stream-app credit` may be fed channels of anybody's
        own, so only what looks like one of ours is refused."""
        if not any(model.multipliers for model in self.attribution.custom_models):
            return
        from stream_app.domain.channels import EXTENDED_CHANNELS, GA4_CHANNELS

        built_in = GA4_CHANNELS if self.sources.profile == "ga4" else EXTENDED_CHANNELS
        known = {name.lower(): name for name in (*built_in, *(rule.channel for rule in self.sources.rules))}
        for number, model in enumerate(self.attribution.custom_models):
            for channel in model.multipliers:
                close = get_close_matches(channel.lower(), known, n=1, cutoff=0.85)
                if close and known[close[0]] != channel:
                    yield (
                        f"attribution.custom_models[{number}].multipliers",
                        f'has "{channel}", which is no channel; did you mean "{known[close[0]]}"?',
                    )
