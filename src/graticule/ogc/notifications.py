"""Documents about notifications: what became of them, and the profiles that authorize them. All of this is ours."""

from __future__ import annotations

from typing import Literal

from graticule.ogc.common import Document, Link

AuthorizationType = Literal["hmac", "basic", "bearer"]

SECRET = r"^(whsec_)?([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"  # noqa: S105 - its form
"""A secret that signs, as Standard Webhooks spells it: 24 to 64 bytes as base64."""
MOST_SECRETS = 4
USERNAME = r"^[^:\x00-\x1F\x7F]{1,255}$"
PASSWORD = r"^[^\x00-\x1F\x7F]{0,1024}$"  # noqa: S105 - the form of one
TOKEN = r"^[A-Za-z0-9._~+/-]{1,4096}={0,2}$"  # noqa: S105 - the form of one
PROFILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class Notification(Document, frozen=True, kw_only=True, omit_defaults=False):
    """What became of one message to a subscriber."""

    number: int
    """From 1, in the order in which they arose."""
    kind: str
    host: str
    """Host and port of the address; path and query may be what opens the receiver to us."""
    status: str
    attempts: int
    last_error: str | None = None
    next_attempt: str | None = None
    created: str | None = None
    updated: str | None = None
    links: list[Link] = []


class NotificationList(Document, frozen=True, kw_only=True):
    """The messages to the subscriber of a job."""

    notifications: list[Notification]
    links: list[Link] = []


class NotificationProfile(Document, frozen=True, kw_only=True):
    """Credentials that jobs name; the credentials themselves are never shown."""

    name: str
    type: AuthorizationType
    created: str | None = None
    updated: str | None = None
    links: list[Link] = []


class NotificationProfileList(Document, frozen=True, kw_only=True):
    """The notification profiles of an actor."""

    profiles: list[NotificationProfile]
    links: list[Link] = []
