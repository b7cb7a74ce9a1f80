# SPDX-License-Identifier: Apache-2.0
"""The operators' API: permissions of every route, strict bodies, names, lists, idempotency keys, tokens, keysets."""

import http.client
import json
import os
import re
import threading
import time

import pytest
import wire
from agent import Agent
from cli_console import ROOT
from plane import keyset

ROUTES = re.findall(r'R\("(\w+)", "([^"]+)", "([^"]*)", (true|false), (\w+)\)',
                    open(os.path.join(ROOT, "controld/routes.h"), encoding="ascii").read())
PERMISSIONS = ["read", "networks.write", "hosts.write", "tokens.list", "tokens.mint", "tokens.revoke"]


def credential(plane, *permissions):
    """A new credential's ID.SECRET."""
    return plane.ok("POST", "/credentials", {"permissions": list(permissions)})["credential"]


def path_of(pattern):
    """A path of a route, of objects that there are not."""
    return pattern[3:].replace("*", "00" * 16)


# -- who may what

@pytest.mark.parametrize("method, pattern, permission, changes, handler", ROUTES, ids=[f"{row[0]} {row[1]}" for row in ROUTES])
def test_every_route_asks_for_its_permission(plane, method, pattern, permission, changes, handler):
    body = {} if method in ("POST", "PUT") else None
    if not permission:
        assert plane.call(method, path_of(pattern), body, credential="none").status == 200
        return
    for wrong in ("", "x", "00" * 16 + "." + "A" * 43, plane.credential[:-2] + ("BB" if plane.credential.endswith("AA") else "AA")):
        plane.refuses(401, "unauthorized", method, path_of(pattern), body, credential=wrong or "x")
    without = credential(plane, *[name for name in PERMISSIONS if name != permission])
    plane.refuses(403, "forbidden", method, path_of(pattern), body, credential=without)
    granted = plane.call(method, path_of(pattern), body, credential=credential(plane, permission))
    assert granted.status in (200, 400, 404), granted.body


def test_the_page_lists_every_route():
    """docs/design/operator-api.md and controld/routes.h say the same."""
    page = open(os.path.join(ROOT, "docs/design/operator-api.md"), encoding="utf-8").read()
    listed = {}
    for methods, path, permissions in re.findall(r"^\| `([A-Z,]+) (/v1/\S+)`[^|]*\| ([^|]+) \|", page, re.MULTILINE):
        path = re.sub(r"[A-Z]{2,}", "*", path)
        words = permissions.strip().split("; ")
        for number, method in enumerate(methods.split(",")):
            listed[method, path] = words[min(number, len(words) - 1)]
    assert listed == {(method, path): permission or "none" for method, path, permission, _, _ in ROUTES}


def test_revoked_credential(plane):
    made = plane.ok("POST", "/credentials", {"permissions": ["read"], "description": "ci"})
    plane.ok("POST", f"/credentials/{made['id']}/revoke")
    plane.refuses(401, "revoked", "GET", "/hosts", credential=made["credential"])


def test_the_last_administrator_stays(plane):
    plane.refuses(409, "last-administrator", "POST", f"/credentials/{plane.credential.split('.')[0]}/revoke")
    assert plane.call("GET", "/hosts").status == 200
    second = credential(plane, "admin")
    plane.ok("POST", f"/credentials/{plane.credential.split('.')[0]}/revoke")
    assert plane.call("GET", "/hosts", credential=second).status == 200


# -- bodies

