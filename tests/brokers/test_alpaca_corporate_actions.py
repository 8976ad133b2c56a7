"""What issuers did, in the words of Alpaca's data service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from stub_alpaca import StubAlpaca, stubbed_reader

from brokers.alpaca import AlpacaReader
from brokers.errors import BrokerUnavailable
from state.records import CorporateAction, CorporateActionKind, CorporateNotice

D = Decimal
K = CorporateActionKind
MARKET_DATA_API = Path(__file__).parents[1] / "loopback" / "openapi" / "market-data.json"
START, END = date(2023, 1, 1), date(2023, 12, 31)

# One row of each type, as the specification shows them, without CUSIPs.
ROWS = {
    "forward_split": {"id": "1", "symbol": "SRE", "new_rate": 2, "old_rate": 1, "ex_date": "2023-08-22"},
    "reverse_split": {"id": "2", "symbol": "MNTS", "new_rate": 1, "old_rate": 50, "ex_date": "2023-08-24"},
    "unit_split": {
        "id": "3",
        "old_symbol": "TPBAU",
        "old_rate": 1,
        "new_symbol": "LVRO",
        "new_rate": 1,
        "alternate_symbol": "LVROW",
        "alternate_rate": 0.3333,
        "effective_date": "2023-03-01",
        "process_date": "2023-03-01",
    },
    "cash_dividend": {"id": "4", "symbol": "FCF", "rate": 0.125, "ex_date": "2023-05-04", "process_date": "2023-05-19"},
    "stock_dividend": {"id": "5", "symbol": "MSBC", "rate": 0.05, "ex_date": "2023-05-19"},
    "spin_off": {
        "id": "6",
        "source_symbol": "JUPW",
        "source_rate": 19.35,
        "new_symbol": "SRM",
        "new_rate": 1,
        "ex_date": "2023-08-15",
    },
    "cash_merger": {"id": "7", "acquiree_symbol": "GLOP", "rate": 5.37, "effective_date": "2023-07-17"},
    "stock_merger": {
        "id": "8",
        "acquiree_symbol": "LSI",
        "acquiree_rate": 1,
        "acquirer_symbol": "EXR",
        "acquirer_rate": 0.895,
        "effective_date": "2023-07-20",
    },
    "stock_and_cash_merger": {
        "id": "9",
        "acquiree_symbol": "MLVF",
        "acquiree_rate": 1,
        "acquirer_symbol": "FRBA",
        "acquirer_rate": 0.7733,
        "cash_rate": 7.8,
        "effective_date": "2023-07-18",
    },
    "redemption": {"id": "10", "symbol": "ORPHY", "rate": 0.141134, "process_date": "2023-06-13"},
    "name_change": {"id": "11", "old_symbol": "BSAQ", "new_symbol": "VFS", "process_date": "2023-08-15"},
    "worthless_removal": {"id": "12", "symbol": "BLPH", "process_date": "2023-12-19"},
    "rights_distribution": {
        "id": "13",
        "source_symbol": "IFN",
        "new_symbol": "IFN.RTWI",
        "rate": 1,
        "ex_date": "2023-04-17",
        "process_date": "2023-04-19",
    },
    "partial_call": {"id": "14", "symbol": "CALL", "process_date": "2023-04-19"},
    "reorganization": {
        "id": "15",
        "symbol": "RORG",
        "effective_date": "2023-04-19",
        "process_date": "2023-04-20",
        "stock_movements": [{"symbol": "NEW", "new_rate": 1, "source_rate": 2}],
    },
}
ACTS = {
    "forward_split": CorporateAction("1", K.SPLIT, "SRE", date(2023, 8, 22), D(2), D(1)),
    "reverse_split": CorporateAction("2", K.SPLIT, "MNTS", date(2023, 8, 24), D(1), D(50)),
    "stock_dividend": CorporateAction("5", K.SPLIT, "MSBC", date(2023, 5, 19), D("1.05"), D(1)),
    "cash_merger": CorporateAction("7", K.CASH_MERGER, "GLOP", date(2023, 7, 17), per_share=D("5.37")),
    "stock_merger": CorporateAction("8", K.STOCK_MERGER, "LSI", date(2023, 7, 20), D("0.895"), D(1), to_symbol="EXR"),
    "name_change": CorporateAction("11", K.SYMBOL_CHANGE, "BSAQ", date(2023, 8, 15), to_symbol="VFS"),
}
FOR_A_PERSON = {
    "unit_split": ("TPBAU", date(2023, 3, 1), "LVRO and LVROW"),
    "spin_off": ("JUPW", date(2023, 8, 15), "shares of SRM are added"),
    "stock_and_cash_merger": ("MLVF", date(2023, 7, 18), "each 1 shares become 0.7733 of FRBA, and cash"),
    "redemption": ("ORPHY", date(2023, 6, 13), "0.141134 USD a share"),
    "worthless_removal": ("BLPH", date(2023, 12, 19), "worthless"),
    "rights_distribution": ("IFN", date(2023, 4, 17), "rights IFN.RTWI"),
    "partial_call": ("CALL", date(2023, 4, 19), "calls some of the shares"),
    "reorganization": ("RORG", date(2023, 4, 19), "exchanged for cash or for other securities"),
}


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


@pytest.fixture
def reader(stub: StubAlpaca) -> Iterator[AlpacaReader]:
    with stubbed_reader(stub) as made:
        yield made


def told(stub: StubAlpaca, reader: AlpacaReader, kind: str, **changes: object) -> tuple[CorporateNotice, ...]:
    """The notices of one row of a type, changed; asked about every symbol of it."""
    row = {name: value for name, value in {**ROWS.get(kind, {}), **changes}.items() if value is not None}
    stub.says("/v1/corporate-actions", {"corporate_actions": {f"{kind}s": [row]}, "next_page_token": None})
    symbols = {value for name, value in row.items() if name.endswith("symbol")}
    return reader.corporate_actions(sorted(symbols), START, END)


@pytest.mark.parametrize("kind", ACTS)
def test_what_the_ledger_has_a_rule_for(stub: StubAlpaca, reader: AlpacaReader, kind: str) -> None:
    act = ACTS[kind]
    assert told(stub, reader, kind) == (CorporateNotice(act.action_id, kind, act.symbol, act.ex_date, act),)


@pytest.mark.parametrize("kind", FOR_A_PERSON)
def test_what_a_person_has_to_look_at(stub: StubAlpaca, reader: AlpacaReader, kind: str) -> None:
    symbol, day, words = FOR_A_PERSON[kind]
    [notice] = told(stub, reader, kind)
    assert (notice.symbol, notice.ex_date, notice.action, notice.needs_person) == (symbol, day, None, True)
    assert words in notice.note


def test_every_documented_type_is_one_or_the_other() -> None:
    documented = json.loads(MARKET_DATA_API.read_text())["components"]["schemas"]["corporate_actions"]["properties"]
    assert {name.removesuffix("s") for name in documented} == {*ACTS, *FOR_A_PERSON, "cash_dividend"} == set(ROWS)


def test_a_cash_dividend_is_cash_a_share_and_nothing_to_the_lots(stub: StubAlpaca, reader: AlpacaReader) -> None:
    expected = CorporateNotice("4", "cash_dividend", "FCF", date(2023, 5, 4), per_share=D("0.125"))
    assert told(stub, reader, "cash_dividend") == (expected,)
    [returned] = told(stub, reader, "cash_dividend", sub_type="return_of_capital")
    assert (returned.per_share, returned.note, returned.needs_person) == (D("0.125"), "return of capital", False)


def test_other_currencies_are_not_dollars(stub: StubAlpaca, reader: AlpacaReader) -> None:
    [dividend] = told(stub, reader, "cash_dividend", currency="EUR")
    assert (dividend.per_share, dividend.note) == (0, "0.125 EUR a share")
    [merger] = told(stub, reader, "cash_merger", currency="EUR")
    assert (merger.action, merger.needs_person) == (None, True)


def test_another_cusip_is_nothing_to_the_lots(stub: StubAlpaca, reader: AlpacaReader) -> None:
    [notice] = told(stub, reader, "name_change", new_symbol="BSAQ")
    assert (notice.action, notice.needs_person, notice.note) == (None, False, "another CUSIP, the same symbol")


def test_a_reverse_split_into_another_symbol_is_for_a_person(stub: StubAlpaca, reader: AlpacaReader) -> None:
    [notice] = told(stub, reader, "reverse_split", new_symbol="MNTX")
    assert (notice.action, notice.needs_person) == (None, True)
    assert "50 into 1 under the symbol MNTX" in notice.note
    [plain] = told(stub, reader, "reverse_split", new_symbol="")
    assert plain.action == ACTS["reverse_split"]


def test_a_type_of_tomorrow_is_for_a_person(stub: StubAlpaca, reader: AlpacaReader) -> None:
    [notice] = told(stub, reader, "moon_landing", id="16", symbol="KO", process_date="2023-02-02", what=[1])
    assert (notice.kind, notice.ex_date, notice.needs_person) == ("moon_landing", date(2023, 2, 2), True)
    assert "Alpaca announces moon landing" in notice.note


def test_words_that_alpaca_leaves_out_are_left_open(stub: StubAlpaca, reader: AlpacaReader) -> None:
    [notice] = told(stub, reader, "redemption", rate=None)
    assert "for ? USD a share" in notice.note


def test_a_split_without_its_ratio_is_not_guessed(stub: StubAlpaca, reader: AlpacaReader) -> None:
    with pytest.raises(BrokerUnavailable, match="forward_splits row 1, new_rate: expected a number, was absent"):
        told(stub, reader, "forward_split", new_rate=None)


def test_what_concerns_other_shares_is_not_told(stub: StubAlpaca, reader: AlpacaReader) -> None:
    """The acquirer's own shares stay as they are, whichever of the two was asked about."""
    by_type = {"stock_mergers": [ROWS["stock_merger"]], "unknown_things": [{"id": "1", "process_date": "2023-01-01"}]}
    stub.says("/v1/corporate-actions", {"corporate_actions": by_type, "next_page_token": None})
    assert reader.corporate_actions(["EXR"], START, END) == ()


