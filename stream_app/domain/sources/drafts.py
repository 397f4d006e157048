"""A source in the making."""

from __future__ import annotations

from stream_app.domain.channels import Category
from stream_app.domain.sources.model import ArrivedBy
from stream_app.domain.sources.tables import Kind
from stream_app.domain.sources.tags import TagSet


class Draft:
    """Source and medium as far as a rule gives them, with what the channel needs to know.

    `kind` is the kind of table that the site stands in, `category` what it sells where that differs; `carried` is the
    category that a click id carries. `referral`: a plain referral, a source only when it starts a session.
    """

    __slots__ = (
        "arrival",
        "carried",
        "category",
        "click_id",
        "keyword",
        "kind",
        "medium",
        "platform",
        "referral",
        "source",
        "tags",
    )

    def __init__(
        self,
        source: str,
        medium: str,
        tags: TagSet,
        *,
        arrival: ArrivedBy = "referrer",
        click_id: str = "",
        platform: str = "",
        carried: Category | None = None,
        keyword: str = "",
        kind: Kind | None = None,
        category: Category | None = None,
        referral: bool = False,
    ) -> None:
        self.source = source
        self.medium = medium
        self.tags = tags
        self.arrival = arrival
        self.click_id = click_id
        self.platform = platform
        self.carried = carried
        self.keyword = keyword
        self.kind = kind
        self.category = category
        self.referral = referral

    def with_tags(self, tags: TagSet) -> Draft:
        """The same with campaign, term, content and id of tags that do not name another source."""
        self.tags = tags
        return self
