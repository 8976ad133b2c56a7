"""Opening lots and other accounts' trades from a file: all of it or none, each mistake by its line, nothing twice."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import Stage
from told_history import History

from daemon.bookkeeping import replayed, take_in
from daemon.lot_import import Import, ImportRefused, read, take
from state.lots import LedgerPolicy
from state.records import (
    Account,
    AccountType,
    ActivityKind,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Transaction,
    TransactionKind,
)
from state.store import PositionRow, Store

D = Decimal
DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime(2024, 6, 3, 18, tzinfo=UTC)
ACCOUNTS = (
    Account("main", AccountType.TAXABLE, broker="alpaca"),
    Account("spouse", AccountType.SPOUSE_TAXABLE),
    Account("ira", AccountType.IRA),
)
LOTS = "account,symbol,acquired,quantity,basis"
TRADES = "account,kind,date,symbol,quantity,price"


class Desk:
    """A household's store, and files laid before it."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        self.folder, self.path = folder, folder / "house.db"
        self.path.write_bytes(empty_database.read_bytes())
        self.store = Store.open(self.path, durable=False)
        self.store.household.put_accounts(ACCOUNTS)
        self.ledger = replayed(self.store, ACCOUNTS, LedgerPolicy())

    def file(self, *lines: str) -> Path:
        path = self.folder / "file.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def look(self, *lines: str, account: str | None = None, further: bool = False) -> Import:
        return read(self.file(*lines), self.store, self.ledger, NOW, account_id=account, further=further)

    def take(self, *lines: str, account: str | None = None, further: bool = False) -> Import:
        found = self.look(*lines, account=account, further=further)
        self.ledger = take(found, self.store, self.ledger, NOW)
        return found

    def refused(self, *lines: str, account: str | None = None, further: bool = False) -> list[str]:
        """The problems as they are told; and nothing was written."""
        before = self.store.journal.all()
        with pytest.raises(ImportRefused) as refusal:
            self.take(*lines, account=account, further=further)
        assert self.store.journal.all() == before
        return [str(problem) for problem in refusal.value.problems]

    def happened(self, *rows: Transaction) -> None:
        self.ledger = take_in(self.store, self.ledger, rows, NOW, impossible="set_aside").ledger

    def lots(self, account: str = "main") -> list[tuple[str, str, Decimal, Decimal]]:
        return [(lot.symbol, str(lot.acquired), lot.quantity, lot.basis) for lot in self.ledger.open_lots(account)]


@pytest.fixture
def desk(tmp_path: Path, empty_database: Path) -> Any:
    made = Desk(tmp_path, empty_database)
    yield made
    made.store.close()


def fill(name: str, day: str, quantity: str, price: str = "10", symbol: str = "KO", **others: Any) -> Transaction:
    kind = TransactionKind.SELL if quantity.startswith("-") else TransactionKind.BUY
    return Transaction(
        name, "main", kind, date.fromisoformat(day), "alpaca", symbol, abs(D(quantity)), D(price), **others
    )


# ------------------------------------------------------------------ what docs/IMPORT.md shows


