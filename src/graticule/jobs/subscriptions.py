"""Who may be told, and how a receiver knows that it is us: addresses, signatures, credentials and their profiles.

Secrets stay here. They come in with a request or a profile, are sealed at once, and are opened again for the moment in
which a message is sent; neither the stored request nor any document holds them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET
from standardwebhooks import Webhook

from graticule.data.fetch import Unfetchable
from graticule.data.post import ReceiverPolicy, Unsent, check_receiver
from graticule.db.sealing import NotSealed, Seal
from graticule.errors import Fault, InvalidBody, NoSuchNotificationProfile
from graticule.jobs.job import Job, StoredSubscriber
from graticule.jobs.ledger import Ledger, Profile
from graticule.ogc.notifications import MOST_SECRETS, PASSWORD, PROFILE_NAME, SECRET, TOKEN, USERNAME
from graticule.ogc.processes import Authorization, Subscriber

_FORMS = {
    "secret": (SECRET, "is no secret of 24 to 64 bytes as base64; make one by `openssl rand -base64 32`"),
    "username": (USERNAME, "has 1 to 255 characters, none of them a colon or a control character"),
    "password": (PASSWORD, "has at most 1024 characters, none of them a control character"),
    "token": (TOKEN, "has letters, digits and '-._~+/' only, at most 4096, and '=' at its end"),
    "profile": (PROFILE_NAME, "is no name of a profile: letters, digits, '_', '.' or '-', 63 at most"),
}
"""Members of an authorization: their form, and what is said of another one. What was sent is never repeated."""
_MEMBERS = {"hmac": ("secret",), "basic": ("username", "password"), "bearer": ("token",)}
_AUTHORIZATION = msgspec.msgpack.Decoder(Authorization)
_REQUEST = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is signed."""

    id: str
    moment: int
    """Seconds since 1970."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSecret:
    """A secret of the service itself, which signs what no secret of a job or a profile signs."""

    secret: str
    workspaces: tuple[str, ...] = ()
    """Empty: all."""
    actors: tuple[str, ...] = ()
    """Empty: all."""

    def signs_for(self, job: Job) -> bool:
        """Whether messages about a job are signed with it."""
        there = not self.workspaces or job.workspace in self.workspaces
        return there and (not self.actors or job.actor in self.actors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """The subscriber of a request that is about to become a job."""

    kept: bytes
    """As the job keeps it."""
    body: bytes
    """The request without secrets."""
    faults: Sequence[Fault] = ()
    """What is wrong with it."""


class Subscriptions:
    """Knows all secrets of notifications.

    Parameters
    ----------
    ledger : Ledger
        Keeps profiles.
    seal : Seal
        Seals what is kept.
    policy : ReceiverPolicy
        Says which addresses may be told.
    secrets : sequence of SigningSecret
        Those of the service itself.
    """

    def __init__(self, ledger: Ledger, seal: Seal, policy: ReceiverPolicy, secrets: Sequence[SigningSecret]) -> None:
        self._ledger = ledger
        self._seal = seal
        self._policy = policy
        self._secrets = tuple(secrets)

    # --- before there is a job --------------------------------------------------------------------------------------

    async def accept(self, subscriber: Subscriber | None, body: bytes, *, workspace: str, actor: str) -> Subscription:
        """Check a subscriber and make it ready to be kept.

        Parameters
        ----------
        subscriber : Subscriber or None
            As it was sent; of a member that is there twice the last one counts, which may be null.
        body : bytes
            The execute request that it stood in.
        workspace, actor : str
            Who sent it; profiles are theirs.
        """
        if subscriber is None:
            return Subscription(kept=b"", body=_with_subscriber(body, None))
        faults = check_addresses(subscriber, self._policy)
        authorization, sealed = subscriber.authorization, b""
        if authorization is not None:
            faults += check_authorization(authorization, "/subscriber/authorization")
            if isinstance(authorization.profile, str) and not faults:
                if not await self._ledger.profiles(workspace, actor, authorization.profile):
                    reason = str(NoSuchNotificationProfile(authorization.profile))
                    faults.append(Fault("/subscriber/authorization/profile", reason))
            elif not faults:
                sealed = self._sealed(authorization)
            authorization = Authorization(type=authorization.type, profile=authorization.profile)
        public = Subscriber(
            success_uri=subscriber.success_uri,
            in_progress_uri=subscriber.in_progress_uri,
            failed_uri=subscriber.failed_uri,
            success_url=subscriber.success_url,
            authorization=authorization,
        )
        kept = StoredSubscriber(**msgspec.structs.asdict(public), sealed=sealed)
        return Subscription(kept=msgspec.msgpack.encode(kept), body=_with_subscriber(body, public), faults=faults)

    # --- when something is sent -------------------------------------------------------------------------------------

    async def headers(self, job: Job, message: Message) -> dict[str, str]:
        """Return the headers by which the subscriber of a job knows that a message is ours.

        Raises
        ------
        Unsent
            If its credentials are gone.
        """
        authorization = await self._authorization(job)
        secrets = [one.secret for one in self._secrets if one.signs_for(job)]
        headers = {}
        if authorization.type == "hmac":
            secrets = _several(authorization)
        elif authorization.type == "basic":
            pair = f"{authorization.username}:{authorization.password}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        elif authorization.type == "bearer":
            headers["authorization"] = f"Bearer {authorization.token}"
        if secrets:
            headers["webhook-signature"] = signatures(message, secrets)
        return headers

    async def _authorization(self, job: Job) -> Authorization:
        subscriber = job.subscribers()
        authorization = None if subscriber is None else subscriber.authorization
        if subscriber is None or authorization is None:
            return Authorization()
        sealed, held_by = subscriber.sealed, "the job"
        if isinstance(authorization.profile, str):
            held_by = f"notification profile {authorization.profile!r}"
            found = await self._ledger.profiles(job.workspace, job.actor, authorization.profile)
            if not found:
                raise Unsent(f"{held_by} is gone; make it again, then send this one again")
            sealed = found[0].sealed
        try:
            return _AUTHORIZATION.decode(self._seal.open(sealed))
        except NotSealed as error:
            raise Unsent(f"the secrets of {held_by} were sealed with another key than this server's") from error

    # --- profiles ---------------------------------------------------------------------------------------------------

    async def keep_profile(
        self, authorization: Authorization, *, name: str, workspace: str, actor: str, at: int
    ) -> bool:
        """Keep credentials under a name; False if they took the place of others.

        Raises
        ------
        InvalidBody
            If they do not fit; every fault is named.
        """
        faults = check_authorization(authorization, "")
        if authorization.profile is not UNSET:
            faults.append(Fault("/profile", "a profile names no other; send a type with what belongs to it"))
        if faults:
            raise InvalidBody("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults), faults)
        assert authorization.type is not UNSET
        profile = Profile(
            workspace=workspace,
            actor=actor,
            name=name,
            type=authorization.type,
            sealed=self._sealed(authorization),
            created=at,
            updated=at,
        )
        return await self._ledger.keep_profile(profile)

    async def profile(self, name: str, *, workspace: str, actor: str) -> Profile:
        """Return one profile; raises NoSuchNotificationProfile."""
        found = await self._ledger.profiles(workspace, actor, name)
        if not found:
            raise NoSuchNotificationProfile(name)
        return found[0]

    async def profiles(self, *, workspace: str, actor: str) -> list[Profile]:
        """Return an actor's profiles by name."""
        return await self._ledger.profiles(workspace, actor)

    async def drop_profile(self, name: str, *, workspace: str, actor: str) -> None:
        """Remove a profile; raises NoSuchNotificationProfile."""
        if not await self._ledger.drop_profile(workspace, actor, name):
            raise NoSuchNotificationProfile(name)

    def _sealed(self, authorization: Authorization) -> bytes:
        return self._seal.seal(msgspec.msgpack.encode(authorization))