def test_what_is_paid_weeks_later_is_found_by_its_ex_date(stub: StubAlpaca, reader: AlpacaReader) -> None:
    dividend = {**ROWS["cash_dividend"], "ex_date": "2023-05-31", "process_date": "2023-08-01"}
    other = {**dividend, "id": "x", "ex_date": "2023-06-01"}
    stub.says("/v1/corporate-actions", {"corporate_actions": {"cash_dividends": [other, dividend]}})
    [notice] = reader.corporate_actions(["FCF"], date(2023, 5, 1), date(2023, 5, 31))
    assert notice.ex_date == date(2023, 5, 31)
    [asked] = stub.queries("/v1/corporate-actions")
    assert (asked["start"], asked["end"], asked["limit"]) == ("2023-04-21", "2023-09-08", "1000")
    assert "types" not in asked


def test_pages_and_chunks_are_read_to_their_end_and_sorted(stub: StubAlpaca, reader: AlpacaReader) -> None:
    rows = [
        {"id": f"{number}", "symbol": f"S{number}", "rate": 1, "ex_date": f"2023-05-{20 - number}"}
        for number in range(3)
    ]
    pages = {
        None: {"corporate_actions": {"cash_dividends": rows[:2]}, "next_page_token": "more"},
        "more": {"corporate_actions": {"cash_dividends": rows[2:], "forward_splits": None}, "next_page_token": None},
    }
    stub.says("/v1/corporate-actions", lambda asked: pages[asked.query.get("page_token")])
    symbols = [f"S{number}" for number in range(201)]
    assert [each.symbol for each in reader.corporate_actions(symbols, START, END)] == ["S2", "S1", "S0"]
    asked = stub.queries("/v1/corporate-actions")
    assert [len(each["symbols"].split(",")) for each in asked] == [200, 200, 1, 1]


def test_a_page_that_leads_to_itself_is_an_error(stub: StubAlpaca, reader: AlpacaReader) -> None:
    stub.says("/v1/corporate-actions", {"corporate_actions": {}, "next_page_token": "again"})
    with pytest.raises(BrokerUnavailable, match="expected a new page"):
        reader.corporate_actions(["KO"], START, END)