def examples() -> list[str]:
    """The blocks of CSV in docs/IMPORT.md, word for word."""
    return re.findall(r"```csv\n(.*?)```", (DOCS / "IMPORT.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_documentation_are_imported_word_for_word(desk: Desk) -> None:
    lots, trades = examples()
    for text, rows in ((lots, 3), (trades, 4)):
        found = desk.take(*text.splitlines())
        assert (len(found.rows), found.known) == (rows, 0)
        again = desk.take(*text.splitlines())
        assert (len(again.rows), again.known) == (0, rows)
    assert desk.lots() == [
        ("KO", "2019-05-06", D(120), D("5846.40")),
        ("KO", "2021-11-15", D("30.5"), D("1723.25")),
        ("XOM", "2015-02-02", D(40), D(0)),
    ]
    assert [lot.basis_known for lot in desk.ledger.open_lots("main")] == [True, True, False]
    assert desk.ledger.position("ira", "KO") == D("10.187")
    assert desk.ledger.position("spouse", "XOM") == 15


def test_every_column_of_both_layouts_is_documented_and_no_other(desk: Desk) -> None:
    from daemon.lot_file import LOT_COLUMNS, LOT_OPTIONAL, TRADE_COLUMNS, TRADE_OPTIONAL

    page = (DOCS / "IMPORT.md").read_text(encoding="utf-8")
    first, second = page.split("## Transactions")
    for text, columns in ((first, (*LOT_COLUMNS, *LOT_OPTIONAL)), (second, (*TRADE_COLUMNS, *TRADE_OPTIONAL))):
        cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(columns)


# ------------------------------------------------------------------ opening lots


@pytest.mark.parametrize(
    ("quantity", "basis"), [("3", "100"), ("7", "1000000.01"), ("0.000000001", "0.01"), ("30.5", "1723.25")]
)
def test_the_basis_is_kept_to_the_last_cent(desk: Desk, quantity: str, basis: str) -> None:
    desk.take(LOTS, f"main,KO,2019-05-06,{quantity},{basis}")
    assert desk.lots() == [("KO", "2019-05-06", D(quantity), D(basis))]


def test_a_price_a_share_instead_of_a_basis(desk: Desk) -> None:
    desk.take("account,symbol,acquired,quantity,price", "main,KO,2019-05-06,3,33.33", "main,PG,2019-05-06,3,unknown")
    assert desk.lots() == [("KO", "2019-05-06", D(3), D("99.99")), ("PG", "2019-05-06", D(3), D(0))]


def test_columns_in_any_order_and_a_file_as_spreadsheets_write_it(desk: Desk) -> None:
    path = desk.folder / "sheet.csv"
    path.write_bytes('\ufeffQuantity,Acquired,"Symbol",Basis\r\n"3",2019-05-06,KO,100.00\r\n,,,\r\n'.encode())
    found = read(path, desk.store, desk.ledger, NOW, account_id="main")
    assert [(row.symbol, row.quantity) for row in found.rows] == [("KO", D(3))]


def test_a_lot_is_held_from_the_first_day_the_journal_knows_of_its_symbol(desk: Desk) -> None:
    """The sale of May takes the lot of 2019 first, as the broker did."""
    desk.happened(fill("f1", "2024-05-01", "10", "60"), fill("f2", "2024-05-08", "-15", "61"))
    assert desk.ledger.why_unreadable("KO") is not None
    found = desk.take(LOTS, "main,KO,2019-05-06,120,5846.40")
    assert found.rows[0].trade_date == date(2024, 5, 1)
    assert desk.lots() == [("KO", "2019-05-06", D(105), D("5115.60")), ("KO", "2024-05-01", D(10), D(600))]


def test_a_lot_that_came_is_held_from_the_day_it_came(desk: Desk) -> None:
    """Sold before it came, the older shares were not there to be taken."""
    came = replace(fill("in", "2024-05-20", "120"), kind=TransactionKind.SHARES_IN, price=D(0))
    desk.happened(fill("f1", "2024-05-01", "10", "60"), fill("f2", "2024-05-08", "-5", "61"), came)
    found = desk.take(LOTS, "main,KO,2019-05-06,120,5846.40", "main,KO,2024-05-02,1,58")
    assert {row.trade_date for row in found.rows} == {date(2024, 5, 20)}
    assert desk.lots()[:2] == [("KO", "2019-05-06", D(120), D("5846.40")), ("KO", "2024-05-01", D(5), D(300))]


def test_which_of_several_days_a_lot_came_is_asked(desk: Desk) -> None:
    for day in ("2024-05-20", "2024-05-27"):
        desk.happened(replace(fill(day, day, "60"), kind=TransactionKind.SHARES_IN, price=D(0)))
    (problem,) = desk.refused(LOTS, "main,KO,2019-05-06,60,100")
    assert "as_of: KO came in on 2024-05-20, 2024-05-27" in problem
    assert len(desk.take(f"{LOTS},as_of", "main,KO,2019-05-06,60,100,2024-05-20").rows) == 1


def test_a_lot_that_may_be_a_purchase_of_the_journal_s_own_is_refused(desk: Desk) -> None:
    desk.happened(fill("f1", "2024-05-01", "10"), fill("f2", "2024-05-08", "10"))
    (problem,) = desk.refused(LOTS, "main,KO,2024-05-08,10,100")
    assert problem.startswith("line 2: expected a lot acquired before 2024-05-01")
    assert problem.endswith("was acquired 2024-05-08")
    (problem,) = desk.refused(LOTS, "main,KO,2024-05-01,10,100")
    assert problem.endswith("was acquired 2024-05-01"), "the day of the first row is no day before it"
    assert len(desk.take(f"{LOTS},as_of", "main,KO,2024-05-08,11,100,2024-06-03").rows) == 1
    assert len(desk.take(LOTS, "spouse,KO,2024-05-08,10,100").rows) == 1


def test_the_shares_are_those_of_the_day_a_lot_is_held_from(desk: Desk) -> None:
    """Of today's statement, a split of April has been counted; of March's, it has not."""
    day = date(2024, 4, 8)
    split = CorporateAction("sp", CorporateActionKind.SPLIT, "KO", day, D(2), D(1))
    desk.store.actions.put([CorporateNotice("sp", "forward_split", "KO", day, split)], NOW)
    found = desk.look(f"{LOTS},as_of", "main,KO,2019-05-06,100,5000,2024-03-01", "spouse,KO,2019-05-06,100,5000,")
    assert {(one.account_id, one.lots) for one in found.reconciled} == {("main", D(200)), ("spouse", D(100))}
    desk.take(f"{LOTS},as_of", "main,KO,2019-05-06,100,5000,2024-03-01", "spouse,KO,2019-05-06,100,5000,")
    assert desk.lots() == [("KO", "2019-05-06", D(200), D(5000))]
    assert desk.lots("spouse") == [("KO", "2019-05-06", D(100), D(5000))]


def test_shares_as_of_the_day_of_a_split_are_those_after_it(desk: Desk) -> None:
    """The statement of that day counts the split already, announced before the import or after."""
    day = date(2024, 4, 8)
    split = CorporateAction("sp", CorporateActionKind.SPLIT, "KO", day, D(2), D(1))
    desk.take(f"{LOTS},as_of", f"ira,KO,2019-05-06,100,5000,{day}")
    desk.store.actions.put([CorporateNotice("sp", "forward_split", "KO", day, split)], NOW)
    desk.take(f"{LOTS},as_of", f"main,KO,2019-05-06,100,5000,{day}")
    desk.take(f"{LOTS},as_of", "spouse,KO,2019-05-06,100,5000,2024-04-05")
    assert [desk.ledger.position(each, "KO") for each in ("ira", "main", "spouse")] == [100, 100, 200]


def test_shares_as_of_a_day_are_there_for_that_day_s_sales(desk: Desk) -> None:
    desk.happened(fill("s", "2024-05-08", "-15", "61", executed_at=datetime(2024, 5, 8, 14, tzinfo=UTC)))
    desk.take(f"{LOTS},as_of", "main,KO,2019-05-06,20,1000,2024-05-08")
    assert desk.lots() == [("KO", "2019-05-06", D(5), D(250))]


def test_beside_the_broker_s_last_known_position(desk: Desk) -> None:
    desk.store.positions.replace("main", [PositionRow("main", "KO", D(120), NOW), PositionRow("main", "PG", D(5), NOW)])
    found = desk.look(LOTS, "main,KO,2019-05-06,120,1", "main,PG,2019-05-06,4,1", "main,T,2019-05-06,4,1",
                      "ira,KO,2019-05-06,4,1")  # fmt: skip
    assert [(one.symbol, one.lots, one.broker, one.agrees) for one in found.reconciled] == [
        ("KO", D(4), None, None),
        ("KO", D(120), D(120), True),
        ("PG", D(4), D(5), False),
        ("T", D(4), D(0), False),
    ]


LOT = "ira,KO,2024-02-20,100,5000"


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (LOTS, "ira,KO,2024-02-20,100,5000.01"),
        (LOTS, "ira,KO,2024-02-20,100,unknown"),
        (f"{LOTS},reference", f"{LOT},r1"),
        (f"{LOTS},as_of", f"{LOT},2024-02-20"),
        ("account,symbol,acquired,quantity,price", "ira,KO,2024-02-20,100,50.01"),
        (f"{TRADES},time", "ira,buy,2024-02-20,KO,100,50,10:00"),
    ],
)
def test_a_lot_is_not_imported_again_in_other_words(desk: Desk, header: str, line: str) -> None:
    desk.take(LOTS, LOT)
    (known,) = desk.store.journal.all()
    (problem,) = desk.refused(header, line)
    assert f"write {known.transaction_id} into the column supersedes" in problem
    assert "--further" in problem
    if "reference" not in header:
        assert len(desk.refused(header, line, further=True)) == 1, "a name of its own is needed"
    desk.take(f"{header},supersedes", f"{line},{known.transaction_id}")
    assert desk.ledger.position("ira", "KO") == 100


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (f"{TRADES},time", "ira,buy,2024-03-01,KO,10,50,10:00"),
        (f"{TRADES},fees", "ira,buy,2024-03-01,KO,10,50,1"),
        (TRADES, "ira,buy,2024-03-01,KO,10,50.01"),
        (f"{LOTS},as_of", "ira,KO,2024-03-01,10,500,2024-03-04"),
        (f"{LOTS},as_of", "ira,KO,2024-03-01,14,500,2024-03-04"),
    ],
)
def test_a_trade_is_not_imported_again_in_other_words_or_as_a_lot(desk: Desk, header: str, line: str) -> None:
    desk.take(TRADES, "ira,buy,2024-03-01,KO,10,50", "ira,buy,2024-03-01,KO,4,50")
    (problem,) = desk.refused(header, line)
    assert "import:ira:" in problem


