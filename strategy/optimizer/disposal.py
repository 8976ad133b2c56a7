"""Which lots a sale reaches, and in which pieces the solver sees them (docs/METHODS.md).

Two observations turn disposal order into something a convex solver can handle.

1. Lots that are neighbours in a name's queue and taxed alike are one lot: they are merged into a *group*.
2. Cut the queue into *runs*: maximal stretches along which no group is cheaper than the one before it. Inside a run
   the cost is convex, so a solver that may take the groups in any order takes them in the right one. Selling into run
   r means having sold everything in front of it.

A name is then a choice between *branches*: hold or buy, or sell into one run with everything in front of it sold. A
run that holds or follows a loss excludes buying, so the wash-sale rule needs nothing of its own. A leading run
without a loss shares the branch of buying: selling at a gain and buying back is never better than doing neither.

"Cheaper" is judged by every tax piece, and by gain where the net gain is limited; then whatever mixture of them the
solver puts a price on still rises along the run, and the order stays right.

Free relief is the case of a single run without order: all the name's sellable lots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategy.optimizer.program import LotProgram
from strategy.types import BoolArray, FloatArray, IntArray

DUST = 1e-9  # a lot lighter than this gets no column of its own
ALIKE = 1e-12  # gains closer than this are taxed alike
WHOLE = 1e-6
CHEAPER = 1e-10  # per unit of weight; a cost must fall by more than this to end a run


@dataclass(frozen=True)
class Queue:
    """Groups of lots in (name, disposal) order; G groups. Blocked lots are out; in order, so is what is behind them."""

    lots: IntArray  # (M,) the lots in the queue, in (name, disposal) order
    group: IntArray  # (M,) the group of each
    name: IntArray  # (G,)
    weight: FloatArray  # (G,)
    gain: FloatArray  # (G,) per unit of weight
    long_term: BoolArray  # (G,)
    loss: BoolArray  # (G,) contains a loss lot
    front: FloatArray  # (G,) weight in front of it in its name
    sellable: FloatArray  # (n,) total weight in the queue


@dataclass(frozen=True)
class Branches:
    """What may be done with each name, in name order; B branches, at least one for each name.

    Branch b sells everything in front of group `first[b]` and any part of groups `first[b]` to `last[b] - 1`.
    """

    name: IntArray  # (B,)
    first: IntArray  # (B,)
    last: IntArray  # (B,)
    front: FloatArray  # (B,) weight sold in front of the run
    front_short: FloatArray  # (B,) net short-term gain of that weight, fractions of NAV
    front_long: FloatArray  # (B,)
    room: FloatArray  # (B,) weight that may be bought on this branch; 0 where buying is excluded
    of_group: IntArray  # (G,) the branch that holds each group


def disposal_queue(program: LotProgram) -> Queue:
    """The sellable groups of every name in the order its relief disposes of them."""
    lots = np.flatnonzero(program.lot_weight > 0)
    if program.relief == "ordered":
        lots = lots[np.lexsort((lots, program.lot_order[lots], program.lot_name[lots]))]
        lots = lots[~_at_or_behind(program.lot_name[lots], ~program.may_sell[lots])]
    else:
        lots = lots[program.may_sell[lots] & (program.lot_weight[lots] > DUST)]
        keys = (lots, program.lot_order[lots], program.lot_gain[lots], program.lot_long_term[lots])
        lots = lots[np.lexsort((*keys, program.lot_name[lots]))]
    name, weight = program.lot_name[lots], program.lot_weight[lots]
    group = _merge(name, weight, program.lot_gain[lots], program.lot_long_term[lots])
    G = int(group[-1]) + 1 if len(group) else 0
    total = np.bincount(group, weight, G).astype(np.float64)
    start = np.searchsorted(group, np.arange(G))
    group_name = name[start]
    ahead = np.concatenate(([0.0], np.cumsum(total)))[:-1]
    first_of_name = np.searchsorted(group_name, group_name)
    return Queue(
        lots=lots,
        group=group,
        name=group_name,
        weight=total,
        gain=np.bincount(group, weight * program.lot_gain[lots], G) / np.maximum(total, 1e-300),
        long_term=np.bincount(group, weight * program.lot_long_term[lots], G) > total / 2,
        loss=np.bincount(group, program.lot_gain[lots] < 0, G) > 0,
        front=np.asarray(ahead - ahead[first_of_name] if G else total, dtype=np.float64),
        sellable=np.bincount(group_name, total, len(program.weights_held)).astype(np.float64),
    )


def _at_or_behind(name: IntArray, flagged: BoolArray) -> BoolArray:
    """True from the first flagged lot of each name on; `name` is sorted."""
    so_far = np.cumsum(flagged)
    start = np.searchsorted(name, name)
    before = np.concatenate(([0], so_far))[start] if len(name) else so_far
    return np.asarray(so_far - before > 0)


def _merge(name: IntArray, weight: FloatArray, gain: FloatArray, long_term: BoolArray) -> IntArray:
    """Group index of each lot: neighbours of one name taxed alike share one; a dust lot joins its neighbour."""
    M = len(name)
    if not M:
        return np.zeros(0, dtype=np.int64)
    first_of_name = np.searchsorted(name, name)
    solid = np.where(weight > DUST, np.arange(M), -1)
    latest = np.concatenate(([-1], np.maximum.accumulate(solid)[:-1]))  # the last lot before this one that is not dust
    within = latest >= first_of_name
    differs = (np.abs(gain - gain[latest]) > ALIKE) | (long_term != long_term[latest])
    new = (np.arange(M) == first_of_name) | ((weight > DUST) & within & differs)
    return np.asarray(np.cumsum(new) - 1, dtype=np.int64)


def branches(program: LotProgram, queue: Queue, room: FloatArray, cap: FloatArray) -> Branches:
    """Every branch of every name. `room` (n,) is what may be bought, `cap` (n,) the weight not to be exceeded."""
    n, G = len(program.weights_held), len(queue.name)
    first = np.flatnonzero(_run_starts(program, queue))
    last = np.append(first[1:], G) if len(first) else first
    name = queue.name[first]
    losses = np.concatenate(([0], np.cumsum(queue.loss)))
    leading = queue.front[first] <= 0
    shares_buying = leading & (losses[last] == losses[first])
    has_run, buys_there = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    has_run[name], buys_there[name[shares_buying]] = True, True
    alone = np.flatnonzero(~has_run | ((room > 0) & ~buys_there))  # hold or buy, no lots

    reach = np.concatenate(([0.0], np.cumsum(queue.weight)))
    reached = queue.front[first] + reach[last] - reach[first]
    fits = program.weights_held[name] - reached <= cap[name] + DUST  # else the branch cannot get below the cap
    keep = np.flatnonzero(fits)
    alone = alone[~has_run[alone] | (program.weights_held[alone] <= cap[alone] + DUST)]
    order = np.lexsort((np.append(np.zeros(len(alone)), 1 + first[keep]), np.append(alone, name[keep])))
    none = np.zeros(len(alone), dtype=np.int64)
    front_short, front_long = _front_gains(queue)
    of_group = np.full(G, -1, dtype=np.int64)
    first, last = np.append(none, first[keep])[order], np.append(none, last[keep])[order]
    for b in np.flatnonzero(last > first):
        of_group[first[b] : last[b]] = b
    return Branches(
        name=np.append(alone, name[keep])[order],
        first=first,
        last=last,
        front=_of_first(queue.front, first, last),
        front_short=_of_first(front_short, first, last),
        front_long=_of_first(front_long, first, last),
        room=np.append(room[alone], np.where(shares_buying, room[name], 0.0)[keep])[order],
        of_group=of_group,
    )


def _of_first(values: FloatArray, first: IntArray, last: IntArray) -> FloatArray:
    """`values` at each branch's first group, 0 for branches without groups."""
    return np.where(last > first, values[first], 0.0) if len(values) else np.zeros(len(first))


