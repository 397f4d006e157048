"""Custom channel rules of a site's owner, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import re2

from stream_app.domain.sources.rules import ChannelRule, Condition

MAX_PATTERN = 500
MAX_TEXT = 1_024


class RuleInput(NamedTuple):
    """The fields that conditions look at."""

    source: str
    medium: str
    campaign: str
    term: str = ""
    content: str = ""
    platform: str = ""
    landing_host: str = ""
    landing_path: str = ""
    referrer_host: str = ""
    click_id_type: str = ""


Test = Callable[[str], bool]


class CustomRules:
    """An ordered list of rules; the first whose conditions hold decides.

    Regular expressions are RE2's: matching takes time linear in the text whatever the pattern, so that no pattern and
    no URL can stall the stream. Texts are compared up to 1,024 characters, in lower case.

    Raises:
        ValueError: a rule that cannot work, naming it and why.
    """

    def __init__(self, rules: tuple[ChannelRule, ...]) -> None:
        self._rules = tuple(_compile_rule(number, rule) for number, rule in enumerate(rules, 1))
        fields = {condition.field for rule in rules for condition in (*rule.all, *rule.any)}
        self.needs_landing = bool(fields & {"landing_host", "landing_path"})
        self.needs_referrer = "referrer_host" in fields

    def __bool__(self) -> bool:
        return bool(self._rules)

    def first(self, facts: RuleInput) -> tuple[int, ChannelRule] | None:
        """The first rule that holds, with its number from 1."""
        lowered = RuleInput(*[_comparable(text) for text in facts])
        for number, (rule, holds) in enumerate(self._rules, 1):
            if holds(lowered):
                return number, rule
        return None


def _comparable(text: str) -> str:
    text = text[:MAX_TEXT].lower()
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()


def _compile_rule(number: int, rule: ChannelRule) -> tuple[ChannelRule, Callable[[RuleInput], bool]]:
    where = f"rule {number} ({rule.channel or 'exclude'})"
    if bool(rule.channel) == rule.exclude:
        raise ValueError(f"{where}: give either a channel or exclude = true")
    if not rule.all and not rule.any:
        raise ValueError(f"{where}: has no conditions")
    every = [_compile_condition(where, condition) for condition in rule.all]
    some = [_compile_condition(where, condition) for condition in rule.any]

    def holds(facts: RuleInput) -> bool:
        return all(test(facts) for test in every) and (not some or any(test(facts) for test in some))

    return rule, holds


def _compile_condition(where: str, condition: Condition) -> Callable[[RuleInput], bool]:
    test = _compile_test(where, condition)
    position = RuleInput._fields.index(condition.field)
    wanted = not condition.negate
    return lambda facts: test(facts[position]) == wanted


def _compile_test(where: str, condition: Condition) -> Test:
    given = [
        name
        for name in ("equals", "contains", "starts", "ends", "regex", "one_of")
        if getattr(condition, name) is not None
    ]
    if len(given) != 1:
        raise ValueError(
            f"{where}: a condition on {condition.field} takes exactly one of equals, contains, starts, ends, regex, "
            f"one_of; given: {', '.join(given) or 'none'}"
        )
    if given[0] == "one_of":
        names = frozenset(name.lower() for name in condition.one_of or ())
        return lambda text: text in names
    value = cast(str, getattr(condition, given[0]))
    if given[0] == "regex":
        try:
            return compile_pattern(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    value = value.lower()
    tests: dict[str, Test] = {
        "equals": lambda text: text == value,
        "contains": lambda text: value in text,
        "starts": lambda text: text.startswith(value),
        "ends": lambda text: text.endswith(value),
    }
    return tests[given[0]]


def compile_pattern(pattern: str) -> Test:
    """A regular expression as a test of texts in lower case.

    Raises:
        ValueError: it is too long, or RE2 does not take it (it has no look-around and no back-references).
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a regular expression may have at most {MAX_PATTERN} characters")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"the regular expression {pattern!r} does not compile: {error}") from error
    return lambda text: compiled.search(text) is not None
