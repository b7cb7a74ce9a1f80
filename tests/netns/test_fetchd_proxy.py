# SPDX-License-Identifier: Apache-2.0
"""fetchd behind a proxy: its host reaches the control plane through that and in no other way."""

import base64
import os
import queue
import subprocess
import time
import urllib.parse

import pytest

from connect_proxy import Country, Inside, Proxy
from fetchd_fixtures import ENROLL_PATH, HEAD, POLL_PATH, make_folder, make_netd, parking
from fetchd_peers import OFFER, UNCHANGED, Control, Fetchd, certificate, certificate_only, envelope, pack

__all__ = ["make_folder", "make_netd"]  # fixtures

USER, PASSWORD = "branch office", "p@ss:w/o?r#d %41+\u00fc'\"\\$"
ENCODED = f"{urllib.parse.quote(USER, safe='')}:{urllib.parse.quote(PASSWORD, safe='')}@"


@pytest.fixture(name="country", scope="module")
def make_country():
    country = Country(os.environ.get("FLEET_PREFIX", "lbpx")[:4])
    yield country
    country.close()


@pytest.fixture(name="pem", scope="module")
def make_pem(tmp_path_factory):
    return certificate(str(tmp_path_factory.mktemp("control")))


@pytest.fixture(name="control")
def make_control(country, netd, pem):
    yield from serve(country.world, country.WORLD, netd, pem)


@pytest.fixture(name="near")
def make_near(country, netd, pem):
    """One that is reached without the proxy as well."""
    yield from serve(country.border, country.BORDER, netd, pem)


def serve(namespace, address, netd, pem):
    """A control plane there."""
    with Inside(namespace):
        control = Control(tls=pem, address=address)
    control.ca = certificate_only(pem)
    control.named = control.url.replace(address, "control.test")
    control.routes["/v1/agent/keyset"] = lambda body: envelope("keyset")
    control.routes[ENROLL_PATH] = lambda body: pack([netd.host])
    control.routes[POLL_PATH] = parking(HEAD)
    control.routes["/v1/agent/leave"] = lambda body: pack([])
    yield control
    control.close()


@pytest.fixture(name="proxies")
def make_proxies(country):
    made = []

    def make(**more):
        made.append(Proxy(country, names={"control.test": country.WORLD}, **more))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture(name="start")
def make_start(folder, country, netd):
    """Start a fetchd on the agent's side; its netd is there."""
    made = []

    def start(*options, environment=None):
        wrap = ["ip", "netns", "exec", country.agent]
        fetchd = Fetchd(folder, environment=environment, wrap=wrap, options=options)
        made.append(fetchd)
        netd.accept()
        return fetchd

    yield start
    for fetchd in made:
        assert fetchd.stop() == 0, fetchd.log()


def enrol(fetchd, netd, control, url=None):
    """Up to the parked poll."""
    control.transport_key = netd.transport_key
    client = fetchd.enroll(url or control.named, ca=control.ca)
    try:
        control.next("/v1/agent/keyset")
    except queue.Empty:
        raise AssertionError(fetchd.progress(client)[1]) from None
    control.next(ENROLL_PATH)
    netd.ask()
    control.next(POLL_PATH)
    netd.expect(OFFER)
    netd.result(UNCHANGED)
    ok, texts = fetchd.progress(client)
    assert ok, texts
    netd.ask()
    assert control.next(POLL_PATH)[4] == 50


def refused(fetchd, control, url=None):
    """Why it cannot enrol."""
    ok, texts = fetchd.progress(fetchd.enroll(url or control.named, ca=control.ca), 40)
    assert not ok
    return texts[-1]


def secrets_in(text):
    """Which forms of the password are there."""
    pair = f"{USER}:{PASSWORD}".encode()
    forms = {"raw": PASSWORD, "encoded": urllib.parse.quote(PASSWORD, safe=""), "encoded loosely": urllib.parse.quote(PASSWORD),
             "base64": base64.b64encode(pair).decode(), "start": "p@ss", "encoded start": "p%40ss"}
    return [name for name, form in forms.items() if form in text]


def test_there_is_no_other_way(start, control, country):
    """The rig itself: without a proxy nothing is reached, and no proxy is blamed."""
    why = refused(start(), control, control.url)
    assert country.WORLD in why and "proxy" not in why


def test_everything_goes_through_it(start, netd, control, proxies):
    """Enrolment, polls, leaving: the name of the control plane is known to the proxy alone."""
    proxy = proxies()
    fetchd = start(environment={"https_proxy": proxy.url()})
    assert f"through the proxy {proxy.url()} (https_proxy), without a password" in fetchd.log()
    enrol(fetchd, netd, control)
    link = fetchd.link()
    assert link["online"] and link["last_error"] == ""
    assert link["ahead"] <= 2 and link["behind"] <= 2  # the proxy's Date is of 2015
    ok, texts = fetchd.leave()
    assert ok, texts
    control.next("/v1/agent/leave")
    port = control.url.rpartition(":")[2]
    assert proxy.asked and set(proxy.asked) == {f"CONNECT control.test:{port} HTTP/1.1"}
    assert control.connections == len(proxy.asked)


