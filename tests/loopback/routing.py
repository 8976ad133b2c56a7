"""Which function answers which path; the paths are written as in Alpaca's OpenAPI documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loopback.requests import Request


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body; None is an empty one."""

    status: int
    body: object = None


Handler = Callable[..., Answer]


@dataclass(frozen=True)
class Route:
    """One path of an API, `{name}` standing for a segment that the handler is given."""

    method: str
    path: str
    handler: Handler


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(re.compile(re.sub(r"\{\w+\}", "([^/]+)", route.path)), route) for route in routes]

    def find(self, request: Request) -> tuple[Route, tuple[str, ...]] | None:
        """The route, and the segments it asks for; None where there is none."""
        for pattern, route in self._routes:
            found = pattern.fullmatch(request.path)
            if found is not None and route.method == request.method:
                return route, found.groups()
        return None
