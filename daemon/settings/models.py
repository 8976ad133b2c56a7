"""Every setting: its name with its unit, its default, its range, and the rules that join several of them.

The models are plain values. They read nothing: `Settings.model_validate({...})` gives the same settings on every
machine, whatever its environment. Reading `config.yaml` and the environment, and telling a person what is wrong with
them, is `daemon.settings.loading`.

Numbers that are money, or are multiplied with money, are `Decimal`; those that only feed the strategy's numerics are
`float`. Defaults with a source: harvest (docs/METHODS.md), optimizer (docs/METHODS.md), approvals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.settings.choices import (
    AccountKind,
    BenchmarkKind,
    BenchmarkRebalance,
    BlockRebuyAfter,
    BrokerName,
    IdenticalPolicy,
    LogFormat,
    LogLevel,
    Mode,
    NotifierKind,
    OlderLots,
    PreapprovedKind,
    QuoteFeed,
    RebalanceAt,
    Simultaneous,
    SublotOrder,
    Tacking,
    WithinLot,
)
from daemon.settings.rules import Breach, RuleBroken, breaches_between_sections, duplicates
from daemon.settings.values import (
    AccountId,
    AccountNumber,
    Count,
    Day,
    Exact,
    FilePath,
    KeyringService,
    Label,
    LoopbackUrl,
    Number,
    Port,
    SecretName,
    Switch,
    Symbol,
)
from state.records import Account, AccountType, OrderType, ReliefMethod


class Section(BaseModel):
    """A frozen part of the settings. Unknown keys, NaN and infinity refuse; errors never carry the value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )

    def broken_rules(self) -> Iterator[Breach]:
        """The rules between keys of this section that do not hold."""
        yield from ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        RuleBroken.raise_if_any(self.broken_rules())
        return self


class Database(Section):
    """Where harvestd keeps what it knows."""

    path: FilePath = Field(Path("harvestd.db"), description="The SQLite file.")
    backup_directory: FilePath = Field(
        Path("backups"), description="Where `harvestd backup` puts its files; relative to the database's folder."
    )


class AccountSettings(Section):
    """One account of the household."""

    id: AccountId = Field(description="Your short name for it; every order id and report carries it.")
    type: AccountType = Field(description="Whose it is and how the law treats it.")
    broker: BrokerName = Field(description="Where it is held.")
    account_number: AccountNumber = Field(
        "", description="The broker's number, compared with what the broker says at start."
    )
    relief_method: ReliefMethod = Field(ReliefMethod.FIFO, description="Which lots a sale disposes of.")
    relief_confirmed: Switch = Field(
        False, description="Whether you have made sure that the broker really sells in that order."
    )
    history_complete_since: Day | None = Field(
        None, description="From this day on every purchase and sale in it is known; null when not sure."
    )
    name: Label = Field("", description="Shown in tables.")

    @property
    def is_managed(self) -> bool:
        """True when harvestd trades it; an imported account is only known about."""
        return self.broker is not BrokerName.IMPORT

    def as_account(self) -> Account:
        """The account as the other packages know it."""
        return Account(
            account_id=self.id,
            account_type=self.type,
            relief_method=self.relief_method,
            broker=self.broker.value,
            account_number=self.account_number,
            history_complete_since=self.history_complete_since,
            name=self.name,
        )

    def broken_rules(self) -> Iterator[Breach]:
        """Alpaca takes no lot on an order and disposes first in, first out (docs/METHODS.md)."""
        if self.broker is BrokerName.ALPACA and self.relief_method is not ReliefMethod.FIFO:
            yield Breach(
                ("relief_method", "broker"),
                allowed="fifo at broker: alpaca",
                hint="Alpaca sells the oldest shares first and cannot be told otherwise; plans must follow it.",
            )


class Household(Section):
    """All accounts of the taxpayer and spouse: wash sales reach across every one of them."""

    accounts: tuple[AccountSettings, ...] = Field(
        min_length=1, max_length=50, description="Each account once, those harvestd may not trade included."
    )

    @property
    def managed(self) -> tuple[AccountSettings, ...]:
        """The accounts that harvestd trades."""
        return tuple(account for account in self.accounts if account.is_managed)

    def broken_rules(self) -> Iterator[Breach]:
        """Ids and account numbers are unique, and there is something to manage."""
        for position, account_id in duplicates(account.id for account in self.accounts):
            yield Breach((f"accounts.{position}.id",), allowed="an id used once", seen=account_id)
        numbers = ((account.broker, account.account_number) for account in self.accounts)
        for position, (_, number) in duplicates(numbers):
            if number:
                yield Breach((f"accounts.{position}.account_number",), allowed="a number used once at each broker")
        if not self.managed:
            yield Breach(
                ("accounts",),
                allowed="at least one account that harvestd manages",
                seen="only accounts with broker: import",
                hint="An imported account is known about, never traded. Give one account broker: alpaca or simulated.",
            )


