"""Federal income tax on investments: netting with carryovers, rates by year and status, the qualified-dividend test.

Pure and exact: amounts are US dollars as `Decimal`, never rounded here. `netting` says what of a year's gains and
losses counts in it, `rates` what the rest costs, `dividends` which dividends are taxed like long-term gains, and
`tables` holds the figures of each year, read from `federal.yaml` by the daemon.
"""

from strategy.taxes.dividends import DividendHolding, dividend_holding
from strategy.taxes.errors import MissingTaxYearError, TaxError, TaxInputError, TaxTableError
from strategy.taxes.filing import FilingStatus
from strategy.taxes.netting import ScheduleD, net_capital_gains
from strategy.taxes.rates import (
    Income,
    MarginalRates,
    federal_tax,
    marginal_rates,
    net_investment_income_tax,
    ordinary_tax,
    preferential_tax,
)
from strategy.taxes.tables import Evidence, Schedule, Source, TaxTables, TaxYear, read_tables

__all__ = [
    "DividendHolding",
    "Evidence",
    "FilingStatus",
    "Income",
    "MarginalRates",
    "MissingTaxYearError",
    "Schedule",
    "ScheduleD",
    "Source",
    "TaxError",
    "TaxInputError",
    "TaxTableError",
    "TaxTables",
    "TaxYear",
    "dividend_holding",
    "federal_tax",
    "marginal_rates",
    "net_capital_gains",
    "net_investment_income_tax",
    "ordinary_tax",
    "preferential_tax",
    "read_tables",
]