def test_a_password_is_given_to_the_proxy_and_shown_to_nobody(start, netd, control, proxies):
    proxy = proxies(credentials=(USER, PASSWORD))
    names = ("https_proxy", "ALL_PROXY", "http_proxy")
    fetchd = start(environment={name: proxy.url(ENCODED) for name in names})
    enrol(fetchd, netd, control)
    assert set(proxy.offered) == {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    assert not any("Proxy-Authorization" in headers for _, headers, _ in control.seen)
    assert proxy.headers - {""} == {"host", "user-agent", "proxy-connection", "proxy-authorization"}  # nor our token
    for name in ("cmdline", "environ"):
        with open(f"/proc/{fetchd.process.pid}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        assert secrets_in(text) == []
    assert text.count("PATH=/usr/bin")  # it is the environment that was looked at
    assert secrets_in(fetchd.log()) == [] and "with a password" in fetchd.log()
    # Not its own user either: it is not dumpable.
    seen = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat",
                           f"/proc/{fetchd.process.pid}/environ"],
                          capture_output=True, check=False)
    assert seen.returncode and b"Permission denied" in seen.stderr


@pytest.mark.parametrize("credentials, said", [
    ("", "wants a name and a password (HTTP status 407): https_proxy=http://NAME:PASSWORD@HOST:PORT in /etc/loopback/fetchd.env"),
    ("office:p%40ssword@", "does not take the name and password it was given (HTTP status 407)"),
])
def test_407_says_whether_a_password_lacks_or_is_wrong(start, control, proxies, credentials, said):
    proxy = proxies(credentials=(USER, PASSWORD))
    fetchd = start(environment={"https_proxy": proxy.url(credentials)})
    why = refused(fetchd, control)
    assert f"the proxy {proxy.url()} (https_proxy) {said}" in why
    assert secrets_in(why + fetchd.log()) == []


@pytest.mark.parametrize("behave, said", [
    (403, "refuses a connection to control.test:{port} (HTTP status 403): whoever runs it must allow CONNECT there"),
    (502, "refuses a connection to control.test:{port} (HTTP status 502)"),
    ("garbage", "control.test:{port} cannot be reached: no way through the proxy"),
    ("hang up", "control.test:{port} cannot be reached: no way through the proxy"),
    ("silent", "control.test:{port} cannot be reached: no way through the proxy"),
])
def test_a_proxy_that_does_not_serve_is_named(start, control, proxies, behave, said):
    proxy = proxies()
    proxy.behave = behave
    fetchd = start(environment={"https_proxy": proxy.url()})
    begun = time.monotonic()
    why = refused(fetchd, control)
    assert said.format(port=control.url.rpartition(":")[2]) in why and f"the proxy {proxy.url()} (https_proxy)" in why
    assert "\x1b" not in why and time.monotonic() - begun < 30
    assert control.connections == 0


def test_status_says_when_the_proxy_goes_and_when_it_is_back(start, netd, control, proxies):
    proxy = proxies()
    fetchd = start(environment={"https_proxy": proxy.url()})
    enrol(fetchd, netd, control)
    proxy.close()
    fetchd.wait_log("no way through the proxy", 30)
    link = fetchd.link()
    assert not link["online"] and f"no way through the proxy {proxy.url()} (https_proxy)" in link["last_error"]
    assert "Connection refused" in link["last_error"] or "Failed to connect" in link["last_error"]
    proxies(port=proxy.port)
    assert control.next(POLL_PATH, 30)[4] == 0
    netd.expect(OFFER)
    assert fetchd.link()["last_error"] == ""


def test_another_proxy_after_a_restart(start, netd, control, proxies):
    first, second = proxies(), proxies(credentials=(USER, PASSWORD))
    fetchd = start(environment={"https_proxy": first.url()})
    enrol(fetchd, netd, control)
    fetchd.kill()
    first.close()
    fetchd.environment["https_proxy"] = second.url(ENCODED)
    fetchd.start()
    netd.accept()
    netd.ask()
    control.next(POLL_PATH)
    netd.expect(OFFER)
    assert fetchd.link()["online"] and second.asked


def test_a_proxy_by_name(start, netd, control, proxies, country):
    proxy = proxies()
    fetchd = start(environment={"HTTPS_PROXY": proxy.url(host="proxy.test").removeprefix("http://")})
    enrol(fetchd, netd, control)
    fetchd.kill()
    fetchd.environment["HTTPS_PROXY"] = "http://nowhere.invalid:3128"
    fetchd.start()
    netd.accept()
    netd.ask()
    fetchd.wait_log("no way through the proxy http://nowhere.invalid:3128 (HTTPS_PROXY): Could not resolve proxy", 30)