class Benchmark(Section):
    """What the managed accounts track."""

    kind: BenchmarkKind = Field(BenchmarkKind.EQUAL_WEIGHT, description="Where its weights come from.")
    symbols: tuple[Symbol, ...] = Field((), max_length=3000, description="The names, for kind equal_weight.")
    constituents_file: FilePath | None = Field(None, description="The file, for kind constituents_file.")
    rebalance: BenchmarkRebalance = Field(
        BenchmarkRebalance.QUARTERLY, description="How often it returns to equal weights."
    )

    def broken_rules(self) -> Iterator[Breach]:
        """Each kind has its own source of names, and only that one."""
        for position, symbol in duplicates(self.symbols):
            yield Breach((f"symbols.{position}",), allowed="each symbol once", seen=symbol)
        if self.kind is BenchmarkKind.EQUAL_WEIGHT:
            if len(self.symbols) < 3:
                yield Breach(
                    ("symbols",),
                    allowed="at least 3 symbols for kind: equal_weight",
                    seen=f"{len(self.symbols)} of them",
                    hint="A name needs two others as replacements after a harvest.",
                )
            if self.constituents_file is not None:
                yield Breach(("constituents_file", "kind"), allowed="null for kind: equal_weight")
        else:
            if self.constituents_file is None:
                yield Breach(("constituents_file", "kind"), allowed="a path for kind: constituents_file", seen="null")
            if self.symbols:
                yield Breach(
                    ("symbols", "kind"),
                    allowed="an empty list for kind: constituents_file",
                    seen=f"{len(self.symbols)} symbols",
                    hint="The names come from the file.",
                )


class TaxProfileSettings(Section):
    """What one more dollar of gain costs and one more dollar of loss saves: federal, state and 3.8 % NIIT together."""

    short_term_rate_pct: Number = Field(40.8, ge=0, le=75, description="Marginal rate on gains held a year or less.")
    long_term_rate_pct: Number = Field(23.8, ge=0, le=75, description="Marginal rate on gains held longer.")
    has_short_term_gains: Switch = Field(
        True, description="Whether there are short-term gains elsewhere for losses to offset."
    )
    tables_file: FilePath | None = Field(
        None,
        description="Tax tables of your own: years that harvestd does not ship, or whole years in place of its own.",
    )


class Conventions(Section):
    """How lots are counted where the law is silent (docs/METHODS.md). The defaults are those of the worked cases."""

    tacking: Tacking = Field(
        Tacking.UNION, description="How the time the sold shares were held passes on to the shares that replace them."
    )
    simultaneous: Simultaneous = Field(
        Simultaneous.SEQUENTIAL, description="Whether lots sold in one trade can replace each other."
    )
    older_lots: OlderLots = Field(
        OlderLots.INCLUDE, description="Whether a purchase of the window that is older than the lot sold replaces it."
    )
    within_lot: WithinLot = Field(
        WithinLot.KEPT_FIRST, description="Which shares of a lot that is sold in part replace first."
    )
    sublot_order: SublotOrder = Field(
        SublotOrder.ADJUSTED_FIRST, description="Which part of a lot sells first after a wash sale parted it."
    )


class WashSales(Section):
    """The wash-sale policy (docs/METHODS.md)."""

    identical: IdenticalPolicy = Field(IdenticalPolicy.INDEX, description="What counts as substantially identical.")
    groups: tuple[Annotated[tuple[Symbol, ...], Field(min_length=2)], ...] = Field(
        (), description="Your own groups of symbols to be treated as identical."
    )
    block_rebuy_after: BlockRebuyAfter = Field(
        BlockRebuyAfter.LOSS_SALE, description="Which sales close a name to purchases for 30 days."
    )
    calendar_file: FilePath | None = Field(
        None, description="An iCalendar file of the wash-sale calendar, written anew each evening."
    )
    conventions: Conventions = Field(Conventions(), description="How lots are counted where the law is silent.")

    def broken_rules(self) -> Iterator[Breach]:
        """A symbol belongs to one group at most; a calendar never takes the place of another kind of file."""
        if self.calendar_file is not None and self.calendar_file.suffix != ".ics":
            yield Breach(("calendar_file",), allowed="a path that ends in .ics, or null")
        where = [(f"groups.{i}.{j}", name) for i, group in enumerate(self.groups) for j, name in enumerate(group)]
        for position, symbol in duplicates(name for _, name in where):
            yield Breach((where[position][0],), allowed="each symbol in one group, once", seen=symbol)


