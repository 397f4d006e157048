"""Credit models: golden tables, exact sums, and agreement with formulas written anew."""

from __future__ import annotations

import os
import random
import tomllib
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_app.app.topology import journey_rules
from stream_app.domain import money, paths
from stream_app.domain.credit import BUILT_IN, CreditModels, Custom
from stream_app.domain.decay import BITS, halving
from stream_app.domain.journey import Touchpoint
from stream_app.domain.records import Credit
from stream_app.domain.rules import AttributionRules, CustomModel, FactorRule, PathTransform, Position
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.domain.sources.rules import Condition
from stream_app.domain.times import DAY_MS
from stream_app.settings import parse
from stream_app.settings.model import Attribution
from tests.domain.credit_oracle import credits_by_hand, halved

EXAMPLES = int(os.environ.get("CREDIT_EXAMPLES", "400"))
"""Generated paths; 10,000 and more by CREDIT_EXAMPLES=10000."""
AT = 1_700_000_000_000

SOURCES = {
    "D": DIRECT,
    "P": Source("google", "cpc", "spring", channel="Paid Search"),
    "Q": Source("google", "cpc", "brand-autumn", channel="Paid Search"),
    "E": Source("news", "email", "may", channel="Email"),
    "S": Source("facebook", "social", channel="Organic Social"),
    "A": Source("blog.example", "referral", channel="Referral"),
    "V": Source("youtube.com", "video", channel="Organic Video"),
}


def touchpoints(path: str, ages_days: tuple[float, ...] = ()) -> list[Touchpoint]:
    """A path by letters; a day between touchpoints unless ages are given."""
    ages = ages_days or tuple(range(len(path) - 1, -1, -1))
    return [
        Touchpoint(AT - round(age * DAY_MS), f"s{i}", SOURCES[letter])
        for i, (letter, age) in enumerate(zip(path, ages, strict=True))
    ]


def credited_by(path: list[Touchpoint], value: str | None = "100", currency: str = "EUR", **rules: Any) -> Any:
    amount = None if value is None else Decimal(value)
    return CreditModels(AttributionRules(**rules)).credits(path, AT, amount, currency)


def letters(shares: tuple[Credit, ...]) -> str:
    by_name = {(s.source, s.medium, s.campaign): letter for letter, s in SOURCES.items()}
    return "".join(by_name[share.source, share.medium, share.campaign] for share in shares)


# --- golden tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "last_non_direct", "last_click", "first_click"),
    [
        ("P", "P", "P", "P"),
        ("D", "D", "D", "D"),
        ("DD", "D", "D", "D"),
        ("PD", "P", "D", "P"),
        ("DP", "P", "P", "D"),
        ("PED", "E", "D", "P"),
        ("PEDD", "E", "D", "P"),
        ("DPESD", "S", "D", "D"),
    ],
)
def test_one_touchpoint_gets_it_all(path: str, last_non_direct: str, last_click: str, first_click: str) -> None:
    """Domain rules, section 4."""
    found = credited_by(touchpoints(path), "49.90")
    wanted = {"last_non_direct": last_non_direct, "last_click": last_click, "first_click": first_click}
    for model, letter in wanted.items():
        (credit,) = found[model]
        source = SOURCES[letter]
        assert (credit.source, credit.medium, credit.campaign, credit.channel) == (
            source.source, source.medium, source.campaign, source.channel,
        )  # fmt: skip
        assert (credit.credit, credit.value) == ("1", "49.90")


@pytest.mark.parametrize(
    ("path", "credited", "shares", "values"),
    [
        ("P", "P", ["1"], ["100.00"]),
        ("PD", "P", ["1"], ["100.00"]),
        ("PE", "PE", ["0.5", "0.5"], ["50.00", "50.00"]),
        ("PES", "PES", ["0.333333333334", "0.333333333333", "0.333333333333"], ["33.34", "33.33", "33.33"]),
        ("PDESD", "PES", ["0.333333333334", "0.333333333333", "0.333333333333"], ["33.34", "33.33", "33.33"]),
        ("DD", "DD", ["0.5", "0.5"], ["50.00", "50.00"]),
        ("PPE", "PPE", ["0.333333333334", "0.333333333333", "0.333333333333"], ["33.34", "33.33", "33.33"]),
    ],
)
def test_linear(path: str, credited: str, shares: list[str], values: list[str]) -> None:
    """1/n each; what is left of the last digit goes to the earlier; direct gets nothing unless all are direct."""
    found = credited_by(touchpoints(path))["linear"]
    assert letters(found) == credited
    assert [share.credit for share in found] == shares
    assert [share.value for share in found] == values


