"""Where a visit comes from: tags, click ids, referrers, channels."""

from stream_app.domain.sources.model import DIRECT, Arrival, Explanation, Source, Step
from stream_app.domain.sources.resolver import SourceResolver
from stream_app.domain.sources.rules import ChannelRule, Condition, OfflineSource, SourceRules
from stream_app.domain.sources.tables import ClickId, ReferenceTables, ReferrerCase, Site

__all__ = (
    "DIRECT",
    "Arrival",
    "ChannelRule",
    "ClickId",
    "Condition",
    "Explanation",
    "OfflineSource",
    "ReferenceTables",
    "ReferrerCase",
    "Site",
    "Source",
    "SourceResolver",
    "SourceRules",
    "Step",
)