class Harvest(Section):
    """When a loss is worth taking (docs/METHODS.md)."""

    enabled: Switch = Field(True, description="Whether losses are harvested at all.")
    trigger_multiplier: Number = Field(1.0, ge=0.5, le=2, description="Scales the loss that is deep enough.")
    round_trip_cost_bps: Number = Field(10.0, ge=0, le=500, description="Cost of selling a name and buying another.")
    ewma_lambda: Number = Field(0.97, ge=0.8, le=0.999, description="Memory of the volatility estimate, a session.")
    long_term_trigger_pct: Number = Field(0.6, ge=0, le=50, description="Loss deep enough for a long-term lot.")
    minimum_loss_usd: Exact = Field(Decimal(100), ge=0, le=1_000_000, description="The least loss worth an order.")
    replacements_per_name: Count = Field(2, ge=2, le=5, description="Disjoint replacements kept for each name.")


class Risk(Section):
    """The factor risk model."""

    factors: Count = Field(5, ge=1, le=50, description="Statistical factors.")
    window_sessions: Count = Field(504, ge=60, le=2520, description="History it is estimated from.")
    half_life_sessions: Count = Field(252, ge=10, le=2520, description="Age at which a return counts half.")
    reestimate_every_sessions: Count = Field(21, ge=1, le=252, description="How often it is estimated anew.")

    def broken_rules(self) -> Iterator[Breach]:
        """A half-life longer than the window would not be one."""
        if self.half_life_sessions > self.window_sessions:
            yield Breach(
                ("half_life_sessions", "window_sessions"),
                allowed=f"at most risk.window_sessions ({self.window_sessions})",
                seen=str(self.half_life_sessions),
            )


class Optimizer(Section):
    """What a plan may look like (docs/METHODS.md)."""

    tracking_error_max_bps: Number = Field(400.0, ge=1, le=5000, description="Limit on expected tracking error.")
    tracking_error_room_pct: Number = Field(
        15.0, ge=0, le=90, description="Part of that limit a plan leaves unused, for what prices do afterwards."
    )
    risk_aversion: Number = Field(10.0, ge=0, le=1000, description="Weight of active risk against tax and cost.")
    name_weight_max_pct: Number = Field(12.0, gt=0, le=100, description="Largest weight of one name.")
    sector_deviation_max_pct: Number = Field(
        100.0, ge=0, le=100, description="Largest difference of a sector's weight from the benchmark; 100 is off."
    )
    turnover_max_pct: Number = Field(100.0, gt=0, le=200, description="Sells and buys of one plan together.")
    cash_min_pct: Number = Field(0.2, ge=0, le=50, description="Least cash after a plan.")
    cash_max_pct: Number = Field(2.0, ge=0, le=100, description="Most cash after a plan; more than this is invested.")
    minimum_trade_usd: Exact = Field(Decimal(100), ge=1, le=1_000_000, description="The least trade worth an order.")
    whole_shares: Switch = Field(True, description="Trade whole shares only, or fractions where the broker can.")
    drift_max_pct: Number = Field(2.5, gt=0, le=100, description="Largest absolute active weight before a plan is due.")
    rebalance_gain_max_pct: Number = Field(
        2.0, ge=0, le=100, description="A rebalance sells no lot with a larger gain, unless tracking error is too high."
    )
    rebalance_at: RebalanceAt = Field(RebalanceAt.QUARTERLY, description="When a plan is due by the calendar alone.")
    deposit_names_max: Count = Field(3, ge=1, le=50, description="Most names that one deposit buys.")

    def broken_rules(self) -> Iterator[Breach]:
        """Cash needs room between its two limits."""
        if self.cash_min_pct >= self.cash_max_pct:
            yield Breach(
                ("cash_min_pct", "cash_max_pct"),
                allowed=f"less than optimizer.cash_max_pct ({self.cash_max_pct:g})",
                seen=f"{self.cash_min_pct:g}",
            )


