"""Names of the durable switches by which a test or the demo commands the venue."""

UNAVAILABLE = "unavailable"  # the broker answers nothing
BLOCKED = "blocked"  # the account may not trade
LOSE_ANSWER = "lose_answer"  # value "before" or "after": the next submit's answer is lost around acceptance


def halted(symbol: str) -> str:
    """Set while trading in the symbol is halted."""
    return f"halted:{symbol}"


def refuse_next(symbol: str) -> str:
    """The reason with which the next order in the symbol is refused."""
    return f"refuse:{symbol}"


def next_fill(client_order_id: str) -> str:
    """What the order's next match fills: a fraction of what is left, and "hold" or "go" for the rest."""
    return f"fill:{client_order_id}"