def _with_subscriber(body: bytes, subscriber: Subscriber | None) -> bytes:
    """Return a request with this subscriber; its other members stay byte for byte.

    A member that was there twice is there once: no secret hides in the first one.
    """
    members = _REQUEST.decode(body)
    return msgspec.json.encode({**members, "subscriber": msgspec.Raw(msgspec.json.encode(subscriber))})


def check_addresses(subscriber: Subscriber, policy: ReceiverPolicy) -> list[Fault]:
    """Return a fault for each address of a subscriber that cannot be told, as far as the address alone says."""
    faults = []
    for name, address in subscriber.addresses.items():
        try:
            check_receiver(address, policy)
        except Unfetchable as error:
            faults.append(Fault(f"/subscriber/{name}", f"nobody can be told there: {error}"))
    return faults


def check_authorization(authorization: Authorization, pointer: str) -> list[Fault]:
    """Return a fault for each member that is missing, has not its form, or does not belong there."""
    given = {name for name in _FORMS if getattr(authorization, name) is not UNSET}
    if authorization.type is UNSET:
        if "profile" not in given:
            return [Fault(f"{pointer}/type", f"is missing; use {', '.join(_MEMBERS)}, or name a profile")]
        needed: tuple[str, ...] = ("profile",)
        beside = "a profile"
    else:
        needed = _MEMBERS[authorization.type]
        beside = f"type {authorization.type!r}"
    faults = [Fault(f"{pointer}/{name}", f"is missing beside {beside}") for name in needed if name not in given]
    faults += [Fault(f"{pointer}/{name}", f"does not go with {beside}") for name in sorted(given - {*needed})]
    for name in needed:
        form, reason = _FORMS[name]
        value = getattr(authorization, name)
        if isinstance(value, list) and not 1 <= len(value) <= MOST_SECRETS:
            faults.append(Fault(f"{pointer}/{name}", f"give 1 to {MOST_SECRETS} secrets"))
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and not re.fullmatch(form, one):
                faults.append(Fault(f"{pointer}/{name}", reason))
    return faults


def signatures(message: Message, secrets: Sequence[str]) -> str:
    """Return the signatures of a message, one for each secret, as Standard Webhooks writes them."""
    moment, text = datetime.fromtimestamp(message.moment, UTC), message.body.decode()
    return " ".join(Webhook(secret).sign(message.id, moment, text) for secret in secrets)


def _several(authorization: Authorization) -> list[str]:
    secret = authorization.secret
    if isinstance(secret, list):
        return secret
    return [secret] if isinstance(secret, str) else []
