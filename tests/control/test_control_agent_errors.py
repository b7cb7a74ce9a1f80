# SPDX-License-Identifier: Apache-2.0
"""What agents send that is wrong, and what they are told: every row of the table of docs/design/agent-api.md."""

import email.utils
import http.client
import os
import time

import pytest
import wire
from agent import Agent


def refused(answer, status, code):
    """Must be this error; returns its detail."""
    assert answer.headers["Content-Type"] == "application/msgpack"
    assert (answer.status, answer.msgpack[0]) == (status, code), f"{answer.status} {answer.body}"
    assert len(answer.msgpack[1]) > 10
    return answer.msgpack[1]


# -- tokens

@pytest.mark.parametrize("token", ["", "x", "00" * 16, "00" * 16 + "." + "A" * 43, "zz" * 16 + "." + "A" * 43, "00" * 16 + ".short",
                                   "00" * 16 + "." + "A" * 4000])
def test_unknown_tokens(plane, token):
    refused(Agent(plane, 1).enroll(token), 401, "token-unknown")


def test_right_id_wrong_secret(plane):
    token = plane.token()
    refused(Agent(plane, 1).enroll(token[:-1] + ("A" if token[-1] != "A" else "B")), 401, "token-unknown")
    refused(Agent(plane, 1).enroll(token + "A"), 401, "token-unknown")


def test_expired_token(plane):
    token = plane.token(ttl=1)
    time.sleep(1.1)
    refused(Agent(plane, 1).enroll(token), 401, "token-expired")


def test_revoked_token(plane):
    token = plane.token()
    plane.ok("POST", f"/tokens/{token.split('.')[0]}/revoke")
    refused(Agent(plane, 1).enroll(token), 401, "token-revoked")


def test_token_for_one_host(plane):
    token = plane.token(once=True)
    host = Agent(plane, 1).enrolled(token)
    refused(Agent(plane, 2).enroll(token), 401, "token-used")
    assert host.enroll(token).status == 200  # its answer may have been lost
    assert [shown["uses"] for shown in plane.ok("GET", "/tokens")["items"]] == [2]


def test_token_of_another_workspace(plane, enrolled):
    plane.ok("POST", "/workspaces", {"name": "lab", "organization": "acme"})
    host = enrolled(1)
    refused(host.enroll(plane.token([], workspace="lab")), 403, "token-workspace")


def test_token_secret_is_not_stored(plane):
    secret = plane.token().split(".")[1]
    Agent(plane, 1).enroll(plane.token())
    for name in os.listdir(plane.state):
        with open(os.path.join(plane.state, name), "rb") as file:
            if name != "admin.credential":
                assert secret.encode() not in file.read(), name
    assert secret not in plane.controld.text()


# -- registrations

def test_registration_of_another_root(plane):
    host = Agent(plane, 1)
    host.deployment = bytes(16)
    refused(host.enroll(plane.token()), 403, "wrong-root")


def test_registration_that_the_host_did_not_sign(plane):
    host, other = Agent(plane, 1), Agent(plane, 2)
    payload = wire.unpack(wire.unpack(host.registration())[1])
    refused(host.enroll(plane.token(), wire.envelope(wire.REGISTRATION, payload, other.host)), 401, "signature")


def test_wireguard_key_that_the_host_did_not_vouch_for(plane):
    host = Agent(plane, 1)
    payload = wire.unpack(wire.unpack(host.registration())[1])
    payload[2][0] = bytes(32)
    refused(host.enroll(plane.token(), wire.envelope(wire.REGISTRATION, payload, host.host)), 401, "signature")


def test_clone_with_the_same_wireguard_key(plane, enrolled):
    first = enrolled(1)
    clone = Agent(plane, 2)
    clone.wg_key = first.wg_key
    assert "forget-keys" in refused(clone.enroll(plane.token()), 409, "key-in-use")
    first.apply()
    assert len(first.peers(plane.network)) == 1


def test_registration_older_than_the_last(plane, enrolled):
    host = enrolled(1)
    old = host.registration()
    host.apply(registration=host.registration())
    refused(host.enroll(plane.token(), old), 409, "registration-older")
    refused(host.poll(registration=old), 409, "registration-older")


def test_key_counter_that_goes_back(plane, enrolled):
    host = enrolled(1)
    old = host.wg_key
    host.rekey()
    host.apply(registration=host.registration())
    host.wg_key, host.counter = old, 1
    refused(host.poll(registration=host.registration()), 409, "registration-older")