@pytest.mark.parametrize(
    ("path", "shares"),
    [
        ("P", ["1"]),
        ("PE", ["0.5", "0.5"]),
        ("PES", ["0.4", "0.2", "0.4"]),
        ("PESA", ["0.4", "0.1", "0.1", "0.4"]),
        ("PESAV", ["0.4", "0.066666666667", "0.066666666667", "0.066666666666", "0.4"]),
        ("PDES", ["0.4", "0.2", "0.4"]),
        ("DDD", ["0.4", "0.2", "0.4"]),
    ],
)
def test_position_based(path: str, shares: list[str]) -> None:
    """40 %, 20 % shared by those between, 40 %; half and half of two."""
    assert [share.credit for share in credited_by(touchpoints(path))["position_based"]] == shares


def test_time_decay_of_touches_0_7_14_and_28_days_old() -> None:
    """The golden row: 1 : .5 : .25 : .0625 = 55.17 / 27.59 / 13.79 / 3.45 %."""
    found = credited_by(touchpoints("PESA", (28, 14, 7, 0)), "10000")["time_decay"]
    assert [share.credit for share in found] == ["0.034482758621", "0.137931034483", "0.275862068965", "0.551724137931"]
    assert [share.value for share in found] == ["344.83", "1379.31", "2758.62", "5517.24"]
    assert [f"{float(share.credit):.2%}" for share in reversed(found)] == ["55.17%", "27.59%", "13.79%", "3.45%"]


def test_textbook_form_counts_direct() -> None:
    """count_direct = true: everybody on the path, in linear, position and decay; last_non_direct stays what it is."""
    found = credited_by(touchpoints("PDD"), count_direct=True)
    assert [letters(found[model]) for model in ("linear", "position_based", "time_decay")] == ["PDD"] * 3
    assert [share.credit for share in found["position_based"]] == ["0.4", "0.2", "0.4"]
    assert letters(found["last_non_direct"]) == "P"


def test_without_any_touchpoint_the_source_is_not_determined() -> None:
    """Semantics 32: one credit, so that sums still hold, in every model, those of the settings too."""
    found = credited_by([], "5", "JPY", custom_models=(CustomModel("ours"),))
    assert list(found) == [*BUILT_IN, "ours"]
    for (credit,) in found.values():
        assert (credit.source, credit.medium, credit.channel) == ("(not determined)", "(not set)", "Not determined")
        assert (credit.credit, credit.value) == ("1", "5")


def test_a_conversion_without_value_has_credit_without_value() -> None:
    """Nothing is made up."""
    for shares in credited_by(touchpoints("PES"), None).values():
        assert {share.value for share in shares} == {None}


@pytest.mark.parametrize(
    ("value", "currency", "values"),
    [
        ("100", "JPY", ["34", "33", "33"]),
        ("2", "JPY", ["1", "1", "0"]),
        ("0.5", "JPY", ["1", "0", "0"]),
        ("10", "KWD", ["3.334", "3.333", "3.333"]),
        ("0.001", "KWD", ["0.001", "0.000", "0.000"]),
        ("0.005", "EUR", ["0.01", "0.00", "0.00"]),
        ("0", "EUR", ["0.00", "0.00", "0.00"]),
        ("999999999999999.99", "EUR", ["333333333333333.33"] * 3),
    ],
)
def test_money_is_divided_in_whole_minor_units(value: str, currency: str, values: list[str]) -> None:
    """None, two and three decimals; rounded half-up before it is divided."""
    assert [share.value for share in credited_by(touchpoints("PES"), value, currency)["linear"]] == values


