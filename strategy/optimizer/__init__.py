"""The lot-level optimizer: which lots to sell and which names to buy (docs/METHODS.md).

`program` says what is asked and answered; `disposal` cuts each name's queue into the pieces a convex solver can
handle; `model` and `conic` state the problem; `search` turns the relaxation into a plan with a certificate; `explain`
says in words which limits bind or conflict; `violations` checks a plan without any of them.
"""

from strategy.optimizer.program import Limits, LotProgram, Relief, Solution, Status
from strategy.optimizer.solve import optimize
from strategy.optimizer.violations import tracking_error, violations

__all__ = ["Limits", "LotProgram", "Relief", "Solution", "Status", "optimize", "tracking_error", "violations"]