@pytest.mark.parametrize("path, body, key", [
    ("/organizations", {}, "name"), ("/organizations", {"name": "x", "more": 1}, "more"), ("/organizations", {"name": 1}, "name"),
    ("/organizations", {"name": "UPPER"}, "name"), ("/organizations", {"name": "a" * 64}, "name"), ("/organizations", {"name": "-a"}, "name"),
    ("/organizations", {"name": "a\u0000b"}, "name"), ("/organizations", {"name": None}, "name"),
    ("/workspaces", {"name": "x"}, "organization"), ("/workspaces", {"name": "x", "organization": ["acme"]}, "organization"),
    ("/networks", {"name": "x"}, "workspace"), ("/networks", {"name": "x", "workspace": "prod", "organization": "acme"}, "workspace"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": "10.0.0.0/8"}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": [1]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["10.0.0.1/8"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["10.0.0.0/33"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["10.0.0.0/16", "10.0.5.0/24"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["127.0.0.0/24"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["0.0.0.0/0"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["224.1.0.0/16"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["fe80::/64"]}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "cidrs": ["10.0.0.0/24"] * 5}, "cidrs"),
    ("/networks", {"name": "x", "workspace": "prod", "mtu": 1279}, "mtu"), ("/networks", {"name": "x", "workspace": "prod", "mtu": 1.5}, "mtu"),
    ("/networks", {"name": "x", "workspace": "prod", "keepalive": -1}, "keepalive"),
    ("/tokens", {}, "workspace"), ("/tokens", {"workspace": "prod", "ttl": 0}, "ttl"), ("/tokens", {"workspace": "prod", "ttl": 31622401}, "ttl"),
    ("/tokens", {"workspace": "prod", "ttl": "1"}, "ttl"), ("/tokens", {"workspace": "prod", "once": 1}, "once"),
    ("/tokens", {"workspace": "prod", "networks": ["mesh"] * 65}, "networks"), ("/tokens", {"workspace": "prod", "description": "x" * 201}, "description"),
    ("/credentials", {"permissions": []}, "permissions"), ("/credentials", {"permissions": ["everything"]}, "permissions"),
    ("/credentials", {"permissions": "admin"}, "permissions"),
])
def test_bodies_that_are_wrong_name_the_key(plane, path, body, key):
    assert f'"{key}"' in plane.refuses(400, "malformed", "POST", path, body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b"\xff", b'{"name": "a", "name": "b"}', b"{" * 5000, b'{"name": "a"} x'])
def test_what_is_no_json_object(plane, body):
    answer = plane.request("POST", "/v1/organizations", body, {"Authorization": "Bearer " + plane.credential})
    assert (answer.status, answer.json["code"]) == (400, "malformed")


def test_oversized_body(plane):
    plane.refuses(413, "too-large", "POST", "/organizations", {"name": "x" * 70000})


def test_paths_that_there_are_not(plane):
    for path in ("/nothing", "/hosts/", "/networks/mesh/status/x", "/networks//status"):
        plane.refuses(404, "not-found", "GET", path)
    plane.refuses(405, "method", "DELETE", "/hosts")


# -- objects

def test_names_are_unique_where_they_must_be(plane):
    plane.refuses(409, "exists", "POST", "/organizations", {"name": "acme"})
    plane.refuses(409, "exists", "POST", "/workspaces", {"name": "prod", "organization": "acme"})
    plane.refuses(409, "exists", "POST", "/networks", {"name": "mesh", "workspace": "prod"})


def test_ambiguous_names_ask_for_the_id(plane, enrolled):
    first, second = enrolled(1, name="twin"), enrolled(2, name="twin")
    plane.refuses(409, "ambiguous", "GET", "/hosts/twin")
    assert plane.ok("GET", f"/hosts/{second.id.hex()}")["id"] == second.id.hex()
    plane.ok("POST", f"/hosts/{first.id.hex()}/retire")
    assert plane.ok("GET", "/hosts/twin")["id"] == second.id.hex()


@pytest.mark.parametrize("method, path, body", [
    ("GET", "/networks/none", None), ("GET", "/hosts/none", None), ("POST", "/hosts/none/networks", {"network": "mesh"}),
    ("POST", "/tokens", {"workspace": "none"}), ("POST", "/tokens", {"workspace": "prod", "networks": ["none"]}),
    ("POST", "/networks", {"name": "x", "organization": "none"}), ("POST", "/tokens/none/revoke", None),
])
def test_objects_that_there_are_not(plane, method, path, body):
    assert "none" in plane.refuses(404, "not-found", method, path, body)


def test_networks_come_from_the_pool_and_do_not_meet(plane):
    plane.ok("POST", "/networks", {"name": "wide", "organization": "acme", "cidrs": ["100.64.0.0/15"]})
    made = [plane.ok("POST", "/networks", {"name": f"n{number}", "organization": "acme"})["cidrs"] for number in range(3)]
    assert made == [["100.66.0.0/16"], ["100.67.0.0/16"], ["100.68.0.0/16"]]


def test_a_network_goes_only_when_it_is_empty(plane, enrolled):
    host = enrolled(1)
    assert "1 host" in plane.refuses(409, "not-empty", "DELETE", "/networks/mesh")
    plane.ok("DELETE", f"/hosts/{host.name}/networks/mesh")
    plane.ok("DELETE", "/networks/mesh")
    plane.refuses(404, "not-found", "GET", "/networks/mesh")
    host.apply()
    assert host.network_ids() == []
    plane.ok("POST", "/networks", {"name": "mesh", "workspace": "prod", "cidrs": ["10.7.0.0/24"]})
    plane.ok("POST", f"/hosts/{host.name}/networks", {"network": "mesh"})
    host.apply()
    assert host.own_addresses() == ["10.7.0.1"]


def test_networks_of_others(plane, enrolled):
    plane.ok("POST", "/organizations", {"name": "evil"})
    plane.ok("POST", "/networks", {"name": "theirs", "organization": "evil"})
    plane.ok("POST", "/workspaces", {"name": "lab", "organization": "acme"})
    plane.ok("POST", "/networks", {"name": "labs", "workspace": "lab"})
    host = enrolled(1)
    for network in ("theirs", "labs"):
        plane.refuses(409, "other-scope", "POST", f"/hosts/{host.name}/networks", {"network": network})
        plane.refuses(409, "other-scope", "POST", "/tokens", {"workspace": "prod", "networks": [network]})


def test_ranges_that_meet_on_one_host(plane, enrolled):
    plane.ok("POST", "/networks", {"name": "same", "workspace": "prod", "cidrs": ["10.7.0.128/25"]})
    detail = plane.refuses(409, "cidr-overlap", "POST", f"/hosts/{enrolled(1).name}/networks", {"network": "same"})
    assert "10.7.0.128/25" in detail and "10.7.0.0/24" in detail


@pytest.mark.parametrize("endpoint", ["", "x", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "host.example:1", "[::1]", "2001:db8::1:1:1", 5, [], {}])
def test_endpoints_that_are_none(plane, enrolled, endpoint):
    assert '"endpoint"' in plane.refuses(400, "malformed", "PUT", f"/hosts/{enrolled(1).name}/endpoint", {"endpoint": endpoint})


def test_retired_hosts_cannot_join(plane, enrolled):
    host = enrolled(1)
    plane.ok("POST", f"/hosts/{host.id.hex()}/retire")
    plane.refuses(409, "host-not-active", "POST", f"/hosts/{host.id.hex()}/networks", {"network": "mesh"})
    plane.ok("POST", f"/hosts/{host.id.hex()}/retire")  # twice is once


def test_joining_twice_is_once(plane, enrolled):
    host = enrolled(1)
    generation = plane.status()["generation"]
    plane.ok("POST", f"/hosts/{host.name}/networks", {"network": "mesh"})
    assert plane.status()["generation"] == generation


# -- lists

def test_pages_and_filters(plane, enrolled):
    hosts = sorted(enrolled(number).id.hex() for number in range(7))
    plane.ok("DELETE", f"/hosts/{hosts[0]}/networks/mesh")
    seen, after = [], None
    while True:
        page = plane.ok("GET", "/hosts?limit=3" + (f"&after={after}" if after else ""))
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == hosts
    assert [item["id"] for item in plane.ok("GET", "/hosts?network=mesh")["items"]] == hosts[1:]
    assert len(plane.ok("GET", "/hosts?workspace=prod")["items"]) == 7
    plane.refuses(404, "not-found", "GET", "/hosts?workspace=none")
    for wrong in ("0", "1001", "x", "-1"):
        plane.refuses(400, "malformed", "GET", f"/hosts?limit={wrong}")


def test_secrets_are_shown_once(plane):
    token = plane.ok("POST", "/tokens", {"workspace": "prod"})
    made = plane.ok("POST", "/credentials", {"permissions": ["read"]})
    lists = json.dumps([plane.ok("GET", "/tokens"), plane.ok("GET", "/credentials"), plane.ok("GET", "/audit")])
    for secret in (token["token"], made["credential"], plane.credential):
        assert secret.split(".")[1] not in lists


def test_the_audit_log_has_every_change(plane, enrolled):
    host = enrolled(1)
    plane.ok("PUT", f"/hosts/{host.name}/endpoint", {"endpoint": "192.0.2.1:1"})
    plane.refuses(404, "not-found", "POST", "/hosts/none/retire")
    items = plane.ok("GET", "/audit")["items"]
    assert [item["what"] for item in items] == ["POST /v1/organizations", "POST /v1/workspaces", "POST /v1/networks", "POST /v1/tokens",
                                                "enroll", "PUT /v1/hosts/*/endpoint"]
    assert items[-1]["object"] == host.id.hex() and items[-1]["who"].startswith("credential:")
    assert items[-2]["who"].startswith("token:")


# -- idempotency keys

def test_a_repeated_post_is_done_once(plane):
    sent = {"Idempotency-Key": "one"}
    first = plane.call("POST", "/organizations", {"name": "again"}, headers=sent)
    second = plane.call("POST", "/organizations", {"name": "again"}, headers=sent)
    assert first.status == second.status == 201 and first.json == second.json
    plane.refuses(422, "idempotency-mismatch", "POST", "/organizations", {"name": "other"}, headers=sent)
    plane.refuses(422, "idempotency-mismatch", "POST", "/workspaces", {"name": "again", "organization": "acme"}, headers=sent)
    other = credential(plane, "admin")
    assert plane.call("POST", "/organizations", {"name": "others"}, headers=sent, credential=other).status == 201


def test_a_failed_post_may_be_repeated_under_its_key(plane):
    sent = {"Idempotency-Key": "two"}
    assert plane.call("POST", "/workspaces", {"name": "w", "organization": "later"}, headers=sent).status == 404
    plane.ok("POST", "/organizations", {"name": "later"})
    assert plane.call("POST", "/workspaces", {"name": "w", "organization": "later"}, headers=sent).status == 201


def test_a_secret_is_not_shown_again(plane):
    sent = {"Idempotency-Key": "three"}
    assert plane.call("POST", "/tokens", {"workspace": "prod"}, headers=sent).status == 201
    plane.refuses(409, "already-done", "POST", "/tokens", {"workspace": "prod"}, headers=sent)
    assert len(plane.ok("GET", "/tokens")["items"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 129])
def test_keys_that_are_none(plane, key):
    plane.refuses(400, "malformed", "POST", "/organizations", {"name": "x"}, headers={"Idempotency-Key": key})


# -- status and states

def test_states_of_a_host(plane, enrolled):
    host = enrolled(1)
    assert plane.ok("GET", f"/hosts/{host.name}")["state"] == "enrolling"
    host.apply()
    host.apply(receipts=[host.receipt()])
    shown = plane.ok("GET", f"/hosts/{host.name}")
    assert shown["state"] == "online" and shown["backend"] == "userspace" and shown["agent_version"] == "0.1.0"
    assert {entry["type"] for entry in shown["receipt"]["generations"]} == {"keyset", "host", "network"}
    assert shown["networks"] == [{"id": plane.network.hex(), "name": "mesh", "addresses": ["10.7.0.1/32"],
                                  "awaiting_admission": False}]
    plane.controld.stop()
    plane.controld.arguments += ("--offline-after", "1")
    plane.start_controld()
    until = time.monotonic() + 10
    while plane.ok("GET", f"/hosts/{host.name}")["state"] != "offline" and time.monotonic() < until:
        time.sleep(0.1)
    assert plane.ok("GET", f"/hosts/{host.name}")["state"] == "offline"
    host.apply()
    assert plane.ok("GET", f"/hosts/{host.name}")["state"] == "online"


def test_an_empty_network_is_signed_and_converged(plane):
    status = plane.status()
    assert status["generation"] == 1 and status["converged"] and status["hosts"] == []


# -- keysets

def test_a_new_keyset_reaches_hosts_that_wait(plane, enrolled):
    host = enrolled(1)
    host.apply()
    entries = []
    thread = threading.Thread(target=lambda: entries.append(host.apply(wait=30)))
    thread.start()
    time.sleep(0.3)
    newer = keyset(plane.root, [plane.signd.public], generation=2)
    assert plane.publish(newer).status == 200
    thread.join(10)
    assert host.entries[wire.KEYSET, plane.deployment][3] == 2


def test_keysets_that_are_not_taken(plane):
    for status, code, envelope in [
            (409, "not-newer", plane.keyset), (409, "not-newer", keyset(plane.root, [plane.signd.public], generation=0)),
            (403, "wrong-root", keyset(wire.Key("other"), [plane.signd.public], generation=2)), (400, "malformed", b"garbage"),
            (409, "other-deployment", keyset(plane.root, [plane.signd.public], generation=2, deployment=b"x" * 16))]:
        answer = plane.publish(envelope)
        assert (answer.status, answer.json["code"]) == (status, code), answer.body
    plane.refuses(400, "malformed", "PUT", "/keyset", {"envelope": "%%%%"})


def test_a_new_epoch_signs_everything_anew(plane, enrolled):
    hosts = [enrolled(number) for number in range(5)]
    plane.ok("POST", f"/hosts/{hosts[4].id.hex()}/retire")
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    for host in hosts[:4]:
        until = time.monotonic() + 5
        while True:
            host.apply()
            if all(entry[2] == 2 for entry in host.entries.values()) or time.monotonic() > until:
                break
        assert [entry[2] for entry in host.entries.values()] == [2, 2, 2]
        assert len(host.peers(plane.network)) == 4
    enrolled(9)


def test_a_keyset_without_the_online_key_stops_changes_and_says_why(plane, enrolled):
    host = enrolled(1)
    assert plane.publish(keyset(plane.root, [wire.Key("other").public], generation=2)).status == 200
    detail = plane.refuses(409, "signer-refused", "DELETE", f"/hosts/{host.name}/networks/mesh")
    assert "online key" in detail
    assert host.poll().status == 503
    assert plane.publish(keyset(plane.root, [plane.signd.public], generation=3)).status == 200
    host.apply()


def test_signd_that_lost_its_memory_needs_a_new_epoch(plane, enrolled):
    """signd with its key but without its memory signs from 1 on: hosts would refuse that, so controld does not offer it."""
    import sqlite3
    host = enrolled(1)
    host.apply()
    plane.signd.stop()
    with sqlite3.connect(os.path.join(plane.signd.state, "state.db")) as database:
        for table in ("documents", "nodes", "members", "addresses", "counters", "host_networks"):
            database.execute(f"DELETE FROM {table}")
    plane.signd.start()
    detail = plane.refuses(503, "signer-behind", "DELETE", f"/hosts/{host.name}/networks/mesh")
    assert "epoch" in detail
    assert host.poll().status == 503
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    until = time.monotonic() + 5
    while host.poll().status != 200 and time.monotonic() < until:
        time.sleep(0.1)
    host.apply()
    assert all(entry[2] == 2 for entry in host.entries.values())
    plane.ok("DELETE", f"/hosts/{host.name}/networks/mesh")


# -- the server

def test_many_requests_on_one_connection(plane):
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=10)
    for number in range(200):
        connection.request("GET", "/v1/hosts" if number % 2 else "/v1/nothing", headers={"Authorization": "Bearer " + plane.credential})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == (200 if number % 2 else 404)
    connection.close()


@pytest.mark.parametrize("data", [b"\r\n" * 10000, b"GET " + b"/" * 20000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(500), os.urandom(3000),
                                  b"POST /v1/agent/poll HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                                  b"POST /v1/agent/poll HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                                  b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n"])
def test_what_is_no_http(plane, data):
    import socket
    with socket.create_connection(("127.0.0.1", plane.port), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass
    assert plane.call("GET", "/hosts").status == 200