class Preapproval(Section):
    """Trades that need no approval."""

    kind: PreapprovedKind = Field(description="Which trades.")
    below_usd: Exact = Field(gt=0, le=10_000_000, description="Below this value.")


class Approvals(Section):
    """What waits for a person."""

    order_usd: Exact = Field(Decimal(10_000), ge=0, le=100_000_000, description="An order above this value waits.")
    plan_pct_nav: Exact = Field(Decimal(5), ge=0, le=200, description="A plan whose gross value is above this waits.")
    gain_usd: Exact = Field(Decimal(1_000), ge=0, le=100_000_000, description="A plan realizing more gain waits.")
    expires_after_hours: Count = Field(20, ge=1, le=168, description="An unanswered plan expires after this.")
    reprice_tolerance_pct: Exact = Field(
        Decimal(2), gt=0, le=20, description="An approved plan whose value changed by more than this asks again."
    )
    preapproved: tuple[Preapproval, ...] = Field((), description="Kinds of trades that need no approval when small.")

    def broken_rules(self) -> Iterator[Breach]:
        """One size for each kind."""
        for position, kind in duplicates(rule.kind for rule in self.preapproved):
            yield Breach((f"preapproved.{position}.kind",), allowed="each kind once", seen=kind.value)


class Execution(Section):
    """How orders are sent, and the limits at the gate, which fail closed."""

    order_type: OrderType = Field(OrderType.LIMIT, description="How orders ask to be priced.")
    limit_collar_bps: Exact = Field(
        Decimal(50), ge=0, le=1000, description="How far beyond the far side of the quote a limit is set."
    )
    unhedged_max_pct_nav: Exact = Field(
        Decimal(5), gt=0, le=100, description="Most that may be sold and not yet bought back within swaps."
    )
    order_max_usd: Exact = Field(Decimal(100_000), gt=0, le=100_000_000, description="Larger orders are refused.")
    daily_notional_max_usd: Exact = Field(
        Decimal(500_000), gt=0, le=1_000_000_000, description="Orders of one day together; more are refused."
    )
    price_collar_pct: Exact = Field(
        Decimal(25), gt=0, le=100, description="A price further from the previous close is refused."
    )
    quote_age_max_s: Count = Field(900, ge=1, le=86_400, description="An older quote is not used.")
    spread_max_bps: Exact = Field(Decimal(100), gt=0, le=2000, description="A wider spread is not traded.")
    stop_before_close_minutes: Count = Field(2, ge=0, le=60, description="Nothing is sent this near the close.")
    orders_max_per_minute: Count = Field(100, ge=1, le=1000, description="More orders within a minute wait.")
    repeats_max: Count = Field(
        24, ge=1, le=1000, description="Orders of one symbol and side in a session; more are refused."
    )
    bad_quotes_max_pct: Exact = Field(
        Decimal(20), ge=0, le=100, description="With more symbols than this without a quote to trust, nothing trades."
    )
    volume_max_pct: Exact = Field(
        Decimal(1), gt=0, le=100, description="Largest order, of the symbol's daily volume; larger ones are sliced."
    )
    slice_every_s: Count = Field(120, ge=1, le=3600, description="Time between two slices of such an order.")
    allowed_symbols: tuple[Symbol, ...] = Field(
        (), description="Only these are traded; empty: the benchmark's names and what is held."
    )
    restricted_symbols: tuple[Symbol, ...] = Field((), description="Never bought and never sold.")

    def broken_rules(self) -> Iterator[Breach]:
        """One order fits into the day."""
        if self.order_max_usd > self.daily_notional_max_usd:
            yield Breach(
                ("order_max_usd", "daily_notional_max_usd"),
                allowed=f"at most execution.daily_notional_max_usd ({self.daily_notional_max_usd})",
                seen=str(self.order_max_usd),
            )
        for name in ("allowed_symbols", "restricted_symbols"):
            for position, symbol in duplicates(getattr(self, name)):
                yield Breach((f"{name}.{position}",), allowed="each symbol once", seen=symbol)


class Schedule(Section):
    """When the daemon does what, relative to the exchange's session."""

    decide_before_close_minutes: Count = Field(20, ge=1, le=240, description="The day's plan is made this early.")
    work_every_s: Count = Field(120, ge=5, le=3600, description="How often open intents are worked.")
    preopen_minutes: Count = Field(30, ge=0, le=180, description="Reconciles this long before the open.")
    evening_minutes: Count = Field(20, ge=0, le=240, description="Books the day this long after the close.")