def test_a_split_is_not_imported_again_in_other_words(desk: Desk) -> None:
    header = "account,kind,date,symbol,quantity,ratio_new,ratio_old,reference"
    desk.take(header, "ira,split,2024-03-01,KO,,2,1,")
    assert len(desk.refused(header, "ira,split,2024-03-01,KO,,2,1,again")) == 1


def test_two_lots_that_look_alike_are_two_where_a_file_or_a_person_says_so(desk: Desk) -> None:
    header = f"{LOTS},reference"
    desk.take(header, f"{LOT},a", f"{LOT},b")
    assert desk.ledger.position("ira", "KO") == 200
    assert desk.take(header, f"{LOT},a", f"{LOT},b", f"{LOT},c").known == 2
    assert len(desk.refused(header, f"{LOT},d")) == 1
    assert len(desk.take(header, f"{LOT},d", further=True).rows) == 1
    assert desk.ledger.position("ira", "KO") == 400


def test_a_lot_that_was_taken_back_may_be_imported_again(desk: Desk) -> None:
    desk.take(LOTS, LOT)
    (known,) = desk.store.journal.all()
    desk.take(f"{LOTS},supersedes", f"ira,KO,2024-02-20,0,,{known.transaction_id}")
    desk.take(f"{LOTS},reference", f"{LOT},r1")
    assert desk.ledger.position("ira", "KO") == 100


