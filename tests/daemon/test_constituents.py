"""Constituents files: a person's own, and ETF providers' lists as downloaded.

The layouts are those that providers' downloads have; names and figures in them are made up.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from daemon.constituents import Constituents, other_spellings, read_constituents
from daemon.errors import ConfigurationRefused

D = Decimal

ISHARES = """\
\ufeffiShares Core Example ETF
Fund Holdings as of,"Nov 20, 2026"
Inception Date,"May 15, 2000"
Shares Outstanding,"1,234,567,890.00"
Stock,"-"
Bond,"-"
\u00a0
Ticker,Name,Sector,Asset Class,Market Value,Weight (%),Notional Value,Quantity,Price,Location,Exchange,Currency
"NVDA","NVIDIA CORP","Information Technology","Equity","45,000,000,000.00","60.12","45,000.00","1","1","US","N","USD"
"BRKB","BERKSHIRE HATHAWAY INC CLASS B","Financials","Equity","1,000.00","25.00","1,000.00","1","1","US","N","USD"
"GOOGL","ALPHABET INC CLASS A","Communication","Equity","1,000.00","14.50","1,000.00","1","1","US","N","USD"
"P5N994","OLD CO ESCROW","Financials","Equity","0.00","0.00","0.00","1","1","US","-","USD"
"-","UNLISTED RIGHTS CO","-","Equity","1.00","0.03","1.00","1","1","US","-","USD"
"XTSLA","BLK CSH FND TREASURY","Cash and/or Derivatives","Money Market","1.00","0.40","1","1","1","US","-","USD"
"USD","USD CASH","Cash and/or Derivatives","Cash","-1.00","-0.10","1","1","1","US","-","USD"
"ESZ6","S&P500 EMINI DEC 26","Cash and/or Derivatives","Futures","0.00","0.00","1","1","1","US","-","USD"
\u00a0
"The content contained herein is owned or licensed by somebody. AAPL, 5.00 and all that."
"""

STATE_STREET = """\
Fund Name:,Example S&P 500 ETF Trust
Ticker Symbol:,EXMP
Holdings:,As of 19-Nov-2026

Name,Ticker,Identifier,SEDOL,Weight,Sector,Shares Held,Local Currency
NVIDIA CORP,NVDA,67066G104,2379504,50.5,Information Technology,"168,432,000",USD
BERKSHIRE HATHAWAY INC CL B,BRK.B,084670702,2073390,30.25,-,100,USD
BROWN FORMAN CORP CLASS B,BF/B,115637209,2146838,19.00,Consumer Staples,100,USD
US DOLLAR,-,CASH_USD,-,0.15,Unassigned,100,USD
S+P500 EMINI FUT DEC26,ESZ6,ESZ6 INDEX,-,0.10,Unassigned,10,USD

Past performance is not a reliable indicator of future performance.
"""

VANGUARD = """\
Holdings details

Example Total Market ETF (EXM)


Equity,as of 10/31/2026

,SEDOL,HOLDINGS,TICKER,% OF FUNDS*,SECTOR,COUNTRY,SECURITY DEPOSITORY RECEIPT TYPE,MARKET VALUE*,SHARES
,2379504,NVIDIA Corp.,NVDA   ,55.00%,Technology,US,,"$1,000","1,000"
,2073390,Berkshire Hathaway Inc. Class B,BRK.B,30.00%,Financials,US,,"$1,000","1,000"
,B7TL820,Example Inc. Class A,EXA,14.90%,Technology,US,,"$1,000","1,000"
,BDDDDD1,Tiny Corp.,TINY,<0.01%,Technology,US,,"$1","1"
,,Contingent Value Right,---,0.00%,Health Care,US,,"$0","1"

Short-term reserves,as of 10/31/2026

