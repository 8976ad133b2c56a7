"""Settings with other rules than those the stored lots were derived by: told at the start, until it is mended."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from command_line import harvestd
from conftest import Staged
from small_house import DAYS, HISTORY, Stage

from daemon.lots_check import compare, rebuild
from daemon.opening import working_world
from daemon.policy_check import FACT, INCIDENT, check_policy, in_words
from daemon.settings import Settings
from state.lots import LedgerPolicy
from state.records import Transaction, TransactionKind
from state.store import Store


def with_overlap(stage: Stage) -> None:
    """The spouse sells AAA at a loss twenty days after buying more: days on which both lots were held."""
    bought = Transaction(
        transaction_id="old",
        account_id="spouse",
        kind=TransactionKind.BUY,
        trade_date=DAYS[HISTORY - 60],
        source="test",
        symbol="AAA",
        quantity=Decimal(10),
        price=Decimal(50),
    )
    more = replace(bought, transaction_id="new", trade_date=DAYS[HISTORY - 20], price=Decimal(41))
    sold = replace(more, transaction_id="s", kind=TransactionKind.SELL, trade_date=DAYS[HISTORY - 5])
    stage.house.learn([bought, more, sold])


def tacking(stage: Stage, value: str) -> None:
    """The user edits the settings and starts the daemon again."""
    conventions = {"conventions": {"tacking": value}}
    settings = Settings.model_validate(stage.house.settings.model_dump() | {"wash_sales": conventions})
    stage.house.settings = settings
    stage.house.store.meta.put("settings", settings.model_dump_json())
    stage.restart()
    check_policy(stage.house)


def starts(stage: Stage) -> list[date]:
    return [lot.adjusted_acquired for lot in stage.house.store.lots.lots("spouse", "AAA")]


def test_a_first_start_notes_the_rules_and_tells_nothing(staged: Staged) -> None:
    stage = staged()
    with_overlap(stage)
    check_policy(stage.house)
    assert stage.house.store.meta.get(FACT) == in_words(LedgerPolicy())
    assert stage.alerts(INCIDENT) == []


def test_a_change_is_told_once_until_a_rebuild(staged: Staged) -> None:
    """Additive counts the fifteen sessions of both lots twice: the stored start of the lot would be another."""
    stage = staged()
    with_overlap(stage)
    check_policy(stage.house)
    before = starts(stage)
    tacking(stage, "additive")
    assert stage.alerts(INCIDENT) == ["raised"]
    message = stage.house.store.alerts.list(most=1)[0].message
    assert "(tacking was union, is additive): 0 realized rows and 1 open lots would differ" in message
    assert "harvestd ledger rebuild" in message
    assert starts(stage) == before, "nothing that was reported is changed by starting"
    assert compare(stage.house.store).differences, "`ledger verify` reports it too"

    stage.restart()
    check_policy(stage.house)
    assert stage.alerts(INCIDENT) == ["raised"]

    rebuild(stage.house.store, stage.house.settings, stage.house.clock.now())
    stage.restart()
    check_policy(stage.house)
    assert stage.alerts(INCIDENT) == ["raised", "recovered"]
    overlap = DAYS[HISTORY - 5] - DAYS[HISTORY - 20]
    assert starts(stage) == [before[0] - overlap]
    assert overlap > timedelta(days=14)


def test_putting_the_old_settings_back_ends_it(staged: Staged) -> None:
    stage = staged()
    with_overlap(stage)
    check_policy(stage.house)
    tacking(stage, "additive")
    tacking(stage, "union")
    assert stage.alerts(INCIDENT) == ["raised", "recovered"]


def test_putting_them_back_does_not_hide_what_was_written_in_between(staged: Staged) -> None:
    """A rebuild under the other rule, and then the user thinks better of it."""
    stage = staged()
    with_overlap(stage)
    check_policy(stage.house)
    tacking(stage, "additive")
    rebuild(stage.house.store, stage.house.settings, stage.house.clock.now())
    tacking(stage, "union")
    assert stage.alerts(INCIDENT) == ["raised"]
    rebuild(stage.house.store, stage.house.settings, stage.house.clock.now())
    check_policy(stage.house)
    assert stage.alerts(INCIDENT) == ["raised", "recovered"]


def test_a_change_without_effect_is_not_told(staged: Staged) -> None:
    stage = staged()
    check_policy(stage.house)
    tacking(stage, "additive")
    assert stage.alerts(INCIDENT) == []
    assert '"tacking": "additive"' in (stage.house.store.meta.get(FACT) or "")


def test_rules_in_words_do_not_depend_on_the_order_of_groups() -> None:
    one = LedgerPolicy(identical_groups=(frozenset({"B", "A"}), frozenset({"D", "C"})))
    other = LedgerPolicy(identical_groups=(frozenset({"C", "D"}), frozenset({"A", "B"})))
    assert in_words(one) == in_words(other) != in_words(LedgerPolicy())


def test_the_daemon_looks_whenever_it_opens_the_household(demo_copy: Path) -> None:
    """The demo's own rules were never noted as others: nothing differs, so they are noted and nothing is told."""
    store = Store.open(demo_copy)
    store.meta.put(FACT, "{}")
    store.close()
    with working_world(demo_copy) as world:
        assert world.house.store.meta.get(FACT) == in_words(LedgerPolicy())
    assert harvestd("once", "--db", demo_copy).code == 0