# ------------------------------------------------------------------ transactions


def test_a_purchase_of_last_month_in_an_ira_disallows_a_loss_told_before(desk: Desk) -> None:
    desk.happened(fill("b", "2024-01-02", "100", "50"), fill("s", "2024-05-06", "-100", "40"))
    desk.take(TRADES, "ira,buy,2024-05-20,KO,40,41")
    (restated,) = desk.store.lots.restatements()
    assert restated.after.permanently_disallowed == 400
    assert restated.causes == (desk.ledger.transactions[-1].transaction_id,)


def test_each_kind_of_row(desk: Desk) -> None:
    header = f"{TRADES},fees,time,acquired,fair_value,to_account,ratio_new,ratio_old"
    desk.take(
        header,
        "spouse,buy,2024-01-02,KO,100,50,1.25,09:45,,,,,",
        "spouse,drip,2024-01-03,KO,0.5,51,,,,,,,",
        "spouse,award,2024-01-04,KO,1,52,,,,,,,",
        "spouse,inherit,2024-01-05,KO,2,53,,,,,,,",
        "spouse,gift_in,2024-01-08,KO,3,60,,,2010-01-04,54,,,",
        "spouse,split,2024-01-09,KO,,,,,,,,2,1",
        "spouse,sell,2024-01-10,KO,50,26,,15:30:10,,,,,",
        "spouse,gift_out,2024-01-11,KO,1,,,,,,,,",
        "spouse,transfer,2024-01-12,KO,10,,,,,,main,,",
    )
    assert desk.ledger.position("spouse", "KO") == (D("106.5") * 2 - 61)
    assert desk.ledger.position("main", "KO") == 10
    bought = desk.ledger.transactions[0]
    assert bought.executed_at == datetime(2024, 1, 2, 14, 45, tzinfo=UTC)
    assert bought.fees == D("1.25")


