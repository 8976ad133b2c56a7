"""Which losses are taken. Prices are 90 unless said; rates 40.8 % short and 23.8 % long; sigma 1.6 %: trigger 7 %."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal as D  # noqa: N817

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.reasons import ReasonCode
from state.records import Lot, TradeReason
from strategy.scan import blocked_losses, scan
from strategy.types import BlockedLoss, HarvestPolicy, Opportunity, TaxProfile, WashMasks

TODAY = date(2026, 11, 20)
PROFILE = TaxProfile(short_term_rate=0.408, long_term_rate=0.238)
SPARE = {"XYZ": ("PEER", "OTHER")}


def lot(
    lot_id: str, price: str, *, days: int = 100, quantity: str = "100", symbol: str = "XYZ", known: bool = True
) -> Lot:
    """`quantity` shares bought at `price` `days` ago."""
    acquired = TODAY - timedelta(days=days)
    return Lot(lot_id, "acct", symbol, acquired, acquired, D(quantity), D(quantity) * D(price), basis_known=known)


def scanned(
    *queue: Lot,
    price: str = "90",
    sigma: float = 0.016,
    masks: WashMasks = WashMasks(),  # noqa: B008  frozen
    replacements: Mapping[str, tuple[str, ...]] = SPARE,
    homes: Mapping[str, str] | None = None,
    locked: Sequence[str] = (),
    profile: TaxProfile = PROFILE,
    policy: HarvestPolicy = HarvestPolicy(),  # noqa: B008  frozen
    ordered: bool = True,
) -> Opportunity:
    """The only opportunity of XYZ."""
    (found,) = scan(
        today=TODAY,
        queues={"XYZ": queue},
        prices={"XYZ": D(price)},
        volatility={"XYZ": sigma},
        masks=masks,
        replacements=replacements,
        homes=homes or {},
        locked=frozenset(locked),
        profile=profile,
        policy=policy,
        ordered=ordered,
    )
    return found


def ids(found: Opportunity) -> list[str]:
    return [each.lot_id for each in found.lots]


def test_a_deep_short_term_loss_is_taken() -> None:
    found = scanned(lot("A", "100"))
    assert found.taken
    assert found.verdict.code is ReasonCode.HARVEST_TAKEN
    assert ids(found) == ["A"]
    assert found.loss_usd == found.gross_loss_usd == 1000
    assert found.tax_value_usd == D("408.000")
    assert found.loss_fraction == pytest.approx(0.10)
    assert found.trigger_fraction == pytest.approx(0.0695, abs=0.0005)
    assert found.days_held == 100
    assert found.replacements == ("PEER", "OTHER")
    assert found.reason is TradeReason.HARVEST


def test_a_shallow_loss_waits_and_says_how_far_it_has_to_go() -> None:
    found = scanned(lot("A", "94"))
    assert not found.taken
    assert str(found.verdict).startswith("HARVEST_BELOW_TRIGGER: loss=0.0426 trigger=0.069")
    assert found.loss_usd == 400


def test_the_same_loss_is_taken_shortly_before_one_year_and_after_it() -> None:
    assert not scanned(lot("A", "94", days=200)).taken
    assert scanned(lot("A", "94", days=355)).taken
    long_term = scanned(lot("A", "94", days=400))
    assert long_term.taken
    assert long_term.tax_value_usd == D("95.200")  # at the long-term rate


def test_the_tacked_date_decides_the_term_not_the_purchase() -> None:
    bought = TODAY - timedelta(days=40)
    tacked = Lot("A", "acct", "XYZ", bought, TODAY - timedelta(days=400), D(100), D(9100))
    found = scanned(tacked)
    assert found.taken  # 1.1 %, long-term
    assert found.days_held == 40


def test_a_name_without_a_loss_is_not_mentioned() -> None:
    assert not scan(
        today=TODAY,
        queues={"XYZ": [lot("A", "80"), lot("B", "90")], "EMPTY": []},
        prices={"XYZ": D(90)},
        volatility={},
        masks=WashMasks(),
        replacements={},
        homes={},
        locked=frozenset(),
        profile=PROFILE,
        policy=HarvestPolicy(),
    )


# ------------------------------------------------------------------ relief order


def test_a_gain_in_front_is_sold_too_when_the_loss_is_worth_it() -> None:
    """The example of strategy.appraisal: 1,020 saved, 476 paid, a round trip of 18."""
    found = scanned(lot("A", "70", days=800), lot("B", "115"))
    assert found.taken
    assert ids(found) == ["A", "B"]
    assert found.tax_value_usd == D("544.000")
    assert found.gross_loss_usd == 2500
    assert found.loss_usd == 500
    assert found.loss_fraction == pytest.approx(500 / 18500)


def test_a_net_loss_of_nothing_is_no_harvest() -> None:
    found = scanned(lot("A", "70", days=800), lot("B", "110"))
    assert found.loss_usd == 0
    assert not found.taken
    assert found.verdict.code is ReasonCode.RELIEF_BEHIND_GAINS


def test_a_loss_behind_larger_gains_is_out_of_reach() -> None:
    found = scanned(lot("A", "40", days=800), lot("B", "110"))
    assert not found.taken
    assert str(found.verdict) == "RELIEF_BEHIND_GAINS: gains_in_front=5000.00 loss=2000.00"


def test_the_prefix_of_highest_value_is_taken_not_the_longest() -> None:
    queue = (lot("A", "120"), lot("B", "50", days=800), lot("C", "100"))
    assert ids(scanned(*queue)) == ["A"]  # C would add 408 and cost 952 of tax on B
    assert ids(scanned(lot("A", "120"), lot("B", "85", days=800), lot("C", "100"))) == ["A", "B", "C"]


def test_a_loss_below_its_trigger_is_sold_with_the_others_but_earns_nothing() -> None:
    found = scanned(lot("A", "92"), lot("B", "110"))
    assert ids(found) == ["A", "B"]
    assert found.gross_loss_usd == 2200
    assert found.tax_value_usd == D("816.000")


@pytest.mark.parametrize("ordered", [True, False])
def test_a_lot_that_does_not_earn_its_own_round_trip_is_not_added(ordered: bool) -> None:
    dear = HarvestPolicy(round_trip_cost_bps=20)
    barely = lot("B", "90.6", days=800, quantity="1000")  # past 0.6 %; saves 143 USD and costs 180
    assert ids(scanned(lot("A", "110"), barely, policy=dear, ordered=ordered)) == ["A"]


def test_a_loss_exactly_at_its_trigger_is_taken() -> None:
    found = scanned(lot("A", "100", days=800, quantity="200"), price="99.4")
    assert found.loss_fraction == 0.006
    assert found.taken


def test_nothing_behind_the_last_triggered_loss_is_sold() -> None:
    assert ids(scanned(lot("A", "110"), lot("B", "92"), lot("C", "70"))) == ["A"]


def test_an_account_that_names_its_lots_takes_every_triggered_loss_and_nothing_else() -> None:
    queue = (lot("A", "40", days=800), lot("B", "110"), lot("C", "92"), lot("D", "100"))
    assert not scanned(*queue).taken
    found = scanned(*queue, ordered=False)
    assert found.taken
    assert ids(found) == ["B", "D"]
    assert found.loss_usd == 3000


# ------------------------------------------------------------------ what forbids it


def test_a_purchase_in_the_window_forbids_it_and_says_until_when() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 5), "bought 2026-11-05 in ira")})
    found = scanned(lot("A", "110"), masks=masks)
    assert str(found.verdict) == "WASH_PURCHASE_IN_WINDOW: until=2026-12-05 why=bought 2026-11-05 in ira"
    assert found.tax_value_usd == D("816.000")


def test_no_free_replacement_no_harvest() -> None:
    found = scanned(lot("A", "110"), replacements={})
    assert found.verdict.code is ReasonCode.REPLACEMENT_NONE_FREE
    assert found.loss_usd == 2000


def test_a_locked_symbol_is_left_alone() -> None:
    assert scanned(lot("A", "110"), locked=["XYZ"]).verdict.code is ReasonCode.SYMBOL_LOCKED


def test_a_loss_below_the_least_amount_is_left() -> None:
    found = scanned(lot("A", "100", quantity="9"))
    assert str(found.verdict) == "HARVEST_TOO_SMALL: loss=90.00 minimum=100 value=36.72 cost=0.81"


def test_a_loss_worth_less_than_the_round_trip_is_left() -> None:
    dear = HarvestPolicy(round_trip_cost_bps=300, minimum_loss_usd=D(1))
    found = scanned(lot("A", "97", days=400), policy=dear)
    assert found.verdict.code is ReasonCode.HARVEST_TOO_SMALL  # 7 x 23.8 % = 1.67 against 2.70 a share


def test_losses_in_front_that_cost_more_to_sell_than_the_rest_saves_are_not_gains() -> None:
    waiting = lot("A", "92", quantity="10000")  # below its trigger: 900,000 USD to trade, earning nothing
    found = scanned(waiting, lot("B", "100", quantity="20"))
    assert str(found.verdict) == "HARVEST_TOO_SMALL: loss=20200.00 minimum=100 value=81.60 cost=901.80"


def test_unknown_volatility_stops_what_depends_on_it() -> None:
    assert scanned(lot("A", "110"), sigma=math.nan).verdict.code is ReasonCode.DATA_HISTORY_SHORT
    assert scanned(lot("A", "110", days=800), sigma=math.nan).taken


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity"])
def test_a_price_that_is_not_one_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="positive price"):
        scanned(lot("A", "110"), price=price)


# ------------------------------------------------------------------ unknown basis


def test_a_lot_of_unknown_basis_is_never_sold_and_ends_an_ordered_queue() -> None:
    behind = scanned(lot("A", "0", known=False), lot("B", "110"))
    assert behind.verdict.code is ReasonCode.HARVEST_BASIS_UNKNOWN
    in_front = scanned(lot("B", "110"), lot("A", "0", known=False), lot("C", "110"))
    assert ids(in_front) == ["B"]
    free = scanned(lot("A", "0", known=False), lot("B", "110"), ordered=False)
    assert ids(free) == ["B"]


def test_a_lot_of_unknown_basis_alone_is_shown_as_such() -> None:
    found = scanned(lot("A", "0", known=False))
    assert found.verdict.code is ReasonCode.HARVEST_BASIS_UNKNOWN
    assert found.lots == ()
    assert found.loss_usd == 0


# ------------------------------------------------------------------ replacements going home


def test_a_parked_replacement_goes_home_at_0_6_percent() -> None:
    found = scanned(lot("A", "91"), homes={"A": "HOME"}, replacements={})
    assert found.taken
    assert found.reason is TradeReason.HOMECOMING
    assert found.replacements == ("HOME",)
    assert found.trigger_fraction == pytest.approx(0.006)


@pytest.mark.parametrize("why", ["window", "locked"])
def test_it_does_not_go_home_while_home_is_locked(why: str) -> None:
    masks = WashMasks(no_buy={"HOME": (date(2026, 12, 1), "sold at a loss")}) if why == "window" else WashMasks()
    locked = ["HOME"] if why == "locked" else []
    found = scanned(lot("A", "91"), homes={"A": "HOME"}, masks=masks, locked=locked)
    assert found.verdict.code is ReasonCode.HARVEST_BELOW_TRIGGER
    assert found.trigger_fraction == pytest.approx(1.09 * 0.0695, abs=0.001)
    deep = scanned(lot("A", "110"), homes={"A": "HOME"}, masks=masks, locked=locked)
    assert deep.reason is TradeReason.HARVEST
    assert deep.replacements == ("PEER", "OTHER")


def test_a_mixture_of_own_and_parked_lots_is_a_harvest() -> None:
    found = scanned(lot("A", "92"), lot("B", "110"), homes={"A": "HOME"})
    assert ids(found) == ["A", "B"]
    assert found.reason is TradeReason.HARVEST
    assert found.tax_value_usd == D("897.600")  # both count: A is past 0.6 %
    only_home = scanned(lot("A", "92"), lot("B", "110"), homes={"A": "HOME"}, replacements={})
    assert ids(only_home) == ["A"]
    assert only_home.reason is TradeReason.HOMECOMING


# ------------------------------------------------------------------ profiles


def test_without_short_term_gains_losses_are_worth_the_long_term_rate_and_wait_for_ten_percent() -> None:
    profile = TaxProfile(short_term_rate=0.408, long_term_rate=0.238, has_short_term_gains=False)
    assert not scanned(lot("A", "98"), profile=profile).taken  # 8.2 %
    assert not scanned(lot("A", "98", days=800), profile=profile).taken
    found = scanned(lot("A", "101"), profile=profile)
    assert found.taken
    assert found.tax_value_usd == D("261.800")


# ------------------------------------------------------------------ blocked losses


def test_blocked_losses_stand_behind_a_gain() -> None:
    queues = {
        "FREE": [lot("A", "110", symbol="FREE"), lot("B", "70", symbol="FREE")],
        "XYZ": [lot("C", "110"), lot("D", "70"), lot("E", "100"), lot("F", "95"), lot("G", "60")],
        "NOPRICE": [lot("H", "70", symbol="NOPRICE"), lot("I", "100", symbol="NOPRICE")],
    }
    prices = {"FREE": D(90), "XYZ": D(90)}
    assert blocked_losses(queues, prices) == (BlockedLoss("XYZ", D(1500), D(2000)),)


def test_unknown_basis_neither_blocks_nor_is_blocked() -> None:
    queue = [lot("A", "0", known=False), lot("B", "110"), lot("C", "80"), lot("D", "0", known=False)]
    assert blocked_losses({"XYZ": queue}, {"XYZ": D(90)}) == ()


# ------------------------------------------------------------------ laws

LOTS = st.builds(
    lambda price, days, quantity, known: (price, days, quantity, known),
    st.integers(40, 160),
    st.integers(1, 900),
    st.integers(1, 200),
    st.sampled_from([True] * 9 + [False]),
)


@given(raw=st.lists(LOTS, min_size=1, max_size=8), parked=st.booleans(), masked=st.booleans(), ordered=st.booleans())
def test_what_is_taken_can_be_sold_pays_for_itself_and_is_a_loss(
    raw: list[tuple[int, int, int, bool]], parked: bool, masked: bool, ordered: bool
) -> None:
    queue = [
        lot(f"L{place}", str(price), days=days, quantity=str(quantity), known=known)
        for place, (price, days, quantity, known) in enumerate(raw)
    ]
    masks = WashMasks(no_loss_sale={"XYZ": (TODAY, "bought today")}) if masked else WashMasks()
    policy = HarvestPolicy()
    found = scan(
        today=TODAY,
        queues={"XYZ": queue},
        prices={"XYZ": D(90)},
        volatility={"XYZ": 0.016},
        masks=masks,
        replacements=SPARE,
        homes={"L0": "HOME"} if parked else {},
        locked=frozenset(),
        profile=PROFILE,
        policy=policy,
        ordered=ordered,
    )
    has_loss = any(not each.basis_known or each.basis_per_share > 90 for each in queue)
    assert len(found) == int(has_loss)
    for each in found:
        if ordered:
            assert list(each.lots) == queue[: len(each.lots)]
        if not each.taken:
            continue
        value = sum((one.quantity * 90 for one in each.lots), D(0))
        assert each.tax_value_usd > value * D("0.001")
        assert each.loss_usd >= policy.minimum_loss_usd
        assert each.loss_usd <= each.gross_loss_usd
        assert each.lots[-1].basis_per_share > 90
        assert all(one.basis_known for one in each.lots)
        assert each.replacements
        assert not masked


@given(
    raw=st.lists(LOTS, min_size=1, max_size=8),
    parked=st.booleans(),
    ordered=st.booleans(),
    names=st.sampled_from([("OTHER",), ("OTHER", "THIRD"), ("THIRD",)]),
)
def test_other_names_to_buy_change_nothing_else_of_the_answer(
    raw: list[tuple[int, int, int, bool]], parked: bool, ordered: bool, names: tuple[str, ...]
) -> None:
    queue = [
        lot(f"L{place}", str(price), days=days, quantity=str(quantity), known=known)
        for place, (price, days, quantity, known) in enumerate(raw)
    ]
    queue.append(lot("Z", "95"))  # so that there is a loss
    homes = {"L0": "HOME"} if parked else {}
    first = scanned(*queue, homes=homes, ordered=ordered, replacements={"XYZ": ("FIRST", "SECOND")})
    again = scanned(*queue, homes=homes, ordered=ordered, replacements={"XYZ": names})
    assert first.with_replacements(names) == again