# --- path transforms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "path", "left"),
    [
        ("none", "PPEP", "PPEP"),
        ("exposure", "PPEP", "PEP"),
        ("exposure", "PDP", "P"),  # direct is dropped first
        ("exposure", "PQP", "PQP"),  # another campaign is another touchpoint
        ("unique", "PPEP", "EP"),
        ("unique", "ESEP", "SEP"),
        ("first", "PPEP", "PE"),
        ("first", "ESEP", "ESP"),
        ("first", "DDD", "D"),
    ],
)
def test_path_transforms(how: PathTransform, path: str, left: str) -> None:
    """Before the model, after direct was dropped (semantics 32)."""
    assert letters(credited_by(touchpoints(path), path_transform=how)["linear"]) == left


def test_a_transform_comes_before_every_model() -> None:
    """Also before those that give all to one: with `first`, a path ends where something new came last."""
    found = credited_by(touchpoints("PEDP"), path_transform="first")
    assert {model: letters(found[model]) for model in BUILT_IN[:3]} == {
        "last_non_direct": "E", "last_click": "D", "first_click": "P",
    }  # fmt: skip


@pytest.mark.parametrize(("how", "first_is"), [("exposure", 20), ("first", 20), ("unique", 0)])
def test_of_equal_touchpoints_one_stands_with_its_own_time(how: PathTransform, first_is: int) -> None:
    """The first of a run, the first at all, or the last: time decay sees its age."""
    named = paths.TRANSFORMS[how](touchpoints("PP", (20, 0)))
    assert [AT - touchpoint.at for touchpoint in named] == [first_is * DAY_MS]


# --- custom models -------------------------------------------------------------------------------------

OURS = CustomModel("ours", Position(Decimal("0.3"), Decimal("0.3"), Decimal("0.4")))


@pytest.mark.parametrize(
    ("model", "path", "ages", "wanted"),
    [
        (OURS, "P", (), {"P": "1"}),
        (OURS, "PE", (), {"P": "0.428571428571", "E": "0.571428571429"}),
        (OURS, "PESA", (), {"P": "0.3", "E": "0.15", "S": "0.15", "A": "0.4"}),
        (OURS, "PDED", (), {"P": "0.428571428571", "E": "0.571428571429"}),
        (
            msgspec.structs.replace(OURS, multipliers={"Organic Social": Decimal("0.5")}),
            "PSE",
            (),
            {"P": "0.352941176471", "S": "0.176470588235", "E": "0.470588235294"},
        ),
        (CustomModel("ours"), "PE", (), {"P": "0.5", "E": "0.5"}),
        (CustomModel("ours", count_direct=True), "PD", (), {"P": "0.5", "D": "0.5"}),
        (CustomModel("ours", half_life_days=Decimal(1)), "PE", (1, 0), {"P": "0.333333333333", "E": "0.666666666667"}),
        (CustomModel("ours", half_life_days=Decimal("0.5")), "PE", (1, 0), {"P": "0.2", "E": "0.8"}),
        (CustomModel("ours", lookback_days=7), "PES", (8, 7, 1), {"E": "0.5", "S": "0.5"}),
        (CustomModel("ours", multipliers={"Email": Decimal(0)}), "PE", (), {"P": "1"}),
    ],
)
def test_custom_models(model: CustomModel, path: str, ages: tuple[float, ...], wanted: dict[str, str]) -> None:
    """Position × factor × decay, normalised (semantics 33)."""
    found = credited_by(touchpoints(path, ages), custom_models=(model,))["ours"]
    assert {letter: share.credit for letter, share in zip(letters(found), found, strict=True)} == wanted


def test_factors_by_rule_come_before_those_by_channel() -> None:
    """The first rule that matches; letter case does not matter."""
    rules = (
        FactorRule(Decimal(3), all=(Condition("campaign", contains="BRAND"),)),
        FactorRule(Decimal(5), all=(Condition("source", equals="google"),)),
    )
    model = CustomModel("ours", multipliers={"Paid Search": Decimal(9), "Email": Decimal(2)}, rules=rules)
    found = credited_by(touchpoints("QPES"), custom_models=(model,))["ours"]
    assert [Fraction(share.credit) * 11 for share in found] == pytest.approx([3, 5, 2, 1])


