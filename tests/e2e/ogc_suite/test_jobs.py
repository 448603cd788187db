"""Class Jobs of the official suite (abstract tests 16 to 46); the tests bear its names.

Where the suite would skip for want of something in the echo process, the test fails: the aim is 54 of 54, none skipped.
"Accepted" below is the suite's word for success: 200 or 201, whatever the body.
"""
# ruff: noqa: N802

from __future__ import annotations

import email
import email.policy
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.conftest import Polling
from tests.e2e.ogc_suite.echo import TEXT, Echo
from tests.e2e.ogc_suite.schemas import Schemas
from tests.e2e.ogc_suite.wire import Answer

Send = Callable[[Any], Answer]

NOT_READY = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/result-not-ready"


@pytest.fixture
def sync(iut: str) -> Send:
    """Execute echo without a Prefer header."""
    return lambda document: wire.post(f"{iut}/processes/echo/execution", document)


@pytest.fixture
def respond_async(iut: str, echo: Echo) -> Send:
    """Execute echo with `Prefer: respond-async`, which must be accepted."""

    def send(document: Any) -> Answer:
        assert echo.asynchronous, "the suite would skip: echo does not offer async-execute"
        answer = wire.post(f"{iut}/processes/echo/execution", document, prefer="respond-async")
        allowed = {200, 201} if echo.sync else {201}
        assert answer.status in allowed, str(answer)
        return answer

    return send


@pytest.fixture
def respond_async_with_blank(iut: str, echo: Echo) -> Send:
    """Execute echo with a blank after the preference, as two tests of the suite do."""

    def send(document: Any) -> Answer:
        assert echo.asynchronous, "the suite would skip: echo does not offer async-execute"
        return wire.post(f"{iut}/processes/echo/execution", document, prefer="respond-async ")

    return send


# --- execution mode --------------------------------------------------------------------------------------------------


def test_jobs_testJobCreationAutoExecutionMode(echo: Echo, respond_async: Send) -> None:
    answer = respond_async(echo.plain())

    assert_accepted(answer)


def test_jobs_testJobCreationDefaultExecutionMode(echo: Echo, sync: Send) -> None:
    answer = sync(echo.plain())

    assert answer.status == 200 if echo.sync else answer.status in {200, 201}, str(answer)


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_jobs_testJobCreationDefaultOutputs(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.without_outputs()))


def test_jobs_testJobCreationInputArray(echo: Echo, sync: Send) -> None:
    request = echo.with_array()
    assert request is not None, "the suite would skip: no array input"

    assert_accepted(sync(request))


def test_jobs_testJobCreationInputInlineBbox(echo: Echo, sync: Send) -> None:
    request = echo.with_bbox()
    assert request is not None, "the suite would skip: no bounding box input"

    assert_accepted(sync(request))


def test_jobs_testJobCreationInputInlineBinary(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.with_binary()))


def test_jobs_testJobCreationInputInlineMixed(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.with_object()))


def test_jobs_testJobCreationInputInlineObject(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.with_object()))


def test_jobs_testJobCreationInputInline(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain()))


def test_jobs_testJobCreationInputs(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain()))


def test_jobs_testJobCreationInputRef(echo: Echo, schemas: Schemas, sync: Send) -> None:
    answer = sync(echo.with_reference())

    if answer.first("Content-Type").startswith("multipart/related"):
        assert_multipart_holds_text(answer)
    elif answer.status == 201:
        schemas.assert_response("getStatus", wire.get(answer.first("Location")))
    else:
        assert answer.status == 200, str(answer)
        schemas.assert_response("execute", answer)


def test_jobs_testJobCreationInputValidation(echo: Echo, schemas: Schemas, sync: Send, polling: Polling) -> None:
    wrong = echo.with_wrong_format()
    assert wrong is not None, "the suite would skip: no input names a contentMediaType"

    good_answer = sync(echo.plain())
    wrong_answer = sync(wrong)

    assert_good_inputs(good_answer, schemas, polling)
    assert_wrong_inputs(wrong_answer, schemas)


def assert_good_inputs(answer: Answer, schemas: Schemas, polling: Polling) -> None:
    if answer.first("Content-Type").startswith("multipart/related"):
        assert_multipart_holds_text(answer)
    elif answer.status == 201:
        polling.until_results(wire.get(answer.first("Location")).json())
    else:
        assert answer.status == 200, str(answer)
        schemas.assert_response("execute", answer)


def assert_wrong_inputs(answer: Answer, schemas: Schemas) -> None:
    answer.json()
    if answer.status == 201:
        status = wire.get(answer.first("Location")).json()
        assert status.get("status") == "failed", f"not failed when first asked: {status}"
        return
    assert answer.status in {400, 500}, str(answer)
    content_type = answer.first("Content-Type")
    assert content_type == "application/json" or content_type.startswith("application/json;"), str(answer)
    schemas.assert_remote("exception.yaml", answer)


# --- the created job -------------------------------------------------------------------------------------------------


