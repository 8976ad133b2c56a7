"""`harvestd report scorecard`: what the plans that were only observed would have come to."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, usd
from daemon.cli.views.facts import add, grid, managed, say, settings_of, show
from daemon.errors import NotFound

WHAT_IT_IS = (
    "None of this was traded, and none of it was earned. Each plan is judged as if it alone had been done that day at "
    "its own prices, so the rows must not be added up: what is not traded is proposed again the next day. Losses are "
    "estimates after the disallowance the plan foresaw; tax is at the flat rates of tax_profile, and mostly deferred; "
    "value is before tax and after estimated cost, dividends inside."
)


def scorecard(
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    after: Annotated[
        int | None,
        typer.Option("--after", help="Judge each plan so many sessions later; else at the newest close.", min=1),
    ] = None,
) -> None:
    """What the plans of observe mode would have come to, one by one."""
    with reading(db, config) as store:
        settings = settings_of(store, config)
        if settings is None:
            raise NotFound("The scorecard needs the tax rates of a configuration; give --config.")
        from daemon.house import tax_profile_of
        from daemon.scorecard import scores

        found = scores(store, tax_profile_of(settings), after_sessions=after)
        profile = settings.tax_profile
        accounts = ", ".join(one.account_id for one in managed(store.household.accounts()))
    if as_json:
        rates = {"short_term_rate_pct": profile.short_term_rate_pct, "long_term_rate_pct": profile.long_term_rate_pct}
        emit({"what": WHAT_IT_IS, "rates": rates, "accounts": accounts.split(", "), "plans": found})
        return
    if not found:
        say("No plan was kept from being sent by mode: observe. They are made while `harvestd run` observes.")
        return
    rows = grid("plan", ">trades", ">value USD", ">loss taken", ">gain", ">tax saved", ">TE bp", ">sessions", ">effect")
    for one in found:
        effect = "no close yet" if one.until is None else f"no price: {', '.join(one.missing)}"
        if one.value_effect_usd is not None:
            effect = f"{one.value_effect_usd:+,.2f}"
        error = f"{one.tracking_error_before_bps or 0:.0f} -> {one.tracking_error_after_bps or 0:.0f}"
        figures = (usd(one.gross_usd, 0), usd(one.loss_usd), usd(one.gain_usd), usd(one.tax_saved_usd))
        add(rows, one.plan_id, str(one.trades), *figures, error, str(one.sessions), effect)
    show(rows, f"Plans of {accounts} that were observed, never sent")
    say(WHAT_IT_IS)
    say(f"Rates: {profile.short_term_rate_pct:g} % short-term, {profile.long_term_rate_pct:g} % long-term.")
