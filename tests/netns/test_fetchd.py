# SPDX-License-Identifier: Apache-2.0
"""fetchd's main path: enrolment, polls, receipts, blobs, leaving; with the filter on, as shipped."""

import os
import time

import pytest

from fetchd_fixtures import (BLOB_PATH, ENROLL_PATH, HEAD, POLL_PATH, enrolled, make_control, make_fetchd, make_folder, make_netd,
                             parking)
from fetchd_peers import (APPLIED, BLOBS, KEYSET, LACK, OFFER, REFUSED, UNCHANGED, WANT, Answer, Control, Fetchd, certificate,
                          certificate_only, envelope, name_of, pack)

__all__ = ["make_control", "make_fetchd", "make_folder", "make_netd"]  # fixtures


def test_enrolment_from_nothing(fetchd, netd, control):
    netd.accept(deployed=False)
    control.transport_key = netd.transport_key
    client = fetchd.enroll(control.url)
    assert netd.expect(KEYSET)[1] == envelope("keyset")
    netd.identify()
    control.next("/v1/agent/keyset")
    path, headers, body = control.requests.get(timeout=15)
    assert (path, headers["Authorization"], body) == (ENROLL_PATH, "Bearer ID.SECRET", [netd.registration, "web-3"])
    nonce = netd.ask(b"have")
    body = control.next(POLL_PATH)
    # The registration has just been posted: no need to carry it again.
    assert body == [nonce, b"have", [], b"", 0]
    assert netd.expect(OFFER)[1] == HEAD
    netd.result(APPLIED, envelope("receipt", b"1"))
    ok, texts = fetchd.progress(client)
    assert ok, texts
    for step, said in zip(("asking", "keyset fetched", "netd verified it", "registered as web-3", "waiting for the first"), texts):
        assert step in said
    link = fetchd.link()
    assert link["enrolled"] and link["online"] and link["url"] == control.url and link["last_error"] == ""
    with open(os.path.join(fetchd.state, "link"), "rb") as file:
        assert b"SECRET" not in file.read()
    assert "SECRET" not in fetchd.log()