def test_jobs_testJobCreationOp(echo: Echo, schemas: Schemas, respond_async_with_blank: Send) -> None:
    answer = respond_async_with_blank(echo.plain())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location"), accept=None))


def test_jobs_testJobCreationRequest(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.plain())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location")))


def test_jobs_testJobCreationSuccessAsync(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.plain())

    assert_accepted(answer)
    schemas.assert_response("getStatus", wire.get(answer.first("Location")))


def test_jobs_testJobOp(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain()))


def test_jobs_testJobSuccess(echo: Echo, schemas: Schemas, respond_async_with_blank: Send) -> None:
    answer = respond_async_with_blank(echo.plain())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location"), accept=None))


def test_jobs_testJobExceptionNoSuchJob(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/jobs/invalid-job-{uuid.uuid4()}")

    schemas.assert_response("getJobs", answer)


# --- synchronous results ---------------------------------------------------------------------------------------------


def test_jobs_testJobCreationSyncDocument(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain() | {"response": "document"}))


def test_jobs_testJobCreationSyncRawMixedMulti(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain() | {"response": "raw"}))


def test_jobs_testJobCreationSyncRawRef(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain() | {"response": "raw"}))


def test_jobs_testJobCreationSyncRawValueMulti(echo: Echo, sync: Send) -> None:
    assert_accepted(sync(echo.plain() | {"response": "raw"}))


def test_jobs_testJobCreationSyncRawValueOne(echo: Echo, sync: Send) -> None:
    answer = sync(echo.one_output())

    assert_accepted(answer)
    assert TEXT in answer.text, str(answer)


def test_jobs_testJobResultsSync(echo: Echo, schemas: Schemas, sync: Send) -> None:
    answer = sync(echo.plain())

    assert_accepted(answer)
    links = answer.all("Link")
    if links:
        monitors = [value.split(";")[0] for value in links if "rel=monitor" in value]
        assert monitors, f"the suite looks for `rel=monitor` without quotes: {links}"
        assert not monitors[0].startswith("<"), f"the suite takes all before the semicolon as the address: {links}"
        schemas.assert_response("getStatus", wire.get(monitors[0]))


# --- asynchronous results --------------------------------------------------------------------------------------------


def test_jobs_testJobResults(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.plain())

    assert answer.status == 201, str(answer)
    status = wire.get(answer.first("Location"))
    assert status.status == 200, str(status)
    schemas.assert_remote("statusInfo.yaml", status)


def test_jobs_testJobResultsAsyncDocument(echo: Echo, respond_async: Send) -> None:
    assert_accepted(respond_async(echo.plain() | {"response": "document"}))


def test_jobs_testJobResultsAsyncRawMixedMulti(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.with_object())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location")))


def test_jobs_testJobResultsAsyncRawRef(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.with_object())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location")))


def test_jobs_testJobResultsAsyncRawValueMulti(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    answer = respond_async(echo.with_object())

    assert_accepted(answer)
    schemas.assert_operation("getStatus", wire.get(answer.first("Location")))


def test_jobs_testJobResultsAsyncRawValueOne(echo: Echo, respond_async: Send, polling: Polling) -> None:
    answer = respond_async(echo.one_output())

    assert_accepted(answer)
    document = answer.json()
    if answer.status == 200:
        assert document == TEXT, str(answer)
    else:
        polling.until_results(wire.get(answer.first("Location")).json())


# --- results that are not there --------------------------------------------------------------------------------------


def test_jobs_testJobResultsNoSuchJob(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/jobs/invalid-job-{uuid.uuid4()}/results")

    schemas.assert_response("getResult", answer)


def test_jobs_testJobResultsExceptionResultsNotReady(echo: Echo, schemas: Schemas, respond_async: Send) -> None:
    request = echo.with_pause()
    assert request is not None, "the suite would skip: no input is named pause"

    location = respond_async(request).first("Location")
    wire.get(location)
    answer = wire.get(f"{location}/results")

    assert answer.status == 404, str(answer)
    assert answer.json()["type"] == NOT_READY, str(answer)
    schemas.assert_remote("exception.yaml", answer)


def test_jobs_testJobResultsFailed(schemas: Schemas, sync: Send) -> None:
    answer = sync({"invalid-execute-request": "true)"})

    assert answer.status > 200, str(answer)
    schemas.assert_response("execute", answer)


# --- what several tests assert ---------------------------------------------------------------------------------------


def assert_accepted(answer: Answer) -> None:
    assert answer.status in {200, 201}, str(answer)


def assert_multipart_holds_text(answer: Answer) -> None:
    """The suite guesses the boundary from the first line and finds its string in textual parts only."""
    boundary = answer.text.lstrip("\r\n").splitlines()[0].removeprefix("--")
    head = f"Content-Type: multipart/related; boundary={boundary}\r\n\r\n"
    message = email.message_from_string(head + answer.text, policy=email.policy.HTTP)
    texts = [part.get_content() for part in message.iter_parts() if part.get_content_maintype() == "text"]
    assert any(TEXT in text for text in texts), str(answer)
