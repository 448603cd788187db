"""What became of the messages to the subscriber of a job, and the profiles that authorize them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    InvalidBody,
    InvalidParameter,
    JobGone,
    NoSuchJob,
    NoSuchNotice,
    NoSuchNotificationProfile,
    NotAcceptable,
    TooLarge,
    UnsupportedEncoding,
    UnsupportedMediaType,
)  # fmt: skip
from graticule.jobs.agent import now
from graticule.jobs.ledger import Notice, Profile
from graticule.ogc.common import HTML, JSON, Link
from graticule.ogc.notifications import (
    PROFILE_NAME,
    Notification,
    NotificationList,
    NotificationProfile,
    NotificationProfileList,
)  # fmt: skip
from graticule.ogc.processes import Authorization
from graticule.web.documents import moment
from graticule.web.parameters import JOB_ID, F
from graticule.web.requests import base_of, check_parameters, read_body, workspace_of
from graticule.web.responses import answer, self_links
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Notifications")

_NUMBER = Parameter(
    name="number",
    place="path",
    description="Which notification, from 1.",
    schema={"type": "integer", "minimum": 1},
)
_NAME = Parameter(
    name="name",
    place="path",
    description="Name of a notification profile.",
    schema={"type": "string", "pattern": PROFILE_NAME},
)
_READING = (InvalidParameter, NotAcceptable)


# --- of a job --------------------------------------------------------------------------------------------------------


@routes.get(
    "/jobs/{jobID}/notifications",
    parameters=(JOB_ID, F),
    answers=(
        Answer(
            status=200, description="What became of each message.", content=((JSON, "notificationList"), (HTML, ""))
        ),
    ),
    problems=(NoSuchJob, JobGone, *_READING),
)
async def list_notifications(request: Request) -> Response:
    """Tell what became of the messages to the subscriber of a job."""
    check_parameters(request.query_params, "f")
    job_id, base = request.path_params["jobID"], base_of(request)
    notices = await workspace_of(request).jobs.notices(job_id)
    up = Link(href=f"{base}/jobs/{job_id}", rel="up", type=JSON, title="The job")
    document = NotificationList(notifications=notifications(notices, base), links=[*self_links(request), up])
    return answer(request, document, page="notifications", job_id=job_id)


@routes.post(
    "/jobs/{jobID}/notifications/{number}",
    parameters=(JOB_ID, _NUMBER, F),
    answers=(Answer(status=202, description="It is sent again now.", content=((JSON, "notification"), (HTML, ""))),),
    problems=(NoSuchJob, JobGone, NoSuchNotice, *_READING),
)
async def send_again(request: Request) -> Response:
    """Send a message again now, and then as often as a new one."""
    check_parameters(request.query_params, "f")
    job_id, number = request.path_params["jobID"], request.path_params["number"]
    notice = await workspace_of(request).jobs.send_again(job_id, number)
    document = _notification(notice, int(number), base_of(request))
    return answer(request, document, page="notification", status=202, job_id=job_id)


def notifications(notices: list[Notice], base: str) -> list[Notification]:
    """Return what became of the notices of a job, as documents."""
    return [_notification(notice, number, base) for number, notice in enumerate(notices, start=1)]


def _notification(notice: Notice, number: int, base: str) -> Notification:
    here = f"{base}/jobs/{notice.job}/notifications"
    return Notification(
        number=number,
        kind=notice.kind,
        host=urlsplit(notice.address).netloc,
        status=notice.status,
        attempts=notice.attempts,
        last_error=notice.last_error or None,
        next_attempt=moment(notice.not_before) if notice.status == "waiting" else None,
        created=moment(notice.created),
        updated=moment(notice.updated),
        links=[Link(href=here, rel="collection", type=JSON, title="All of this job")],
    )


# --- profiles --------------------------------------------------------------------------------------------------------


@routes.get(
    "/notification-profiles",
    parameters=(F,),
    answers=(Answer(status=200, description="All of them.", content=((JSON, "notificationProfileList"), (HTML, ""))),),
    problems=_READING,
)
async def list_profiles(request: Request) -> Response:
    """List your notification profiles, without their secrets."""
    check_parameters(request.query_params, "f")
    workspace, base = workspace_of(request), base_of(request)
    found = await workspace.jobs.engine.subscriptions.profiles(workspace=workspace.id, actor=workspace.actor)
    document = NotificationProfileList(profiles=[_profile(one, base) for one in found], links=self_links(request))
    return answer(request, document, page="notification-profiles")


@routes.get(
    "/notification-profiles/{name}",
    parameters=(_NAME, F),
    answers=(Answer(status=200, description="Its type.", content=((JSON, "notificationProfile"), (HTML, ""))),),
    problems=(NoSuchNotificationProfile, *_READING),
)
async def get_profile(request: Request) -> Response:
    """Tell of a notification profile, without its secrets."""
    check_parameters(request.query_params, "f")
    return answer(request, await _found(request, _name(request)), page="notification-profile")


@routes.put(
    "/notification-profiles/{name}",
    parameters=(_NAME, F),
    body=((JSON, "credentials"),),
    answers=(
        Answer(status=200, description="It was replaced.", content=((JSON, "notificationProfile"), (HTML, ""))),
        Answer(
            status=201,
            description="It was made.",
            content=((JSON, "notificationProfile"), (HTML, "")),
            headers=("Location",),
        ),
    ),
    problems=(InvalidBody, TooLarge, UnsupportedEncoding, UnsupportedMediaType, *_READING),
)
async def put_profile(request: Request) -> Response:
    """Make or replace a notification profile; messages that still wait use the new credentials."""
    check_parameters(request.query_params, "f")
    workspace, name = workspace_of(request), _name(request)
    credentials, _ = await read_body(request, Authorization)
    made = await workspace.jobs.engine.subscriptions.keep_profile(
        credentials, name=name, workspace=workspace.id, actor=workspace.actor, at=now()
    )
    document = await _found(request, name)
    headers = {"location": f"{base_of(request)}/notification-profiles/{name}"} if made else {}
    return answer(request, document, page="notification-profile", status=201 if made else 200, headers=headers)


@routes.delete(
    "/notification-profiles/{name}",
    parameters=(_NAME,),
    answers=(Answer(status=204, description="It was removed."),),
    problems=(NoSuchNotificationProfile, InvalidParameter),
)
async def delete_profile(request: Request) -> Response:
    """Remove a notification profile; messages that still wait for it are not delivered."""
    check_parameters(request.query_params)
    workspace, name = workspace_of(request), _name(request)
    subscriptions = workspace.jobs.engine.subscriptions
    await subscriptions.drop_profile(name, workspace=workspace.id, actor=workspace.actor)
    return Response(status_code=204)


async def _found(request: Request, name: str) -> NotificationProfile:
    workspace = workspace_of(request)
    subscriptions = workspace.jobs.engine.subscriptions
    profile = await subscriptions.profile(name, workspace=workspace.id, actor=workspace.actor)
    return _profile(profile, base_of(request))


def _profile(profile: Profile, base: str) -> NotificationProfile:
    here = f"{base}/notification-profiles"
    return NotificationProfile(
        name=profile.name,
        type=profile.type,
        created=moment(profile.created),
        updated=moment(profile.updated),
        links=[
            Link(href=f"{here}/{profile.name}", rel="self", type=JSON, title="This profile"),
            Link(href=here, rel="collection", type=JSON, title="All profiles"),
        ],
    )


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not re.fullmatch(PROFILE_NAME, name):
        raise InvalidParameter("name", name, "use letters, digits, '_', '.' and '-', 63 at most, no sign first")
    return name
