"""What is bought instead: peers first, then company, never the same thing twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.replacements import CORRELATION_DECIMALS, choose_replacements
from strategy.risk import RiskModel

NAMES = ("BANK1", "BANK2", "BANK3", "OIL1", "OIL2", "FUND", "TWIN")
LOADINGS = (1.0, 0.9, 0.5, 0.8, 0.4, 2.0, 2.0)  # one factor: the higher the loading, the higher every correlation
SECTORS = {"BANK1": "Banks", "BANK2": "Banks", "BANK3": "Banks", "OIL1": "Energy", "OIL2": "Energy"}


def model(loadings: Sequence[float] = LOADINGS) -> RiskModel:
    n = len(loadings)
    return RiskModel(
        NAMES[:n], np.array(loadings)[:, None], np.array([[0.04]]), np.full(n, 0.04), date(2026, 11, 20), 504
    )


def identical(one: str, other: str) -> bool:
    return {one, other} == {"FUND", "TWIN"}


def chosen(*names: str, excluded: Sequence[str] = (), count: int = 2) -> dict[str, tuple[str, ...]]:
    return dict(
        choose_replacements(
            names=names, model=model(), sectors=SECTORS, excluded=set(excluded), identical=identical, count=count
        )
    )


def test_peers_come_first_though_others_move_more_alike() -> None:
    assert chosen("BANK1") == {"BANK1": ("BANK2", "BANK3")}


def test_where_peers_run_out_the_best_company_of_any_sector_follows() -> None:
    assert chosen("OIL1") == {"OIL1": ("OIL2", "FUND")}
    assert chosen("BANK1", excluded=["BANK2", "BANK3"]) == {"BANK1": ("FUND", "OIL1")}


def test_two_replacements_are_never_identical_to_one_another_or_to_the_name() -> None:
    assert chosen("OIL1", excluded=["OIL2"]) == {"OIL1": ("FUND", "BANK1")}  # not TWIN beside FUND
    assert chosen("FUND")["FUND"] == ("BANK1", "BANK2")


def test_a_name_without_a_sector_goes_by_correlation_alone() -> None:
    assert chosen("TWIN", excluded=["BANK1"])["TWIN"] == ("BANK2", "OIL1")


def test_nothing_free_nothing_chosen() -> None:
    assert chosen("BANK1", excluded=NAMES) == {"BANK1": ()}
    assert chosen("BANK1", excluded=[name for name in NAMES if name != "OIL2"]) == {"BANK1": ("OIL2",)}


def test_a_name_outside_the_model_gets_none() -> None:
    assert chosen("STRANGER", "BANK1")["STRANGER"] == ()


def test_ties_go_by_name() -> None:
    alike = model((1.0, 1.0, 1.0, 1.0))
    found = choose_replacements(
        names=["BANK3"], model=alike, sectors={}, excluded=set(), identical=lambda *_: False, count=3
    )
    assert found["BANK3"] == ("BANK1", "BANK2", "OIL1")


def test_as_many_as_asked_for() -> None:
    assert len(chosen("BANK1", count=4)["BANK1"]) == 4
    with pytest.raises(ValueError, match="1 or more"):
        chosen("BANK1", count=0)


# ------------------------------------------------------------------ laws


@given(
    loadings=st.lists(st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.0]), min_size=2, max_size=len(NAMES)),  # with many ties
    sector_of=st.lists(st.sampled_from(["Banks", "Energy", None]), min_size=len(NAMES), max_size=len(NAMES)),
    excluded=st.sets(st.sampled_from(NAMES)),
    count=st.integers(1, 4),
)
def test_the_choice_is_the_first_of_all_names_sorted_by_peer_correlation_and_name(
    loadings: list[float], sector_of: list[str | None], excluded: set[str], count: int
) -> None:
    known = model(loadings)
    sectors = {name: sector for name, sector in zip(NAMES, sector_of, strict=True) if sector is not None}
    correlation = known.correlation().round(CORRELATION_DECIMALS)
    expected = {}
    for place, name in enumerate(known.names):
        ranked = sorted(
            (other not in sectors or sectors[other] != sectors.get(name), -correlation[place, number], other)
            for number, other in enumerate(known.names)
            if other not in excluded and other != name
        )
        best: list[str] = []
        for *_, other in ranked:
            if len(best) < count and not any(identical(other, each) for each in (name, *best)):
                best.append(other)
        expected[name] = tuple(best)
    found = choose_replacements(
        names=known.names, model=known, sectors=sectors, excluded=excluded, identical=identical, count=count
    )
    assert found == expected