@pytest.mark.parametrize("path", ["PED", "PE", "D"])
def test_where_all_weights_are_zero_a_custom_model_is_last_click(path: str) -> None:
    """Semantics 33; direct included, as in last_click."""
    model = CustomModel("ours", Position(Decimal(0), Decimal(1), Decimal(0)))
    nothing = CustomModel("none", multipliers=dict.fromkeys(["Paid Search", "Email", "Direct"], Decimal(0)))
    found = credited_by(touchpoints(path), custom_models=(model, nothing))
    assert found["none"] == found["last_click"]
    if len(path) > 1:
        assert found["ours"] == found["last_click"]


def test_what_is_older_than_a_models_own_lookback_is_not_determined() -> None:
    """Inclusive to the millisecond, like every lookback."""
    model = CustomModel("ours", lookback_days=7)
    at_the_edge = [Touchpoint(AT - 7 * DAY_MS, "s", SOURCES["P"])]
    assert credited_by(at_the_edge, custom_models=(model,))["ours"][0].channel == "Paid Search"
    beyond = [Touchpoint(AT - 7 * DAY_MS - 1, "s", SOURCES["P"])]
    found = credited_by(beyond, custom_models=(model,))
    assert (found["ours"][0].channel, found["linear"][0].channel) == ("Not determined", "Paid Search")


@pytest.mark.parametrize(("half_life", "shares"), [("7", {"P": "0", "E": "1"}), ("0.001", {"E": "1"})])
def test_what_is_less_than_half_of_the_last_decimal_is_none(half_life: str, shares: dict[str, str]) -> None:
    """A year of weeks leaves a weight that has no share of twelve decimals; thousands of half-lives leave none."""
    model = CustomModel("ours", half_life_days=Decimal(half_life))
    found = credited_by(touchpoints("PE", (350, 0)), custom_models=(model,))["ours"]
    assert {letter: share.credit for letter, share in zip(letters(found), found, strict=True)} == shares


def test_the_newest_that_counts_never_fades() -> None:
    """Ages count from it: years of half-lives leave something to normalise."""
    model = CustomModel("ours", multipliers={"Email": Decimal(0)}, half_life_days=Decimal("0.001"))
    found = credited_by(touchpoints("PE", (400, 0)), custom_models=(model,))["ours"]
    assert letters(found) == "P"


# --- halving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life", [1, 2, 999, 86_400_000, 604_800_000, 400 * DAY_MS + 1, 3_650 * DAY_MS])
def test_weights_are_halved_exactly_with_every_half_life(half_life: int) -> None:
    """Between halvings they fall, and are right to 125 bits."""
    tables = halving(half_life)

    def weight(age: int) -> int:
        return tables.weights([age])[0]

    for halvings in (0, 1, 7, 57, BITS):
        assert weight(halvings * half_life) == 1 << (BITS - halvings)
    assert weight((BITS + 1) * half_life) == 0
    rng = random.Random(half_life)
    edges = {age for age in (2**15 - 1, 2**15, 2**30 - 1, 2**30) if age < half_life}
    ages = sorted({0, half_life - 1, *edges, *(rng.randrange(half_life) for _ in range(300))})
    weights = [weight(age) for age in ages]
    assert weights == sorted(set(weights), reverse=True)
    for age, found in zip(ages, weights, strict=True):
        assert abs(Fraction(found, 1 << BITS) - halved(age, half_life)) < Fraction(8, 1 << 128)
        assert weight(age + 64 * half_life) * 2**64 == found


def test_equal_weights_are_equal_however_they_come_about() -> None:
    """Half the factor or a half-life more is the same, so that a tie is seen to be one."""
    model = Custom(CustomModel("ours", multipliers={"Email": Decimal("0.5")}, half_life_days=Decimal(7)))
    for odd in range(1, 500):
        path = touchpoints("PES", (7 + odd / 1_000, odd / 1_000, 0))
        first, second, _ = model.weights(path)
        assert first == second


# --- properties ----------------------------------------------------------------------------------------