def _run_starts(program: LotProgram, queue: Queue) -> BoolArray:
    """True where a group begins a run (formula: docs/METHODS.md)."""
    start = np.ones(len(queue.name), dtype=bool)
    start[1:] = queue.name[1:] != queue.name[:-1]
    if program.relief == "free":
        return start
    slopes = [
        program.limits.tax_weight * np.where(queue.long_term, long, short) * queue.gain
        for short, long, _ in program.tax_pieces
    ]
    if np.isfinite(program.limits.net_gain_max):
        slopes.append(queue.gain)
    for slope in slopes:
        start[1:] |= slope[1:] < slope[:-1] - CHEAPER
    return start


def _front_gains(queue: Queue) -> tuple[FloatArray, FloatArray]:
    """Net short-term and long-term gain in front of each group, (G,) each."""
    first_of_name = np.searchsorted(queue.name, queue.name)

    def front(amount: FloatArray) -> FloatArray:
        ahead = np.concatenate(([0.0], np.cumsum(amount)))[:-1]
        return np.asarray(ahead - ahead[first_of_name]) if len(amount) else amount

    realized = queue.weight * queue.gain
    return front(np.where(queue.long_term, 0.0, realized)), front(np.where(queue.long_term, realized, 0.0))


def walk(program: LotProgram, queue: Queue, sold: FloatArray, dust: float) -> FloatArray:
    """Lots (L,) that selling `sold` (G,) of each group disposes of: within a group in order, only the last in part.

    Less than `dust` left over is not sold; more than `1 - WHOLE` of a lot is all of it (docs/METHODS.md).
    """
    sell = np.zeros(len(program.lot_weight))
    weight = program.lot_weight[queue.lots]
    ahead = np.concatenate(([0.0], np.cumsum(weight)))[:-1]
    start = np.searchsorted(queue.group, queue.group)
    taken = np.clip(sold[queue.group] - (ahead - ahead[start]) if len(weight) else weight, 0.0, weight)
    taken = np.where(taken > weight * (1 - WHOLE), weight, taken)
    sell[queue.lots] = np.where((taken < dust) & (taken < weight), 0.0, taken)
    return sell