,SEDOL,HOLDINGS,% OF FUNDS*,MARKET VALUE*
,,Market Liquidity Fund,0.10%,"$1,000"
"""

INVESCO = """\
Fund Ticker,Security Identifier,Holding Ticker,Shares/Par Value,MarketValue,Weight,Name,Class of Shares,Sector,Date
EXQ,67066G104,NVDA   ,"1,000","100,000.10",60.100,NVIDIA Corp,Common Stock,Information Technology,11/18/2026
EXQ,874039100,TSM    ,"1,000","100,000.10",20.000,Taiwan Semi ADR,American Depository Receipt,Technology,11/18/2026
EXQ,594918104,MSFT   ,"1,000","100,000.10",19.800,Microsoft Corp,Common Stock,Information Technology,11/18/2026
EXQ,CASHUSD00,,"1,000","100.10",0.100,US Dollars,Currency,,11/18/2026
EXQ,825252885,AGPXX  ,"1,000","100.10",0.050,Liquid Assets Portfolio,"Money Market Fund, Taxable",,11/18/2026
"""

OWN = "symbol,weight,sector\nAAA,50,Energy\nBBB,30,\nCCC,20,Health\n"


def written(folder: Path, content: str | bytes, name: str = "names.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, content: str | bytes, known: set[str] | None = None) -> Constituents:
    return read_constituents(written(folder, content), known)


def refused(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigurationRefused) as refusal:
        read(folder, content)
    return str(refusal.value).replace(str(folder), "")


def left_out(found: Constituents) -> list[tuple[str, str]]:
    return [(one.symbol, one.why) for one in found.left_out]


# ------------------------------------------------------------------ layouts


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    found = read(tmp_path, OWN)
    assert found.symbols == ("AAA", "BBB", "CCC")
    assert found.weights == (D("0.5"), D("0.3"), D("0.2"))
    assert found.sectors == {"AAA": "Energy", "CCC": "Health"}
    assert (found.as_of, found.source_layout, found.left_out) == (None, "own", ())


def test_fractions_are_told_from_per_cent_by_their_sum(tmp_path: Path) -> None:
    assert read(tmp_path, "Symbol, Weight\naaa,0.5\nbbb,0.3\nccc,0.2\n").weights == (D("0.5"), D("0.3"), D("0.2"))
    assert read(tmp_path, "Symbol, Weight\naaa,50%\nbbb,30 %\nccc,20%\n").weights == (D("0.5"), D("0.3"), D("0.2"))


def test_ishares_as_downloaded(tmp_path: Path) -> None:
    found = read(tmp_path, ISHARES)
    assert found.symbols == ("NVDA", "BRK.B", "GOOGL")
    assert sum(found.weights) == 1
    assert found.weights[0] == D("60.12") / D("99.62")
    assert found.sectors["BRK.B"] == "Financials"
    assert (found.as_of, found.source_layout) == (date(2026, 11, 20), "iShares")
    assert left_out(found) == [
        ("P5N994", "weighs next to nothing"),
        ("-", "a share without a ticker"),
        ("XTSLA", "Money Market"),
        ("USD", "Cash"),
        ("ESZ6", "Futures"),
    ]
    assert [one.line for one in found.left_out] == [12, 13, 14, 15, 16]
    assert found.left_out[3].weight == D("-0.001")


def test_state_street_saved_as_csv(tmp_path: Path) -> None:
    found = read(tmp_path, STATE_STREET.replace("\n", "\r\n"))
    assert found.symbols == ("NVDA", "BRK.B", "BF.B")
    assert found.sectors == {"NVDA": "Information Technology", "BF.B": "Consumer Staples"}
    assert (found.as_of, found.source_layout) == (date(2026, 11, 19), "State Street")
    assert left_out(found) == [("-", "cash or other without a ticker"), ("ESZ6", "no ticker of a share")]


def test_vanguard_with_a_second_table_below(tmp_path: Path) -> None:
    found = read(tmp_path, VANGUARD)
    assert found.symbols == ("NVDA", "BRK.B", "EXA")
    assert (found.as_of, found.source_layout) == (date(2026, 10, 31), "Vanguard")
    assert left_out(found) == [("TINY", "weighs next to nothing"), ("---", "cash or other without a ticker")]


def test_invesco_with_its_day_in_a_column(tmp_path: Path) -> None:
    found = read(tmp_path, INVESCO)
    assert found.symbols == ("NVDA", "TSM", "MSFT")
    assert (found.as_of, found.source_layout) == (date(2026, 11, 18), "Invesco")
    assert left_out(found) == [("", "Currency"), ("AGPXX", "Money Market Fund, Taxable")]


def test_columns_are_found_wherever_they_stand(tmp_path: Path) -> None:
    found = read(tmp_path, "my list\n\nsector,ignored,WEIGHT,Symbol\nEnergy,x,50,AAA\n,x,30,BBB\n,x,20,CCC\n")
    assert (found.symbols, found.sectors) == (("AAA", "BBB", "CCC"), {"AAA": "Energy"})


@pytest.mark.parametrize(
    ("told", "day"),
    [
        ("As of 2026-11-20", date(2026, 11, 20)),
        ("as of November 3, 2026", date(2026, 11, 3)),
        ("Date:,4/30/2026", date(2026, 4, 30)),
        ('Fund Holdings as of,"-"', None),
        ("as of 13/45/2026", None),
        ("Inception Date,2000-05-15", None),
    ],
)
def test_the_day_a_file_is_about(tmp_path: Path, told: str, day: date | None) -> None:
    assert read(tmp_path, f"{told}\n{OWN}").as_of == day


def test_windows_text_quotes_and_line_ends(tmp_path: Path) -> None:
    text = 'symbol,weight,sector\r\n"AAA","50.0","Énergie"\r\nBBB,30,x\r\nCCC,20,x\r\n'
    for encoding in ("cp1252", "utf-8-sig", "utf-16"):
        assert read(tmp_path, text.encode(encoding)).sectors["AAA"] == "Énergie"


# ------------------------------------------------------------------ symbols


@pytest.mark.parametrize("written_as", ["BRK.B", "BRK/B", "BRK B", "BRK-B", "brk.b", "BRKB"])
def test_a_class_of_shares_is_written_with_a_dot(tmp_path: Path, written_as: str) -> None:
    assert read(tmp_path, f"symbol,weight\n{written_as},50\nBBB,30\nCCC,20\n").symbols[0] == "BRK.B"


def test_what_the_broker_knows_settles_how_a_class_is_written(tmp_path: Path) -> None:
    text = "symbol,weight\nEXMPB,50\nRUSHB,30\nGOOGL,20\n"
    assert read(tmp_path, text).symbols == ("EXMPB", "RUSHB", "GOOGL"), "nothing is guessed"
    assert read(tmp_path, text, {"EXMP.B", "RUSHB", "RUSH", "GOOGL"}).symbols == ("EXMP.B", "RUSHB", "GOOGL")


def test_other_spellings() -> None:
    assert other_spellings("BRKB") == ("BRK.B",)
    assert other_spellings("BRK-B") == ("BRK.B",)
    assert other_spellings("BRK.B") == ()
    assert other_spellings("F") == ()


def test_two_lines_of_one_security_are_summed(tmp_path: Path) -> None:
    text = STATE_STREET.replace("NVIDIA CORP,NVDA,67066G104,2379504,50.5", "NVIDIA CORP,NVDA,67066G104,2379504,40.0")
    lent = "NVIDIA CORP LENT,NVDA,67066G104,2379504,10.5,Information Technology,10,USD\nBERKSHIRE"
    found = read(tmp_path, text.replace("BERKSHIRE", lent))
    assert found.symbols == ("NVDA", "BRK.B", "BF.B")
    assert found.weights[0] == D("50.5") / D("99.75")


def test_two_securities_under_one_symbol_are_refused(tmp_path: Path) -> None:
    other = "SOMEBODY ELSE,NVDA,999999999,9999999,0.5,Information Technology,10,USD\nBERKSHIRE"
    said = refused(tmp_path, STATE_STREET.replace("BERKSHIRE", other))
    assert said == "/names.csv line 7: expected NVDA once, was in line 6 too, as '67066G104', and here as '999999999'"
    assert "line 4: expected AAA once, was in line 2 too" in refused(
        tmp_path, "symbol,weight\nAAA,40\nBBB,30\nAAA,30\n"
    )


# ------------------------------------------------------------------ refusals


def test_a_layout_nobody_knows_is_refused_with_what_was_seen(tmp_path: Path) -> None:
    said = refused(tmp_path, "Some fund\nStock code,Company,Portion\nAAA,A Inc.,50\n")
    assert "within the first 30 lines: iShares: ticker, name, asset class, weight (%); Invesco:" in said
    assert "Line 2 has Stock code, Company, Portion." in said
    assert "the columns symbol and weight" in said


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "has nothing" in refused(tmp_path, "")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "expected a CSV file, was an Excel workbook. Open it, save the sheet as CSV."),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"symbol,weight\n\x81,1", "UTF-8 or Windows-1252"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path: Path, content: bytes, what: str) -> None:
    assert what in refused(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="expected a readable CSV file"):
        read_constituents(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("BBB,thirty", "line 3: expected a weight of BBB, was 'thirty'"),
        ("BBB,", "line 3: expected a weight of BBB, was ''"),
        ("BBB,3,0", "sum to 73. Is the list whole?"),
        ("BBB,\"3,0\"", "line 3: expected a weight of BBB, was '3,0'"),
        ("BBB,1e2", "line 3: expected a weight of BBB, was '1e2'"),
        ("BBB,nan", "line 3: expected a weight of BBB, was 'nan'"),
        ("B?B,30", "line 3: expected a symbol such as AAPL or BRK.B, was 'B?B'"),
        (",30", "line 3: expected a symbol such as AAPL or BRK.B, was 'nothing'"),
        ("AAA,30", "line 3: expected AAA once, was in line 2 too"),
    ],
)  # fmt: skip
def test_a_bad_line_refuses_the_whole_file(tmp_path: Path, row: str, said: str) -> None:
    assert said in refused(tmp_path, f"symbol,weight\nAAA,50\n{row}\nCCC,20\n")


def test_a_negative_weight_of_a_share_is_refused(tmp_path: Path) -> None:
    text = "symbol,weight\nAAA,60\nBBB,60\nCCC,(20)\n"
    assert "line 4: expected a positive weight of CCC, was '(20)'" in refused(tmp_path, text)


def test_a_share_of_weight_without_a_ticker_is_refused(tmp_path: Path) -> None:
    text = ISHARES.replace('"GOOGL","ALPHABET', '"-","ALPHABET')
    said = refused(tmp_path, text)
    assert said.endswith("line 11: expected the ticker of ALPHABET INC CLASS A, which weighs 14.50, was '-'")


@pytest.mark.parametrize(("last", "whole"), [("18", True), ("22", True), ("17.9", False), ("22.1", False)])
def test_weights_sum_to_a_hundred_within_two(tmp_path: Path, last: str, whole: bool) -> None:
    text = f"symbol,weight\nAAA,50\nBBB,30\nCCC,{last}\n"
    if whole:
        assert sum(read(tmp_path, text).weights) == pytest.approx(1)
    else:
        said = refused(tmp_path, text)
        assert "expected weights that sum to 98% to 102%" in said
        assert "3 lines sum to" in said


def test_per_cent_signs_and_fractions_do_not_go_together(tmp_path: Path) -> None:
    assert "sum to 1. Is the list whole?" in refused(tmp_path, "symbol,weight\nAAA,0.5%\nBBB,0.3%\nCCC,0.2%\n")


def test_weights_in_two_units_are_refused(tmp_path: Path) -> None:
    """50 per cent and 0.3: whether the second is a third of a per cent or thirty nobody can say."""
    said = refused(tmp_path, "symbol,weight\nAAA,50%\nBBB,0.3\nCCC,49.7%\n")
    assert "line 3: expected weights in one unit, was '0.3' here and '50%' in line 2" in said
    assert len(read(tmp_path, "symbol,weight\nAAA,50%\nBBB,0\nCCC,30%\nDDD,20%\n").symbols) == 3


def test_a_fund_of_bonds_is_no_benchmark_of_shares(tmp_path: Path) -> None:
    text = ISHARES.replace('"Financials","Equity","1,000.00","25.00"', '"Financials","Fixed Income","1,000.00","25.00"')
    text = text.replace('"-","UNLISTED', '"MSFT","MICROSOFT').replace('"P5N994"', '"AAPL"')
    said = refused(tmp_path, text.replace('"Equity","0.00","0.00"', '"Equity","0.00","0.01"'))
    assert "at least 90% of it; 74.7% are. Left out: Cash, Fixed Income, Futures, Money Market" in said


def test_a_file_with_a_hole_in_it_is_refused(tmp_path: Path) -> None:
    text = "symbol,weight\nAAA,50\nBBB,30\nCCC,19\n\nDDD,1\n"
    said = refused(tmp_path, text)
    assert "line 6: expected nothing after the end of the table in line 5, was DDD with a weight of 1" in said


def test_fewer_than_three_names_are_no_benchmark(tmp_path: Path) -> None:
    assert "at least 3 constituents, were 2" in refused(tmp_path, "symbol,weight\nAAA,50\nBBB,50\n")


def test_a_line_with_the_total_ends_the_table(tmp_path: Path) -> None:
    assert len(read(tmp_path, OWN + "Total,100,\n").symbols) == 3
