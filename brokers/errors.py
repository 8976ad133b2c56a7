"""Broker exceptions, named by what the daemon does about them."""


class BrokerError(Exception):
    """Root of everything an adapter raises on purpose."""


class OrderRefused(BrokerError):  # noqa: N818
    """The broker said no before accepting; the intent ends as refused. `reason` is a reason code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class DuplicateClientOrderId(OrderRefused):
    """The broker already has an order with this client order id; look it up and adopt it, never resend."""


class NotSent(BrokerError):  # noqa: N818
    """The request did not leave this machine (no call left in the rate budget); the intent is recorded again and sent
    at a later step."""


class OutcomeUnknown(BrokerError):  # noqa: N818
    """The request may or may not have arrived; the intent becomes UNKNOWN until the broker's records settle it."""


class BrokerUnavailable(BrokerError):  # noqa: N818
    """A read failed; retried next cycle. Nothing is decided on what could not be read."""


class NotAuthorized(BrokerError):  # noqa: N818
    """The key is revoked or the account blocked; stops trading until a person acts."""


class UnknownOrder(BrokerError):  # noqa: N818
    """An order to be cancelled does not exist at the broker; look it up by client order id."""
