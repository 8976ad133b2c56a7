"""What the demo shows: a progress bar, a line for each thing worth one, and a closing page."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daemon.demo.report import DemoResult
from daemon.demo.world import APPROVAL_RULE, MONTHLY_DEPOSIT, OPENING_DEPOSIT
from daemon.market_calendar import SessionTimes
from state.records import Alert, AlertLevel

COLORS = {AlertLevel.INFO: "green", AlertLevel.WARNING: "yellow", AlertLevel.ERROR: "red", AlertLevel.HALT: "bold red"}
SHOWN = ("harvest:", "left_alone:", "restated:", "tracking_error:", "reconcile:", "halt:", "refused:")


class Screen:
    """The demo's watcher. With `quiet`, only the progress bar, on standard error when that is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._quiet = quiet
        self._console = Console(stderr=quiet, highlight=False, width=None if sys.stdout.isatty() else 150)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("sessions"),
            TimeRemainingColumn(),
        )
        shown = self._console.is_terminal
        self._progress = Progress(*columns, console=self._console, disable=not shown, transient=True)
        self._task: Any = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begins(self, sessions: int) -> None:
        if not self._quiet:
            self._console.print(
                f"[bold]harvestd demo[/bold]: {OPENING_DEPOSIT:,} USD and {MONTHLY_DEPOSIT:,} a month, 20 stocks "
                f"against their equal-weighted index, a FIFO account; a spouse and an IRA beside it.\n{APPROVAL_RULE}\n"
            )
        self._task = self._progress.add_task("starting", total=sessions)

    def alert(self, session: date, alert: Alert) -> None:
        if not self._quiet and alert.key.startswith(SHOWN):
            head = "recovered: " if alert.recovered else ""
            self._console.print(f"[{COLORS[alert.level]}]{session}[/] {head}{alert.message}", soft_wrap=True)

    def session_over(self, session: SessionTimes) -> None:
        self._progress.update(self._task, advance=1, description=session.session.isoformat())

    # -------------------------------------------------------------- the closing page

    def closing_page(self, result: DemoResult, database: Path) -> None:
        from rich import box
        from rich.table import Table

        figures = result.figures
        years = Table(
            title="\nLosses of your account, USD", title_justify="left", box=box.SIMPLE_HEAD, title_style="bold"
        )
        for column in (
            "year",
            "realized",
            "disallowed",
            "of it lost for good",
            "net of disallowance",
            "gains realized beside them",
        ):
            years.add_column(column, justify="left" if column == "year" else "right")
        for year, item in [*result.by_year.items(), ("all", result.total)]:
            row = (item.realized, item.disallowed, item.lost_for_good, item.net, item.gains)
            years.add_row(str(year), *(f"{value:,.0f}" for value in row))
        self._console.print(years)
        facts = Table(box=None, show_header=False, pad_edge=False)
        facts.add_column()
        facts.add_column(justify="right")
        for label, value in _facts(figures):
            facts.add_row(label, value)
        self._console.print(facts)
        self._console.print("\n" + "\n".join(f"- {note}" for note in result.notes), soft_wrap=True)
        name = "" if str(database) == "harvestd-demo.db" else f" --db {database}"
        commands = ("status", "lots", "plans", "plan", "opportunities", "wash-calendar", "report performance")
        self._console.print("\nLook around:")
        for command in commands:
            self._console.print(f"  harvestd {command}{name}", soft_wrap=True)


def _facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    def usd(key: str) -> str:
        return f"{Decimal(figures[key]):,.0f} USD"

    answers = ", ".join(f"{count} {answer}" for answer, count in sorted(figures["approvals"].items())) or "none"
    realized = figures["tracking_error_realized_bps"]
    return [
        ("harvests filled", str(figures["harvests"])),
        ("loss lots that FIFO keeps behind gains, at the end", usd("fifo_blocked_losses_usd")),
        ("tax value of the net losses, at the stated rates", usd("tax_value_usd")),
        ("tax on the gains realized beside them", usd("tax_on_gains_realized_usd")),
        ("tax if all were sold at the end", usd("liquidation_tax_usd")),
        ("net asset value after those taxes and that tax value", usd("nav_after_taxes_and_liquidation_usd")),
        ("net asset value / the same deposits in the benchmark", f"{usd('nav_usd')} / {usd('benchmark_nav_usd')}"),
        (
            "tracking error realized / limit on the expected",
            f"{realized or 0:.0f} / {figures['tracking_error_limit_bps']:.0f} bp a year",
        ),
        (
            "closes with the expected tracking error above its limit",
            str(figures["sessions_above_tracking_error_limit"]),
        ),
        ("turnover, one-sided", f"{figures['turnover_pct_per_year'] or 0:.0f} % a year"),
        ("orders / refused / executions", f"{figures['orders']} / {figures['rejects']} / {figures['fills']}"),
        ("approvals", answers),
        ("wash-sale conflicts (ours, knowingly)", str(figures["wash_sale_conflicts"])),
        ("reconciliation breaks", str(figures["reconciliation_breaks"])),
        ("time and memory", f"{figures['seconds']} s, {figures['peak_memory_mb']} MB"),
        ("ledger digest", figures["ledger_digest"][:16]),
    ]