def test_the_trades_of_an_account_that_harvestd_trades_are_the_broker_s_to_tell(desk: Desk) -> None:
    (problem,) = desk.refused(TRADES, "main,buy,2024-05-20,KO,40,41")
    assert problem == (
        "line 2: expected in main, of which the broker tells the trades: only award, gift_in, gift_out, inherit, "
        "transfer, or a correction with `supersedes`, was buy"
    )
    desk.happened(fill("f1", "2024-05-01", "10"))
    desk.take(f"{TRADES},supersedes", "main,buy,2024-05-01,KO,11,10,f1", "main,award,2024-05-02,KO,1,10,")
    assert desk.lots() == [("KO", "2024-05-01", D(11), D(110)), ("KO", "2024-05-02", D(1), D(10))]


def test_what_went_elsewhere_is_told_by_a_transfer(staged: Staged, tmp_path: Path) -> None:
    """The broker tells shares that went without saying where; the file says it was the spouse's account."""
    stage: Stage = staged()
    stage.invest(0)
    stage.venue.advance_to(stage.at(1, 10))
    history = History(stage)
    history.tell(ActivityKind.SHARES_OUT, quantity=D(10))
    history.moves(AAA=-10)
    assert "AAA" in stage.look().locks
    day = stage.session(1).session
    path = tmp_path / "transfer.csv"
    path.write_text(f"account,kind,date,symbol,quantity,to_account\nmain,transfer,{day},AAA,10,spouse\n")
    found = read(path, stage.house.store, stage.house.ledger, stage.venue.now)
    stage.house.learn(found.rows)
    assert stage.look().locks == {}
    assert stage.house.ledger.position("spouse", "AAA") == 10


# ------------------------------------------------------------------ all mistakes at once, by line


def test_everything_wrong_is_told_at_once_and_nothing_is_imported(desk: Desk) -> None:
    problems = desk.refused(
        LOTS,
        "main,KO,2019-05-06,120,5846.40",
        "mine,KO,2019-05-06,120,5846.40",
        "main,ko,06/05/2019,-3,5846.40",
        "main,KO,2025-01-01,0,",
        "main,KO,2019-05-06,1.0000000001,0",
        "main,KO,2019-05-06,1",
        'main,KO,2019-05-06,1,"1,000"',
        "main,KO,2019-05-06,1,nan",
    )
    assert problems == [
        "line 3: expected account: one of ira, main, spouse, was 'mine'",
        "line 4: expected symbol as the broker writes it, such as AAPL or BRK.B, was 'ko'",
        "line 4: expected acquired as YYYY-MM-DD, was '06/05/2019'",
        "line 4: expected quantity as a number of more than 0, such as 1234.56, without separators or signs, was '-3'",
        "line 5: expected acquired up to 2024-06-03, was 2025-01-01",
        "line 5: expected quantity as a number of more than 0, such as 1234.56, without separators or signs, was '0'",
        "line 5: expected basis or price in USD, or the word unknown, was an empty cell",
        "line 6: expected quantity with at most nine decimals, was '1.0000000001'",
        "line 6: expected basis of more than 0 (write 0.01 for nothing), or the word unknown, was 0",
        "line 7: expected 5 cells as in the header, was 4",
        "line 8: expected basis as a number of 0 or more, such as 1234.56, without separators or signs, was '1,000'",
        "line 9: expected basis as a number of 0 or more, such as 1234.56, without separators or signs, was 'nan'",
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("account,symbol,quantity", "no column acquired"),
        (f"{LOTS},price", "both"),
        ("account,symbol,acquired,quantity", "neither"),
        (f"{LOTS},covered", "also 'covered'"),
        (f"{LOTS},basis", "basis more than once"),
        (f"{TRADES},acount", "also 'acount'"),
        ("Date;Symbol", "no column symbol, acquired, quantity"),
    ],
)
def test_another_layout_is_refused_with_what_was_expected(desk: Desk, header: str, said: str) -> None:
    problems = desk.refused(header, "1,2,3")
    assert any(problem.startswith("line 1: ") and said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\xff\xfe\x00account", "expected text in UTF-8, was byte 0xff at 0"),
        (b'account,symbol,acquired,quantity,basis\n"main,KO', "comma-separated values"),
    ],
)
def test_what_is_no_file_of_ours(desk: Desk, content: bytes, said: str) -> None:
    path = desk.folder / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match=said):
        read(path, desk.store, desk.ledger, NOW)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("spouse,give,2024-01-02,KO,1,1", "kind: one of buy, sell, drip"),
        ("spouse,buy,2024-01-02,KO,1,", "expected price, was an empty cell"),
        ("spouse,buy,,KO,1,1", "expected date, was an empty cell"),
        ("spouse,buy,2024-02-30,KO,1,1", "date as YYYY-MM-DD"),
        ("spouse,buy,2024-W01-1,KO,1,1", "date as YYYY-MM-DD"),
        ("spouse,split,2024-01-02,KO,,", "expected ratio_new, was an empty cell"),
        ("spouse,gift_in,2024-01-02,KO,1,1", "expected fair_value, was an empty cell"),
        ("spouse,transfer,2024-01-02,KO,1,", "to_account: one of ira, main, spouse"),
        (",buy,2024-01-02,KO,1,1", "an empty cell, and no --account"),
        ("spouse,sell,2024-01-02,KO,1,1", "expected a history of KO that can have happened"),
    ],
)
def test_a_transaction_that_lacks_what_its_kind_needs(desk: Desk, line: str, said: str) -> None:
    problems = desk.refused(TRADES, line)
    assert any(problem.startswith("line 2: ") and said in problem for problem in problems), problems