def test_a_receipt_is_posted_at_once(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    start = time.monotonic()
    netd.result(APPLIED, envelope("receipt", b"7"))
    body = control.next(POLL_PATH, 2)
    assert time.monotonic() - start < 0.5
    assert body[2] == [envelope("receipt", b"7")] and body[4] == 0
    netd.expect(OFFER)
    # It has arrived: it is not posted again.
    netd.result(UNCHANGED)
    netd.ask()
    body = control.next(POLL_PATH)
    assert body[2] == [] and body[4] == 50


def test_receipts_outlive_an_outage_but_not_without_bound(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    control.routes[POLL_PATH] = lambda body: (_ for _ in ()).throw(Answer(503, "busy", "come back"))
    for number in range(40):
        netd.result(APPLIED, envelope("receipt", b"%d" % number))
    fetchd.wait_log("the oldest is dropped")
    control.routes[POLL_PATH] = parking(HEAD)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        body = control.next(POLL_PATH, 20)
        if len(body[2]) == 32:
            break
    assert body[2] == [envelope("receipt", b"%d" % number) for number in range(8, 40)]


def test_a_changed_registration_is_sent_at_once(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    netd.registration = envelope("registration", b"r2")
    netd.identify()
    body = control.next(POLL_PATH, 2)
    assert body[3] == netd.registration and body[4] == 0


def test_blobs_come_from_the_answer_then_the_cache_then_the_control_plane(fetchd, netd, control):
    near, far = [b"blob %d" % n * 30 for n in range(50)], [b"far %d" % n * 30 for n in range(50)]
    control.routes[POLL_PATH] = parking(HEAD, near)
    control.routes[BLOB_PATH] = lambda body: pack([[blob for blob in far if name_of(blob) in body[0]]])
    enrolled(fetchd, netd, control, settled=False)
    netd.ask()
    control.next(POLL_PATH)
    control.routes[POLL_PATH] = parking(HEAD)
    time.sleep(0.2)
    # The second poll parks with the blobs already seen: from the cache.
    netd.send(WANT, b"".join(name_of(blob) for blob in near + far))
    assert sorted(netd.expect(BLOBS)[-1]) == sorted(near)
    assert sorted(control.next(BLOB_PATH)[0]) == sorted(name_of(blob) for blob in far)
    number, count, size, blobs = netd.receive()
    assert (number, count, size) == (BLOBS, 50, sum(4 + len(blob) for blob in far)) and sorted(blobs) == sorted(far)
    # Now all of them are cached.
    netd.send(WANT, b"".join(name_of(blob) for blob in near + far))
    assert netd.expect(BLOBS)[1] == 100


def test_what_cannot_be_had_is_said(fetchd, netd, control):
    control.routes[BLOB_PATH] = lambda body: pack([[b"something else"]])
    enrolled(fetchd, netd, control)
    netd.send(WANT, b"\x77" * 32)
    number, hashes, reason = netd.receive()
    assert number == LACK and hashes == b"\x77" * 32 and "does not have" in reason


def test_netd_restarts(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    netd.peer.close()
    key = netd.transport_key
    netd.accept()
    assert netd.transport_key == key
    nonce = netd.ask()
    assert control.next(POLL_PATH)[0] == nonce


def test_restart_of_fetchd_goes_on(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    key = netd.transport_key
    fetchd.kill()
    fetchd.start()
    netd.accept()
    assert netd.transport_key == key
    netd.ask()
    # It cannot know what the control plane has of it, so it says who it is again.
    assert control.next(POLL_PATH)[3] == netd.registration
    assert fetchd.link()["enrolled"]


def test_refused_offers_are_not_tried_in_a_circle(fetchd, netd, control):
    control.routes[POLL_PATH] = lambda body: pack([b"", HEAD, []])
    enrolled(fetchd, netd, control, settled=False)
    end, offers = time.monotonic() + 5, 0
    netd.ask()
    while time.monotonic() < end:
        try:
            netd.expect(OFFER, end - time.monotonic())
        except (TimeoutError, ValueError):
            break
        offers += 1
        netd.result(REFUSED, envelope("receipt", b"%d" % offers), "overlap")
        netd.ask()
    assert 2 <= offers <= 5


def test_leave(fetchd, netd, control):
    control.routes["/v1/agent/leave"] = lambda body: pack([])
    enrolled(fetchd, netd, control)
    ok, texts = fetchd.leave()
    assert ok, texts
    assert control.next("/v1/agent/leave") == [b"signed by netd"]
    link = fetchd.link()
    assert not link["enrolled"] and link["url"] == ""
    assert os.listdir(fetchd.state) == ["transport.key"]


def test_leave_without_a_departure_needs_force(fetchd, netd, control):
    """The control plane would not believe fetchd alone: it is not even asked."""
    enrolled(fetchd, netd, control)
    ok, texts = fetchd.leave(departure=b"")
    assert not ok and "departure" in texts[-1]
    assert fetchd.link()["enrolled"]
    ok, texts = fetchd.leave(departure=b"", force=True)
    assert ok and not fetchd.link()["enrolled"]


def test_leave_without_a_control_plane_needs_force(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    control.close()
    ok, texts = fetchd.leave()
    assert not ok and "force" in texts[-1]
    assert fetchd.link()["enrolled"]
    ok, texts = fetchd.leave(force=True)
    assert ok and not fetchd.link()["enrolled"]


@pytest.mark.parametrize("status, code, hint", [
    (401, "token-unknown", "copied whole"), (401, "token-expired", "new one"), (401, "token-revoked", "new one"),
    (401, "token-used", "one host"), (403, "token-workspace", "workspace"), (403, "wrong-root", "root key"),
    (409, "address-exhausted", "address"), (409, "host-retired", "--forget-keys"), (400, "malformed", "refused"),
])
def test_a_refused_enrolment_says_what_to_do(fetchd, netd, control, status, code, hint):
    netd.accept()
    control.routes[ENROLL_PATH] = lambda body: (_ for _ in ()).throw(Answer(status, code, "from\nthe \x1b[31mserver"))
    ok, texts = fetchd.progress(fetchd.enroll(control.url))
    assert not ok and hint in texts[-1] and "from?the ?[31mserver" in texts[-1]
    link = fetchd.link()
    assert not link["enrolled"] and link["url"] == ""
    assert os.listdir(fetchd.state) == ["transport.key"]


def test_another_root(fetchd, netd, control):
    netd.accept(deployed=False)
    client = fetchd.enroll(control.url)
    netd.expect(KEYSET)
    netd.result(REFUSED, b"", "no signature of the pinned root")
    ok, texts = fetchd.progress(client)
    assert not ok and "no signature of the pinned root" in texts[-1] and "made for another" in texts[-1]
    assert fetchd.link()["url"] == ""


def test_busy_control_plane_is_asked_again_and_ctrl_c_does_not_matter_then(fetchd, netd, control):
    netd.accept()
    answers = [Answer(503, "busy", "later"), Answer(503, "signer-unavailable", "later")]

    def route(body):
        if answers:
            raise answers.pop(0)
        return pack([netd.host])

    control.routes[ENROLL_PATH] = route
    client = fetchd.enroll(control.url)
    fetchd.wait_log("trying again")
    client.close()
    fetchd.wait_log("it goes on")
    fetchd.wait_log("registered as web-3")
    assert fetchd.link()["enrolled"]


def test_ctrl_c_before_netd_verified_leaves_nothing(fetchd, netd, control):
    netd.accept(deployed=False)
    client = fetchd.enroll(control.url)
    netd.expect(KEYSET)
    client.close()
    fetchd.wait_log("nothing was changed")
    assert os.listdir(fetchd.state) == ["transport.key"] and fetchd.link()["url"] == ""


def test_killed_between_registration_and_its_answer(fetchd, netd, control):
    """The control plane knows the host, fetchd did not live to hear it, the token is spent."""
    netd.accept()
    control.transport_key = netd.transport_key
    control.routes[ENROLL_PATH] = lambda body: time.sleep(30)
    client = fetchd.enroll(control.url)
    control.next("/v1/agent/keyset")
    control.next(ENROLL_PATH)
    fetchd.kill()
    client.close()
    control.routes[ENROLL_PATH] = lambda body: (_ for _ in ()).throw(Answer(401, "token-used", "spent"))
    fetchd.start()
    netd.accept()
    netd.ask()
    control.next(POLL_PATH)
    netd.expect(OFFER)
    assert fetchd.link()["enrolled"]
    with open(os.path.join(fetchd.state, "link"), "rb") as file:
        assert b"SECRET" not in file.read()


def test_killed_before_registration(fetchd, netd, control):
    netd.accept()
    control.transport_key = netd.transport_key
    known = []
    control.routes[ENROLL_PATH] = lambda body: time.sleep(30)
    client = fetchd.enroll(control.url)
    control.next("/v1/agent/keyset")
    control.next(ENROLL_PATH)
    fetchd.kill()
    client.close()

    def poll(body):
        if not known:
            raise Answer(401, "unknown-host", "who?")
        return pack([b"", HEAD, []])

    def enroll(body):
        known.append(body)
        return pack([netd.host])

    control.routes.update({POLL_PATH: poll, ENROLL_PATH: enroll})
    fetchd.start()
    netd.accept()
    netd.ask()
    netd.expect(OFFER)
    assert known == [[netd.registration, "web-3"]] and fetchd.link()["enrolled"]


def test_retired(fetchd, netd, control):
    enrolled(fetchd, netd, control, settled=False)
    control.routes[POLL_PATH] = lambda body: (_ for _ in ()).throw(Answer(410, "retired", "retired by an operator"))
    netd.ask()
    control.next(POLL_PATH)
    fetchd.wait_log("retired this host")
    netd.ask()
    time.sleep(1)
    assert control.requests.empty()
    link = fetchd.link()
    assert not link["online"] and "retired by an operator" in link["last_error"]


@pytest.mark.parametrize("words, hint", [
    ({"url": "http://198.18.0.10:8443"}, "plain http"), ({"url": "http://localhost"}, "plain http"),
    ({"url": "https://example.com/prefix"}, "a path"), ({"url": "https://user:pw@example.com"}, "a path"),
    ({"url": "ftp://127.0.0.1"}, "https://HOST"), ({"url": ""}, "https://HOST"), ({"url": "https://a b"}, "https://HOST"),
    ({"token": "nodot"}, "ID.SECRET"), ({"token": "A.B\r\nX-Evil: 1"}, "ID.SECRET"), ({"token": "A.B.C"}, "ID.SECRET"),
    ({"name": "Web"}, "DNS label"), ({"name": ""}, "DNS label"), ({"name": "-a"}, "DNS label"), ({"ca": "rubbish"}, "PEM"),
])
def test_bad_words_are_refused(fetchd, netd, words, hint):
    netd.accept()
    ok, texts = fetchd.progress(fetchd.enroll(**dict({"url": "https://127.0.0.1:1"}, **words)))
    assert not ok and hint in texts[-1], texts


def test_https_with_a_pinned_authority(folder, netd):
    pem = certificate(folder)
    control = Control(tls=pem)
    control.routes.update({"/v1/agent/keyset": lambda body: envelope("keyset"), ENROLL_PATH: lambda body: pack([netd.host]),
                           POLL_PATH: parking(HEAD)})
    fetchd = Fetchd(folder)
    netd.accept()
    client = fetchd.enroll(control.url, ca=certificate_only(pem))
    netd.ask()
    netd.expect(OFFER)
    netd.result(UNCHANGED)
    assert fetchd.progress(client)[0]
    netd.ask()
    for path in ("/v1/agent/keyset", ENROLL_PATH, POLL_PATH, POLL_PATH):
        control.next(path)
    time.sleep(0.5)
    resident = int(fetchd.status("VmRSS").split()[0])
    print(f"\nVmRSS after TLS: {resident} KiB, VmHWM {fetchd.status('VmHWM')}")
    assert resident <= 16 * 1024
    # One connection carried them all.
    assert control.connections == 1
    assert fetchd.stop() == 0
    control.close()
