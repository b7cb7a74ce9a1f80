# SPDX-License-Identifier: Apache-2.0
"""A netd, a control plane and a fetchd between them, for the tests of fetchd."""

import os
import time

import pytest

from fetchd_peers import OFFER, UNCHANGED, Control, Fetchd, Netd, envelope, pack

HEAD = envelope("head", b"head 1")
BLOB_PATH, POLL_PATH, ENROLL_PATH = "/v1/agent/blobs", "/v1/agent/poll", "/v1/agent/enroll"


@pytest.fixture(name="folder")
def make_folder(tmp_path_factory):
    """One that fetchd's user can reach."""
    folder = tmp_path_factory.mktemp("fetchd")
    for path in (folder, folder.parent, folder.parent.parent):
        os.chmod(path, 0o711)
    yield str(folder)
    Fetchd.end_all(str(folder))


@pytest.fixture(name="netd")
def make_netd(folder):
    netd = Netd(os.path.join(folder, "netd.sock"))
    yield netd
    netd.close()


@pytest.fixture(name="control")
def make_control(netd):
    control = Control()
    control.routes["/v1/agent/keyset"] = lambda body: envelope("keyset")
    control.routes[ENROLL_PATH] = lambda body: pack([netd.host])
    control.routes[POLL_PATH] = parking(HEAD)
    yield control
    control.close()


@pytest.fixture(name="fetchd")
def make_fetchd(folder, netd):
    fetchd = Fetchd(folder)
    yield fetchd
    assert fetchd.stop() == 0, fetchd.log()


def parking(head, blobs=(), keyset=b""):
    """A poll's route: parks as long as it is asked to, but no longer than a test wants to wait."""
    def route(body):
        time.sleep(min(body[4], 30))
        return pack([keyset, head, list(blobs)])
    return route


def enrolled(fetchd, netd, control, settled=True):
    """Bring a host to where its poll is parked."""
    netd.accept()
    control.transport_key = netd.transport_key
    client = fetchd.enroll(control.url)
    control.next("/v1/agent/keyset")
    control.next(ENROLL_PATH)
    netd.ask()
    control.next(POLL_PATH)
    netd.expect(OFFER)
    netd.result(UNCHANGED)
    ok, texts = fetchd.progress(client)
    assert ok, texts
    if settled:
        netd.ask()
        assert control.next(POLL_PATH)[4] == 50