def test_registration_of_another_host_in_a_poll(plane, enrolled):
    refused(enrolled(1).poll(registration=Agent(plane, 2).registration()), 403, "signature")


@pytest.mark.parametrize("name", ["", "UPPER", "a.b", "-a", "a-", "a" * 64, "ü", "a b", "a\n"])
def test_names_that_cannot_be(plane, name):
    refused(Agent(plane, 1).enroll(plane.token(), name=name), 400, "malformed")


# -- bodies

@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x90", b"\x91\xc4", b"{}", b"\xdd\xff\xff\xff\xff", b"\x91" * 3000, os.urandom(5000),
                                  wire.pack([b"", "name"]), wire.pack([b"x", "name", 1]), wire.pack(["text", b"x"])])
def test_malformed_enrolments(plane, body):
    answer = plane.request("POST", "/v1/agent/enroll", body, {"Authorization": "Bearer " + plane.token()})
    refused(answer, 400, "malformed")


@pytest.mark.parametrize("path, body", [
    ("poll", []), ("poll", [b"short", b"", [], b"", 0]), ("poll", [bytes(32), b"\xc0", [], b"", 0]),
    ("poll", [bytes(32), b"", [], b"", 56]), ("poll", [bytes(32), b"", [b"x"] * 33, b"", 0]), ("poll", [bytes(32), b"", [1], b"", 0]),
    ("poll", [bytes(32), b"", [], b"garbage", 0]), ("poll", [bytes(32), b"", [], b"", 0, 0]), ("poll", b"\xff"),
    ("blobs", []), ("blobs", [[b"short"]]), ("blobs", [[bytes(32)] * 4097]), ("blobs", [[], 1]), ("blobs", b""),
    ("leave", []), ("leave", [1]), ("leave", b"\xc1"),
])
def test_malformed_signed_requests(plane, enrolled, path, body):
    host = enrolled(1)
    refused(host.post(f"/v1/agent/{path}", body), 400, "malformed")
    host.apply()


def test_oversized_body(plane, enrolled):
    refused(enrolled(1).post("/v1/agent/poll", bytes(256 * 1024 + 1)), 413, "too-large")


def test_oversized_body_without_a_length(plane):
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=10)
    connection.request("POST", "/v1/agent/enroll", iter([bytes(65536)] * 8), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413
    connection.close()


def test_paths_and_methods_that_there_are_not(plane):
    refused(plane.request("GET", "/v1/agent/nothing"), 404, "not-found")
    refused(plane.request("GET", "/v1/agent/poll"), 405, "method")


# -- signatures

def test_clock_a_day_off_gets_the_date(plane, enrolled):
    host = enrolled(1)
    for offset in (-86400, 86400, -301, 302):
        host.clock_offset = offset
        answer = host.poll()
        refused(answer, 401, "clock")
        date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert abs(date - time.time()) < 3
    host.clock_offset = int(date - time.time())
    host.apply()


def test_replayed_request(plane, enrolled):
    host = enrolled(1)
    body = wire.pack(host.poll_body())
    headers = host.signed_headers("/v1/agent/poll", body)
    assert plane.request("POST", "/v1/agent/poll", body, headers).status == 200
    refused(plane.request("POST", "/v1/agent/poll", body, headers), 401, "replay")


def test_replay_after_many_other_requests(plane, enrolled):
    host = enrolled(1)
    body = wire.pack(host.poll_body())
    headers = host.signed_headers("/v1/agent/poll", body, created=int(time.time()) - 1)
    time.sleep(1.1)  # that second is after the start
    first = plane.request("POST", "/v1/agent/poll", body, headers).status
    for _ in range(60):
        host.poll()
    refused(plane.request("POST", "/v1/agent/poll", body, headers), 401, "replay" if first == 200 else "clock")


def test_request_from_before_a_restart_is_not_believed(plane, enrolled):
    host = enrolled(1)
    body = wire.pack(host.poll_body())
    headers = host.signed_headers("/v1/agent/poll", body)
    assert plane.request("POST", "/v1/agent/poll", body, headers).status == 200
    plane.controld.stop()
    time.sleep(1.1)
    plane.start_controld()
    refused(plane.request("POST", "/v1/agent/poll", body, headers), 401, "clock")


def test_unknown_host(plane):
    refused(Agent(plane, 1).poll(), 401, "unknown-host")


@pytest.mark.parametrize("wrong", [
    {"key": wire.Key("another")}, {"digest": "sha-256=:AAAA:"}, {"digest": ""}, {"tag": "other"}, {"keyid": "zz"}, {"nonce": "short"},
    {"created": "soon"}, {"created": ""}, {"created": "-5"}, {"nonce": "n" * 65}, {"parameters": '("@method");created=1'},
    {"parameters": '()'}, {"parameters": '("@method" "@path" "content-digest")'},
    {"parameters": '("@method" "@path" "content-digest");' + 'x="' + "y" * 600 + '"'},
])
def test_signatures_that_do_not_verify(plane, enrolled, wrong):
    refused(enrolled(1).poll(**wrong), 401, "signature")


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "Content-Digest"])
@pytest.mark.parametrize("value", [None, "loopback=", "loopback=:" + "A" * 88 + ":", "x", "loopback=:AAAA:"])
def test_headers_missing_or_wrong(plane, enrolled, name, value):
    host = enrolled(1)
    body = wire.pack(host.poll_body())
    headers = host.signed_headers("/v1/agent/poll", body)
    headers.pop(name)
    if value is not None:
        headers[name] = value
    refused(plane.request("POST", "/v1/agent/poll", body, headers), 401, "signature")


