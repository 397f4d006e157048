"""What one click says about where the visitor came from."""

from __future__ import annotations

from typing import Literal

import msgspec

ArrivalKind = Literal["source", "referral", "direct", "none", "spam"]
ArrivedBy = Literal["tagged", "auto_tagged", "referrer", "direct"]

NOT_SET = "(not set)"


class Source(msgspec.Struct, frozen=True, gc=False, array_like=True, cache_hash=True):
    """Where a visit came from, as a session or touchpoint keeps it. Hashable, shared, compact in msgpack.

    `source`, `medium` and `campaign` have Google Analytics' form: a search engine's short name, a host for other
    sites, tags as given (source and medium in lower case). What is not known is `(not set)` in medium and campaign
    and empty elsewhere. `source_platform` is the canonical name under which a platform's hosts and apps merge.
    `keyword` is what was typed into a search engine, `term` what a tag said.
    """

    source: str
    medium: str
    campaign: str = NOT_SET
    term: str = ""
    content: str = ""
    source_platform: str = ""
    channel: str = ""
    click_id_type: str = ""
    arrival: ArrivedBy = "direct"
    campaign_id: str = ""
    keyword: str = ""

    @property
    def is_direct(self) -> bool:
        """True for the source of a visit that named none."""
        return self.source == "(direct)"


DIRECT = Source(source="(direct)", medium="(none)", channel="Direct", arrival="direct")


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """What one click brings.

    - `source`: tags, click ids, search, social, AI, mail, messenger, shopping, video, advertising or a referral
      programme's link. A touchpoint, also inside an open session.
    - `referral`: a link on some other site. A source only when it starts a session; inside an open one it is a
      payment or login detour and goes to `ignored_referrals` (domain rules, section 3).
    - `direct`: no referrer, no tags.
    - `none`: internal, cross-domain or excluded referrer. Brings no source; the visit goes on.
    - `spam`: referrer spam. No session, counted apart.

    `source` is given for `source`, `referral` and `direct`. `referrer_host` is the normalised host for `referral`,
    `spam` and excluded referrers.
    """

    kind: ArrivalKind
    source: Source | None
    referrer_host: str = ""


class Step(msgspec.Struct, frozen=True):
    """One rule that was looked at, and what it said."""

    rule: str
    verdict: str


class Explanation(msgspec.Struct, frozen=True):
    """An arrival with the rules that led to it, in the order in which they were tried. `decided_by` names the rule
    that gave the source, `channel_rule` the one that gave the channel."""

    arrival: Arrival
    decided_by: str
    channel_rule: str
    bot: str
    steps: tuple[Step, ...]