def test_a_file_for_one_account(desk: Desk) -> None:
    assert (
        desk.take("kind,date,symbol,quantity,price", "buy,2024-01-02,KO,1,1", account="ira").rows[0].account_id == "ira"
    )
    (problem,) = desk.refused(TRADES, "spouse,buy,2024-01-03,KO,1,1", account="ira")
    assert "expected account ira, the one of --account, was 'spouse'" in problem


def test_every_symbol_that_could_not_have_happened_is_told(desk: Desk) -> None:
    problems = desk.refused(
        TRADES,
        "spouse,buy,2024-01-02,KO,1,1",
        "spouse,sell,2024-01-03,KO,2,1",
        "spouse,buy,2024-01-02,PG,1,1",
        "spouse,sell,2024-01-03,T,1,1",
    )
    assert [problem[:8] for problem in problems] == ["line 3: ", "line 5: "]
    assert "Expected at least that many held, was 1" in problems[0]


def test_a_sale_before_the_lot_it_takes_says_since_when_the_lot_is_held(desk: Desk) -> None:
    desk.take(LOTS, "spouse,KO,2019-05-06,10,100")
    (problem,) = desk.refused(TRADES, "spouse,sell,2024-01-03,KO,2,1")
    assert "An opening lot of it is held only from 2024-06-03 on: column as_of says since when." in problem


# ------------------------------------------------------------------ nothing twice


def test_the_same_file_again_is_known_also_when_the_journal_has_moved_on(desk: Desk) -> None:
    lines = (f"{LOTS},reference", "main,KO,2024-05-06,120,5846.40,a", "main,KO,2024-05-06,1,49,")
    assert len(desk.take(*lines).rows) == 2
    desk.happened(
        fill("f0", "2024-05-01", "10"), replace(fill("in", "2024-05-20", "9"), kind=TransactionKind.SHARES_IN)
    )
    before = desk.store.journal.all()
    found = desk.take(*lines)
    assert (found.rows, found.known) == ((), 2)
    assert desk.store.journal.all() == before


def test_two_equal_lines_need_a_reference_each(desk: Desk) -> None:
    equal = "spouse,buy,2024-01-02,KO,1,1"
    (problem,) = desk.refused(TRADES, equal, equal)
    assert problem == (
        "line 3: expected a reference of its own in each line (column reference), two equal trades among them, was the "
        "same content as line 2"
    )
    desk.take(f"{TRADES},reference", f"{equal},a", f"{equal},b")
    assert desk.ledger.position("spouse", "KO") == 2