@pytest.mark.parametrize("excepted, direct", [
    ("192.0.2.0/24", True), ("example.org,192.0.2.1", True), ("*", True),
    ("192.0.2.128/25", False), ("example.org", False), ("", False),
])
def test_no_proxy(start, near, proxies, excepted, direct):
    proxy = proxies()
    fetchd = start(environment={"https_proxy": proxy.url(), "no_proxy": excepted})
    # The certificate is for another name: which way it was asked for is what is looked at.
    assert "certificate" in refused(fetchd, near, near.url)
    assert (not proxy.asked) == direct and near.connections == 1


def test_options_go_before_the_environment(start, near, control, proxies):
    """--proxy and --no-proxy win; none is no proxy at all."""
    one, other = proxies(), proxies()
    fetchd = start("--proxy", one.url(), "--no-proxy", "192.0.2.1",
                   environment={"https_proxy": other.url(), "no_proxy": "control.test"})
    client = fetchd.enroll(control.named, ca=control.ca)
    control.next("/v1/agent/keyset")
    client.close()
    assert one.asked and not other.asked
    one.asked.clear()
    refused(fetchd, near, near.url)
    assert not one.asked and not other.asked and near.connections == 1


def test_proxy_none(start, near, proxies):
    proxy = proxies()
    fetchd = start("--proxy", "none", environment={"https_proxy": proxy.url()})
    refused(fetchd, near, near.url)
    assert not proxy.asked and near.connections == 1


@pytest.mark.parametrize("options, environment, said", [
    ((), {"https_proxy": "socks5h://192.0.2.1:1080"}, "https_proxy cannot be used: proxies of its kind are not supported"),
    ((), {"all_proxy": "http://192.0.2.1:99999"}, "all_proxy cannot be used: it is not a URL"),
    ((), {"https_proxy": "http://office:p%40ss%0d%0aX@192.0.2.1:3128"}, "https_proxy cannot be used: it is not a URL"),
    ((), {"https_proxy": "http://office:p@ss/word@192.0.2.1:3128"}, "https_proxy cannot be used"),
    ((), {"https_proxy": "http://192.0.2.1:3128/path"}, "something follows HOST:PORT"),
    (("--proxy", "http://office:p@ss@192.0.2.1:3128"), {}, "does not belong on a command line"),
    (("--proxy-ca", "/etc/not-there.pem"), {"https_proxy": "https://192.0.2.1:1"},
     "cannot read /etc/not-there.pem (No such file"),
    (("--proxy-ca", "/etc/hosts"), {"https_proxy": "https://192.0.2.1:1"}, "holds no certificate in PEM form"),
    ((), {"no_proxy": "x" * 5000, "https_proxy": "http://192.0.2.1:1"}, "no_proxy cannot be used: it is longer"),
])
def test_a_setting_that_cannot_be_used_is_no_way_past_the_proxy(start, near, options, environment, said):
    """It runs, says why, and asks nobody, though this control plane could be reached."""
    fetchd = start(*options, environment=environment)
    why = refused(fetchd, near, near.url)
    assert said in why and "mended in /etc/loopback/fetchd.env" in why
    assert near.connections == 0 and secrets_in(why) == []
    assert secrets_in(fetchd.log()) == []


def test_an_https_proxy_with_a_private_ca(start, netd, control, proxies, country, tmp_path):
    own = certificate(str(tmp_path), "proxy.test")
    proxy = proxies(certificate=own, credentials=(USER, PASSWORD))
    authority = os.path.join(country.etc, "proxy-ca.pem")
    with open(authority, "w", encoding="ascii") as out:
        out.write(certificate_only(own))
    os.chmod(authority, 0o644)
    # The test's certificates are for localhost and control.test: the name of the proxy is one of them.
    with open(os.path.join(country.etc, "hosts"), "a", encoding="ascii") as out:
        out.write(f"{country.BORDER} control.test\n")
    where = proxy.url(ENCODED, host="control.test", scheme="https")
    fetchd = start(environment={"https_proxy": where})
    why = refused(fetchd, control, control.url)
    shown = proxy.url(host="control.test", scheme="https")
    assert f"no way through the proxy {shown} (https_proxy)" in why and "certificate" in why and proxy.asked == []
    assert fetchd.stop() == 0
    netd.peer.close()
    fetchd.options = ["--proxy-ca", authority]
    fetchd.start()
    netd.accept()
    enrol(fetchd, netd, control)
    assert proxy.offered[0] and control.connections == len(proxy.asked)


def test_a_proxy_that_opens_tls_is_not_believed(start, control, proxies, country, tmp_path, netd):
    """It answers in the control plane's place, with a certificate of its own."""
    other = certificate(str(tmp_path), "middle")
    with Inside(country.world):
        middle = Control(tls=other, address=country.WORLD)
    proxy = proxies()
    proxy.names["control.test"] = country.WORLD
    fetchd = start(environment={"https_proxy": proxy.url()})
    why = refused(fetchd, control, middle.url.replace(country.WORLD, "control.test"))
    assert "certificate is not from an authority that this host believes" in why and "a proxy that opens TLS" in why
    assert middle.seen == []
    middle.close()
