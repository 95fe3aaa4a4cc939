"""Errors as strangers see them: one shape (RFC 9457), the fitting status, and nothing of how it looks inside.

Does not belong here: which errors there are (errors.py).
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from trailer_ml.errors import (
    MediaError,
    MissingObjectError,
    ModelMismatchError,
    NoIndexError,
    NoModelError,
    RetryableError,
    TrailerError,
    UnknownTrailerError,
)
from trailer_ml.search.service.answers import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
_DETAIL_LENGTH = 300


def make_problem(
    status: int, detail: str, path: str, *, reason: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that says what went wrong."""
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail[:_DETAIL_LENGTH], instance=path, reason=reason
    )
    return Response(
        problem.model_dump_json(exclude_none=True), status, headers=dict(headers or {}), media_type=PROBLEM_TYPE
    )


def make_unforeseen(path: str) -> Response:
    """The answer where something is wrong with us."""
    return make_problem(500, "this could not be answered; the log of the service says why", path)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint says in its description about the errors it may answer with."""
    return {
        status: {
            "model": Problem,
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def add_handlers(app: FastAPI) -> None:
    """Let every error that was foreseen be answered in this shape; what was not, the guard answers."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(TrailerError, _answer_ours)


def _answer_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return make_problem(error.status_code, str(error.detail), request.url.path, headers=error.headers)


def _answer_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"])
    return make_problem(422, f"{where}: {first['msg']}", request.url.path)


def _answer_ours(request: Request, error: Exception) -> Response:
    """What is said of a store, a folder or a child process stays in the log."""
    path = request.url.path
    if isinstance(error, UnknownTrailerError | MissingObjectError):
        known = isinstance(error, UnknownTrailerError)
        return make_problem(404, str(error) if known else "there is no such thing", path)
    if isinstance(error, MediaError):
        return make_problem(422, str(error), path, reason=error.reason)
    logger.warning("%s: %s", path, error)
    later = {"Retry-After": "5"}
    if isinstance(error, NoIndexError):
        return make_problem(503, "no index has been published yet", path, headers=later)
    if isinstance(error, ModelMismatchError | NoModelError):
        return make_problem(503, "the model is just being changed: try again", path, headers=later)
    if isinstance(error, RetryableError):
        return make_problem(503, "this cannot be answered just now: try again", path, headers=later)
    return make_unforeseen(path)