def test_signature_for_another_path(plane, enrolled):
    host = enrolled(1)
    body = wire.pack([b""])
    refused(plane.request("POST", "/v1/agent/leave", body, host.signed_headers("/v1/agent/poll", body)), 401, "signature")


def test_body_exchanged_under_a_signature(plane, enrolled):
    host = enrolled(1)
    headers = host.signed_headers("/v1/agent/poll", wire.pack(host.poll_body()))
    refused(plane.request("POST", "/v1/agent/poll", wire.pack(host.poll_body()), headers), 401, "signature")


def test_the_transport_key_of_the_newest_registration_counts(plane, enrolled):
    host = enrolled(1)
    old, host_new = host.transport, wire.Key("fresh transport")
    host.transport = host_new
    registration = host.registration()
    host.transport = old
    host.apply(registration=registration)
    refused(host.poll(), 401, "signature")
    host.transport = host_new
    host.apply()


# -- receipts

def test_receipts_that_are_not_the_hosts(plane, enrolled):
    host, other = enrolled(1), enrolled(2)
    host.apply()
    forged = wire.envelope(wire.RECEIPT, wire.unpack(wire.unpack(host.receipt())[1]), other.host)
    assert host.poll(receipts=[forged, other.receipt(), b"garbage"]).status == 200
    assert plane.ok("GET", f"/hosts/{host.name}")["receipt"] is None


def test_a_receipt_again_changes_nothing(plane, enrolled):
    host = enrolled(1)
    host.apply()
    good = host.receipt()
    host.apply(receipts=[good])
    host.apply(receipts=[host.receipt(outcome=3, code="x", reason="later")])
    host.apply(receipts=[good])
    assert plane.ok("GET", f"/hosts/{host.name}")["receipt"]["outcome"] == "refused"


# -- addresses

def test_exhaustion_names_network_range_and_way_out(plane):
    plane.ok("POST", "/networks", {"name": "tiny", "workspace": "prod", "cidrs": ["10.66.0.0/30"]})
    token = plane.token(["tiny"])
    hosts = [Agent(plane, number).enrolled(token) for number in (1, 2)]
    detail = refused(Agent(plane, 3).enroll(token), 409, "address-exhausted")
    assert "tiny" in detail and "10.66.0.0/30" in detail and "retire" in detail.lower()
    assert len(plane.ok("GET", "/hosts")["items"]) == 2
    plane.ok("POST", f"/hosts/{hosts[0].name}/retire")
    third = Agent(plane, 3).enrolled(token)
    third.apply()
    assert third.own_addresses() == ["10.66.0.1"]


def test_a_second_range_of_the_family_is_used_when_the_first_is_full(plane):
    plane.ok("POST", "/networks", {"name": "two", "workspace": "prod", "cidrs": ["10.66.0.0/31", "10.67.0.0/30"]})
    token = plane.token(["two"])
    hosts = [Agent(plane, number).enrolled(token) for number in range(4)]
    for host in hosts:
        host.apply()
    assert [host.own_addresses()[0] for host in hosts] == ["10.66.0.0", "10.66.0.1", "10.67.0.1", "10.67.0.2"]


def test_host_that_refuses_the_same_answer_again_and_again_is_slowed_down(plane, enrolled):
    host = enrolled(1)
    times = []
    for _ in range(5):
        begun = time.monotonic()
        assert host.poll(wait=30).status == 200  # keeps having nothing
        times.append(time.monotonic() - begun)
    assert max(times[:3]) < 0.4 and times[4] > 1.0