AMOUNTS = st.one_of(
    st.none(),
    st.decimals(min_value=0, max_value=10**15 - 1, places=9, allow_nan=False, allow_infinity=False),
    st.sampled_from([Decimal(text) for text in ("0", "0.001", "0.005", "0.01", "0.02", "0.07", "1", "99.99", "100")]),
)
CURRENCIES = st.sampled_from(("EUR", "JPY", "KWD", "CLF"))
FACTORS = st.sampled_from([Decimal(text) for text in ("0", "0.1", "0.3", "0.5", "1", "1.7", "33", "0.0001")])
AGES = st.one_of(st.integers(0, 90 * DAY_MS), st.integers(0, 12).map(lambda weeks: weeks * 7 * DAY_MS), st.just(0))
PATHS = st.lists(st.tuples(AGES, st.sampled_from(list(SOURCES))), max_size=14).map(
    lambda drawn: [Touchpoint(AT - age, "s", SOURCES[letter]) for age, letter in sorted(drawn, key=lambda d: -d[0])]
)
CUSTOM = st.builds(
    CustomModel,
    name=st.just("ours"),
    position=st.none() | st.builds(Position, FACTORS, FACTORS, FACTORS),
    multipliers=st.dictionaries(st.sampled_from(("Paid Search", "Email", "Direct", "Organic Social")), FACTORS),
    rules=st.lists(
        st.builds(
            FactorRule,
            factor=FACTORS,
            all=st.sampled_from(("brand", "may", "nothing")).map(lambda text: (Condition("campaign", contains=text),)),
        ),
        max_size=2,
    ).map(tuple),
    half_life_days=st.none() | st.sampled_from([Decimal("0.5"), Decimal(7), Decimal(30)]),
    count_direct=st.booleans(),
    lookback_days=st.none() | st.sampled_from((1, 7, 30)),
)
RULES = st.builds(
    AttributionRules,
    count_direct=st.booleans(),
    path_transform=st.sampled_from(("none", "exposure", "unique", "first")),
    custom_models=st.tuples(CUSTOM),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(PATHS, AMOUNTS, CURRENCIES, RULES)
@example(touchpoints("PESA", (28, 14, 7, 0)), Decimal("0.03"), "EUR", AttributionRules())
def test_generated_paths_agree_with_formulas_written_anew(
    path: list[Touchpoint], value: Decimal | None, currency: str, rules: AttributionRules
) -> None:
    """Every model to the last digit; and credits sum to exactly 1, money to exactly the value as it is shown."""
    found = CreditModels(rules).credits(path, AT, value, currency)
    wanted = credits_by_hand([(point.at, point.source) for point in path], AT, value, currency, rules)
    assert msgspec.json.decode(msgspec.json.encode(found)) == wanted
    for shares in found.values():
        assert sum(Fraction(share.credit) for share in shares) == 1
        if value is not None:
            total = value.quantize(money.minor_unit(currency), ROUND_HALF_UP)
            assert sum(Decimal(share.value) for share in shares if share.value is not None) == total


# --- around credit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "assisting"),
    [
        ("P", ()),
        ("PD", ()),
        ("PE", ("Paid Search",)),
        ("EPE", ("Paid Search",)),
        ("SPSED", ("Organic Social", "Paid Search")),
        ("DD", ()),
        ("", ()),
    ],
)
def test_channels_assist_once_and_never_direct(path: str, assisting: tuple[str, ...]) -> None:
    """Semantics 34."""
    touched = touchpoints(path)
    credited = credited_by(touched)["last_non_direct"][0].channel
    assert paths.assisting_channels(touched, credited) == assisting


def test_names_of_built_in_models_are_taken() -> None:
    """The settings refuse each for a model of one's own."""
    for name in BUILT_IN:
        section = msgspec.convert({"custom_models": [{"name": name}]}, Attribution)
        assert list(section.problems())


def test_custom_models_of_the_settings_are_taken_as_written() -> None:
    """0.3 is three tenths, not the nearest binary float."""
    text = """
[[attribution.custom_models]]
name = "ours"
position = { first = 0.3, middle = 0.3, last = 0.4 }
multipliers = { "Paid Social" = 0.5 }
half_life_days = 0.1
lookback_days = 30
[[attribution.custom_models.rules]]
factor = 0.7
all = [{ field = "campaign", contains = "brand" }]
"""
    (model,) = journey_rules(parse(tomllib.loads(text))).attribution.custom_models
    assert model == CustomModel(
        "ours",
        Position(Decimal("0.3"), Decimal("0.3"), Decimal("0.4")),
        {"Paid Social": Decimal("0.5")},
        (FactorRule(Decimal("0.7"), all=(Condition("campaign", contains="brand"),)),),
        Decimal("0.1"),
        lookback_days=30,
    )