def test_one_reference_with_two_contents_is_refused_with_how_to_correct(desk: Desk) -> None:
    header = f"{TRADES},reference,supersedes"
    (problem,) = desk.refused(header, "ira,buy,2024-01-02,KO,1,1,a,", "ira,buy,2024-01-02,KO,2,1,a,")
    assert "the reference of line 2" in problem
    desk.take(header, "ira,buy,2024-01-02,KO,1,1,a,")
    (problem,) = desk.refused(header, "ira,buy,2024-01-02,KO,2,1,a,")
    assert "(quantity 1)" in problem
    assert "write import:ira:a into the column supersedes" in problem
    desk.take(header, "ira,buy,2024-01-02,KO,2,1,a2,import:ira:a")
    assert desk.ledger.position("ira", "KO") == 2
    (problem,) = desk.refused(header, "ira,buy,2024-01-02,KO,2,1,x,import:ira:nobody")
    assert "supersedes: the id of a journal row" in problem


def test_a_line_that_only_takes_another_back(desk: Desk) -> None:
    desk.take(f"{LOTS},reference", "main,KO,2019-05-06,10,100,a")
    desk.take(f"{LOTS},reference,supersedes", "main,KO,2019-05-06,0,,gone,import:main:a")
    desk.take(f"{TRADES},reference", "ira,buy,2024-01-02,KO,1,1,b")
    desk.take(f"{TRADES},reference,supersedes", "ira,buy,2024-01-02,KO,0,,bb,import:ira:b")
    assert desk.ledger.open_lots() == ()


def test_an_adopted_lot_makes_room_for_the_lots_it_stood_for(desk: Desk) -> None:
    adopted = Transaction(
        "adopt:main:KO:1", "main", TransactionKind.OPENING_LOT, date(2024, 6, 1), "adopt", "KO", D(10),
        acquired=date(2024, 6, 1),
    )  # fmt: skip
    desk.happened(adopted)
    desk.take(
        f"{LOTS},as_of,supersedes",
        "main,KO,2019-05-06,4,100,2024-06-01,adopt:main:KO:1",
        "main,KO,2020-05-06,6,300,2024-06-01,",
    )
    assert desk.lots() == [("KO", "2019-05-06", D(4), D(100)), ("KO", "2020-05-06", D(6), D(300))]


# ------------------------------------------------------------------ the command


def test_the_command_shows_first_and_imports_then(demo_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "lots.csv"
    file.write_text("symbol,acquired,quantity,basis\nZZZ,2015-03-02,7,70.07\n")
    words = ("ledger", "import", file, "--account", "spouse", "--db", demo_copy)
    with sqlite3.connect(demo_copy) as raw:
        before = list(raw.iterdump())
    dry = harvestd(*words, "--dry-run")
    assert dry.code == 0, dry.err
    assert "1 rows would be imported; nothing was written. Already known: 0." in dry.out
    assert "70.07" in dry.out
    with sqlite3.connect(demo_copy) as raw:
        assert list(raw.iterdump()) == before
    told = json.loads(harvestd(*words, "--json").out)
    assert (told["new"], told["known"], told["dry_run"]) == (1, 0, False)
    assert told["open_lots"][0]["basis"] == "70.07"
    again = harvestd(*words)
    assert again.out == f"{file}: 0 rows imported. Already known: 1.\n"
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0


def test_the_command_refuses_with_every_line(demo_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "lots.csv"
    file.write_text(f"{LOTS}\nnobody,ZZZ,2015-03-02,7,1\nmain,ZZZ,2015-03-02,7,\n")
    outcome = harvestd("ledger", "import", file, "--db", demo_copy)
    assert outcome.code == 1
    assert outcome.out == ""
    assert "nothing was imported, for 2 reasons" in outcome.err
    assert "line 2: expected account: one of" in outcome.err
    assert "line 3: expected basis or price" in outcome.err


def test_the_daemon_must_be_stopped_and_to_look_it_need_not(demo_copy: Path, tmp_path: Path) -> None:
    from daemon.opening import lease

    file = tmp_path / "lots.csv"
    file.write_text(f"{LOTS}\nmain,ZZZ,2015-03-02,7,1\n")
    with lease(demo_copy):
        assert harvestd("ledger", "import", file, "--dry-run", "--db", demo_copy).code == 0
        outcome = harvestd("ledger", "import", file, "--db", demo_copy)
    assert outcome.code == 1
    assert "another harvestd works on this household" in outcome.err


def test_a_file_that_is_not_there(demo_copy: Path, tmp_path: Path) -> None:
    outcome = harvestd("ledger", "import", tmp_path / "none.csv", "--db", demo_copy)
    assert outcome.code == 1
    assert "No such file" in outcome.err
