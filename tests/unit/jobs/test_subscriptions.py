"""Who may be told, and how a receiver knows that it is us."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from graticule.data.post import ReceiverPolicy, Unsent
from graticule.db.sealing import Seal
from graticule.errors import InvalidBody, NoSuchNotificationProfile
from graticule.jobs.job import Job
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.subscriptions import Message, SigningSecret, Subscription, Subscriptions, check_addresses
from graticule.ogc.processes import Authorization, Execute, Subscriber
from graticule.testing.ledger import NOON, running

pytestmark = pytest.mark.anyio

ELSEWHERE = ReceiverPolicy()
OURS, OLD, THEIRS = (f"whsec_{base64.b64encode(bytes([number] * 24)).decode()}" for number in (1, 2, 3))
SEALED = Seal(b"key")
ADA: dict[str, Any] = {"workspace": "default", "actor": "ada"}


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    found = SqliteLedger(tmp_path / "graticule.db")
    yield found
    await found.close()


@pytest.fixture
def subscriptions(ledger: SqliteLedger) -> Subscriptions:
    return Subscriptions(ledger, SEALED, ELSEWHERE, [])


def request(**authorization: Any) -> bytes:
    document = {"successUri": "https://told.example/x", "authorization": authorization}
    return msgspec.json.encode({"inputs": {"n": 1}, "subscriber": document})


async def accepted(subscriptions: Subscriptions, body: bytes) -> Subscription:
    subscriber = msgspec.json.decode(body, type=Execute).subscriber
    assert subscriber is not None
    return await subscriptions.accept(subscriber, body, **ADA)


def job_of(subscription: Subscription, **fields: Any) -> Job:
    return running("j1", subscriber=subscription.kept, **{**ADA, **fields})


def message() -> Message:
    return Message(id="j1_success", moment=int(time.time()), body='{"ü": 1}'.encode())


def verify(secret: str, headers: dict[str, str], sent: Message) -> Any:
    """Do what a receiver does."""
    return Webhook(secret).verify(
        sent.body, {**headers, "webhook-id": sent.id, "webhook-timestamp": str(sent.moment)}
    )  # fmt: skip


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("ftp://told.example/x", "ftp"),
        ("file:///etc/passwd", "file"),
        ("told.example", "http"),
        ("http://", "valid"),
        ("http://told.example/x", "https"),
        ("https://127.0.0.1:8080/x", "private"),
        ("https://2130706433/x", "private"),
        ("https://localhost/x", "private"),
        ("https://[::1]/x", "private"),
        ("http://169.254.169.254/latest", "private"),
        ("https://told.example:25/x", "port"),
        ("https://told.example:0/x", "port 0"),
        ("https://127.0.0.1/x", "only public ones are told"),
        ("ftp://told.example/x", "only http and https are told"),
        ("https://①②⑦.⓪.⓪.①/x", "valid name"),
        ("https://127。0。0。1/x", "plain digits"),
        ("https://lOcalhost。/x", "private"),
        ("https://…/x", "valid name"),
        ("https://☃.example/x", "valid name"),
        ("https://told..example/x", "valid name"),
        (f"https://{'a' * 64}.example/x", "63"),
        ("https://me:secret@told.example/x", "password"),
    ],
)
def test_an_address_that_cannot_be_told_is_a_fault_at_its_place(address: str, word: str) -> None:
    subscriber = Subscriber(success_uri="https://told.example/x", failed_uri=address)

    (fault,) = check_addresses(subscriber, ELSEWHERE)

    assert fault.pointer == "/subscriber/failedUri"
    assert word in fault.message


@pytest.mark.parametrize(
    "address", ["https://①②⑦.⓪.⓪.①/", "https://…/", "https://told.example:0/", "http://127.0.0.1:0/", "https://a..b/"]
)
def test_an_address_that_can_never_work_is_refused_whatever_is_allowed(address: str) -> None:
    everything = ReceiverPolicy(allow_private_addresses=True, allow_http=True)

    (fault,) = check_addresses(Subscriber(in_progress_uri=address), everything)

    assert fault.pointer == "/subscriber/inProgressUri"


def test_each_address_is_checked() -> None:
    subscriber = Subscriber(success_url="x:", success_uri="x:", in_progress_uri="x:", failed_uri="x:")

    pointers = {fault.pointer for fault in check_addresses(subscriber, ELSEWHERE)}

    assert pointers == {f"/subscriber/{name}" for name in ("successUrl", "successUri", "inProgressUri", "failedUri")}


@pytest.mark.parametrize(
    ("address", "policy"),
    [
        ("https://told.example/x?key=1", ELSEWHERE),
        ("https://told.example:8443/", ELSEWHERE),
        ("https://9.9.9.9:443", ELSEWHERE),
        ("https://münchen.example/x", ELSEWHERE),
        ("https://told.example./x", ELSEWHERE),
        ("https://some_host.example/x", ELSEWHERE),
        ("http://told.example:8080/", ReceiverPolicy(allow_http=True)),
        ("http://127.0.0.1:8080/", ReceiverPolicy(allow_private_addresses=True)),
        ("http://localhost:81/", ReceiverPolicy(allowed_hosts=frozenset({"localhost"}))),
        ("http://LOCALHOST:81/", ReceiverPolicy(allowed_hosts=frozenset({"localhost:81"}))),
        ("http://[::1]/", ReceiverPolicy(allowed_hosts=frozenset({"::1:80"}))),
    ],
)
def test_an_address_that_may_be_told_is_no_fault(address: str, policy: ReceiverPolicy) -> None:
    assert check_addresses(Subscriber(success_uri=address), policy) == []


def test_a_host_that_is_allowed_at_one_port_is_allowed_there_only() -> None:
    policy = ReceiverPolicy(allowed_hosts=frozenset({"localhost:81"}))

    assert check_addresses(Subscriber(success_uri="http://localhost:82/"), policy)


# --- signatures ------------------------------------------------------------------------------------------------------


async def test_a_receiver_verifies_what_a_secret_of_the_request_signs(subscriptions: Subscriptions) -> None:
    sent = message()
    subscription = await accepted(subscriptions, request(type="hmac", secret=THEIRS))

    headers = await subscriptions.headers(job_of(subscription), sent)

    assert list(headers) == ["webhook-signature"]
    assert verify(THEIRS, headers, sent) == {"ü": 1}
    with pytest.raises(WebhookVerificationError):
        verify(OURS, headers, sent)


async def test_each_secret_signs_while_they_are_exchanged(subscriptions: Subscriptions) -> None:
    sent = message()
    subscription = await accepted(subscriptions, request(type="hmac", secret=[OLD, THEIRS]))

    headers = await subscriptions.headers(job_of(subscription), sent)

    assert len(headers["webhook-signature"].split(" ")) == 2
    assert verify(OLD, headers, sent) == verify(THEIRS, headers, sent) == {"ü": 1}


@pytest.mark.parametrize(
    ("who", "signed"),
    [
        pytest.param({}, [OURS, OLD], id="its own and that of everybody"),
        pytest.param({"actor": "eve"}, [OLD], id="another actor"),
        pytest.param({"workspace": "other"}, [OLD], id="another workspace"),
    ],
)
async def test_secrets_of_the_service_sign_where_they_apply(
    ledger: SqliteLedger, who: dict[str, str], signed: list[str]
) -> None:
    secrets = [SigningSecret(secret=OURS, workspaces=("default",), actors=("ada",)), SigningSecret(secret=OLD)]
    subscriptions = Subscriptions(ledger, SEALED, ELSEWHERE, secrets)
    body = b'{"subscriber": {"successUri": "https://told.example/x"}}'
    sent = message()

    headers = await subscriptions.headers(job_of(await accepted(subscriptions, body), **who), sent)

    assert len(headers["webhook-signature"].split(" ")) == len(signed)
    assert all(verify(secret, headers, sent) for secret in signed)


async def test_without_a_secret_there_is_no_signature(subscriptions: Subscriptions) -> None:
    body = b'{"subscriber": {"successUri": "https://told.example/x"}}'

    assert await subscriptions.headers(job_of(await accepted(subscriptions, body)), message()) == {}


async def test_credentials_are_sent_as_a_receiver_reads_them(subscriptions: Subscriptions) -> None:
    basic = await accepted(subscriptions, request(type="basic", username="grace", password="ö:x"))
    bearer = await accepted(subscriptions, request(type="bearer", token="abc.def"))

    pair = (await subscriptions.headers(job_of(basic), message()))["authorization"].removeprefix("Basic ")
    assert base64.b64decode(pair).decode() == "grace:ö:x"
    assert await subscriptions.headers(job_of(bearer), message()) == {"authorization": "Bearer abc.def"}


# --- secrets are kept nowhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        {"type": "hmac", "secret": THEIRS},
        {"type": "basic", "username": "grace-h", "password": THEIRS},
        {"type": "bearer", "token": THEIRS},
    ],
)
async def test_neither_the_request_nor_the_job_holds_a_secret(
    subscriptions: Subscriptions, authorization: dict[str, str]
) -> None:
    subscription = await accepted(subscriptions, request(**authorization))

    secret = THEIRS.removeprefix("whsec_").encode()
    assert secret not in subscription.body
    assert secret not in subscription.kept
    assert msgspec.json.decode(subscription.body)["subscriber"]["authorization"] == {"type": authorization["type"]}


async def test_the_rest_of_a_request_stays_as_it_was_sent(subscriptions: Subscriptions) -> None:
    inputs = b'{"exact": 1.10, "large": 123456789012345678901234567890, "text": "\\u00fc"}'
    body = b'{"subscriber": {"authorization": {"type": "bearer", "token": "hidden"}}, "inputs": %b}' % inputs

    subscription = await accepted(subscriptions, body)

    assert inputs in subscription.body


@pytest.mark.parametrize("last", [b'{"successUri": "https://told.example/x"}', b"null"])
async def test_a_secret_in_a_member_that_comes_twice_is_not_kept_either(
    subscriptions: Subscriptions, last: bytes
) -> None:
    body = b'{"subscriber": {"authorization": {"type": "bearer", "token": "hidden"}}, "subscriber": %b}' % last

    subscription = await subscriptions.accept(msgspec.json.decode(body, type=Execute).subscriber, body, **ADA)

    assert b"hidden" not in subscription.body
    assert bool(subscription.kept) == (last != b"null")


async def test_an_authorization_does_not_print_its_secrets() -> None:
    assert "hidden" not in repr(Subscriber(authorization=Authorization(type="bearer", token="hidden")))


async def test_secrets_that_another_key_has_sealed_are_said_to_be_so(
    ledger: SqliteLedger, subscriptions: Subscriptions
) -> None:
    job = job_of(await accepted(subscriptions, request(type="bearer", token="hidden")))

    with pytest.raises(Unsent, match="another key"):
        await Subscriptions(ledger, Seal(b"other"), ELSEWHERE, []).headers(job, message())


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "members"),
    [
        ({}, {"type"}),
        ({"type": "hmac"}, {"secret"}),
        ({"type": "hmac", "secret": "hidden"}, {"secret"}),
        ({"type": "hmac", "secret": []}, {"secret"}),
        ({"type": "hmac", "secret": [THEIRS] * 5}, {"secret"}),
        ({"type": "hmac", "secret": [THEIRS, "hidden"]}, {"secret"}),
        ({"type": "basic"}, {"username", "password"}),
        ({"type": "basic", "username": "a:b", "password": "hidden\n"}, {"username", "password"}),
        ({"type": "bearer", "token": "hidden away"}, {"token"}),
        ({"type": "bearer", "token": "hidden\n"}, {"token"}),
        ({"type": "bearer", "token": "a", "secret": THEIRS, "profile": "p"}, {"secret", "profile"}),
        ({"profile": "p", "token": "hidden"}, {"token"}),
        ({"profile": "../p"}, {"profile"}),
        ({"profile": "nobody"}, {"profile"}),
    ],
)
async def test_every_fault_of_an_authorization_is_named_and_no_secret_repeated(
    subscriptions: Subscriptions, authorization: dict[str, Any], members: set[str]
) -> None:
    faults = (await accepted(subscriptions, request(**authorization))).faults

    assert {fault.pointer for fault in faults} == {f"/subscriber/authorization/{name}" for name in members}
    assert not any("hidden" in fault.message or THEIRS in fault.message for fault in faults)


# --- profiles --------------------------------------------------------------------------------------------------------


async def keep(subscriptions: Subscriptions, **authorization: Any) -> bool:
    return await subscriptions.keep_profile(
        msgspec.convert(authorization, Authorization), name="station", **ADA, at=NOON
    )  # fmt: skip


async def test_a_job_uses_what_its_profile_holds_when_it_is_told(subscriptions: Subscriptions) -> None:
    assert await keep(subscriptions, type="bearer", token="old") is True
    job = job_of(await accepted(subscriptions, request(profile="station")))
    assert await keep(subscriptions, type="bearer", token="new") is False

    assert await subscriptions.headers(job, message()) == {"authorization": "Bearer new"}


async def test_a_profile_belongs_to_one_actor(subscriptions: Subscriptions) -> None:
    await keep(subscriptions, type="bearer", token="t")
    body = request(profile="station")
    subscriber = msgspec.json.decode(body, type=Execute).subscriber
    assert subscriber is not None

    (fault,) = (await subscriptions.accept(subscriber, body, workspace="default", actor="eve")).faults

    assert fault.pointer == "/subscriber/authorization/profile"


async def test_without_its_profile_nobody_is_told(subscriptions: Subscriptions) -> None:
    await keep(subscriptions, type="bearer", token="t")
    job = job_of(await accepted(subscriptions, request(profile="station")))

    await subscriptions.drop_profile("station", **ADA)

    with pytest.raises(Unsent, match="'station' is gone"):
        await subscriptions.headers(job, message())
    with pytest.raises(NoSuchNotificationProfile):
        await subscriptions.drop_profile("station", **ADA)


@pytest.mark.parametrize(
    "authorization", [{}, {"profile": "station"}, {"type": "bearer"}, {"type": "bearer", "token": "a", "profile": "b"}]
)
async def test_a_profile_that_does_not_fit_is_refused(
    subscriptions: Subscriptions, authorization: dict[str, str]
) -> None:
    with pytest.raises(InvalidBody):
        await keep(subscriptions, **authorization)

    assert await subscriptions.profiles(**ADA) == []
