"""Answers as bytes: JSON as Alpaca writes it, and what comes instead when a fault strikes."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

from loopback import errors
from loopback.faults import Fault, FaultKind
from loopback.routing import Answer
from loopback.transport import Reply
from loopback.wire import Json

_SAYS = {  # own words: what comes with these statuses has not been recorded
    500: "internal server error occurred",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
}
_PAGE = (
    "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def as_text(body: object) -> str:
    """A body as JSON; a decimal becomes a JSON number."""
    return json.dumps(body, default=_number)


def encoded(answer: Answer, headers: dict[str, str]) -> Reply:
    """An answer as it leaves."""
    body = b"" if answer.body is None else as_text(answer.body).encode()
    return Reply(answer.status, body, headers=headers)


def broken_off(reply: Reply) -> Reply:
    """The same answer, of which only the first half arrives."""
    return Reply(reply.status, reply.body, reply.content_type, reply.headers, cut_at=len(reply.body) // 2)


def dripping(fault: Fault, reply: Reply) -> Reply:
    """The same answer, one byte after the other."""
    return replace(reply, drip_s=fault.seconds, drip_from="headers" if fault.text == "headers" else "body")


def instead(fault: Fault, headers: dict[str, str], *, is_data: bool) -> Reply:
    """What a fault of the kinds status, html and redirect answers."""
    if fault.kind is FaultKind.HTML:
        status = fault.status or 502
        return Reply(status, _PAGE.format(status=status).encode(), "text/html", headers)
    if fault.kind is FaultKind.REDIRECT:
        elsewhere = {"Location": fault.text or "https://alpaca.invalid/"}
        return Reply(fault.status or 302, b"", "text/html", {**headers, **elsewhere})
    body = fault.body if fault.body is not None else _said(fault.status, is_data=is_data)
    return encoded(Answer(fault.status, body), headers)


def _said(status: int, *, is_data: bool) -> Json:
    """What Alpaca says with a status, as far as it is known."""
    if status == 429:
        return errors.rate_limited(trading=not is_data).body
    if status == 401:
        return errors.unauthorized().body
    if status == 403:
        return {"message": "forbidden."}
    return {"message": _SAYS.get(status, "request failed")}


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"Expected something JSON has, was {value!r}")