class Alpaca(Section):
    """How Alpaca is spoken to."""

    feed: QuoteFeed = Field(QuoteFeed.IEX, description="Which quotes are asked for.")
    requests_per_minute: Count = Field(
        200, ge=30, le=10_000, description="Trading calls the account may make; a part is kept for cancels."
    )
    observe_account: AccountKind = Field(AccountKind.PAPER, description="Which account mode: observe looks at.")
    loopback_url: LoopbackUrl | None = Field(
        None, description="A stand-in for Alpaca on this machine, to rehearse against. Never Alpaca itself."
    )


class MarketHistory(Section):
    """The prices that are kept."""

    load_years: Count = Field(4, ge=2, le=10, description="How far back the first load of daily prices reaches.")


class Notifications(Section):
    """Who is told of alerts."""

    kinds: tuple[NotifierKind, ...] = Field((NotifierKind.LOG,), min_length=1, description="Where alerts go.")
    heartbeat_url_name: SecretName | None = Field(
        None, description="Name of the secret that holds the address of a sign of life. Never the address itself."
    )
    heartbeat_every_minutes: Count = Field(5, ge=1, le=1440, description="How often the sign of life is given.")


class Metrics(Section):
    """The daemon's figures and whether it is well, for a monitor on this machine."""

    port: Port | None = Field(None, description="TCP port on 127.0.0.1, and nowhere else.")


class Log(Section):
    """The log."""

    format: LogFormat = Field(LogFormat.CONSOLE, description="How lines look.")
    level: LogLevel = Field(LogLevel.INFO, description="The least important line that is written.")


class Credentials(Section):
    """Where secrets are found, and under which names. Never a secret itself."""

    directory: FilePath | None = Field(None, description="A folder of your own secret files, mode 0400 or 0600.")
    keyring_service: KeyringService = Field(
        "harvestd", description="The service under which the desktop keyring holds them."
    )
    alpaca_key_id_name: SecretName = Field("alpaca_paper_key_id", description="Name of the Alpaca key id.")
    alpaca_secret_key_name: SecretName = Field("alpaca_paper_secret_key", description="Name of the Alpaca secret.")


class Settings(BaseSettings):
    """Everything a person can set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )

    mode: Mode = Field(Mode.PAPER, description="How far harvestd may go.")
    database: Database = Field(Database(), description="Where harvestd keeps what it knows.")
    household: Household = Field(description="Every account of the taxpayer and spouse.")
    benchmark: Benchmark = Field(description="What the managed accounts track.")
    tax_profile: TaxProfileSettings = Field(TaxProfileSettings(), description="Your marginal rates.")
    wash_sales: WashSales = Field(WashSales(), description="The wash-sale policy.")
    harvest: Harvest = Field(Harvest(), description="When a loss is worth taking.")
    risk: Risk = Field(Risk(), description="The factor risk model.")
    optimizer: Optimizer = Field(Optimizer(), description="What a plan may look like.")
    approvals: Approvals = Field(Approvals(), description="What waits for a person.")
    execution: Execution = Field(Execution(), description="How orders are sent, and the limits at the gate.")
    schedule: Schedule = Field(Schedule(), description="When the daemon does what.")
    notifications: Notifications = Field(Notifications(), description="Who is told of alerts.")
    metrics: Metrics = Field(Metrics(), description="Figures and health, for a monitor on this machine.")
    alpaca: Alpaca = Field(Alpaca(), description="How Alpaca is spoken to.")
    history: MarketHistory = Field(MarketHistory(), description="The prices that are kept.")
    log: Log = Field(Log(), description="The log.")
    credentials: Credentials = Field(Credentials(), description="Where secrets are found.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The values given, and nothing else: `loading` reads file and environment, because it knows their places."""
        return (init_settings,)

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        RuleBroken.raise_if_any(breaches_between_sections(self))
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from values in code; the environment is not read. Raises pydantic's ValidationError."""
        return cls.model_validate(dict(values))

    def as_yaml(self) -> str:
        """The settings as YAML, every key present, without comments. `config.yaml` made of it loads to the same."""
        import yaml

        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def account(self, account_id: str) -> AccountSettings:
        """The account of that id. Raises KeyError."""
        return {account.id: account for account in self.household.accounts}[account_id]
