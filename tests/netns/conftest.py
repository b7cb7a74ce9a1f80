# SPDX-License-Identifier: Apache-2.0
"""What tests of several hosts share. Run as root: /usr/bin/python3 -m pytest tests/netns

  def test_something(fleet):
      fleet.host("h1").launch("stop", "loopback-fetchd")      launch of that host: start, stop, restart, status, wait
      fleet.host("h1").pid("netd")                            to signal it
      fleet.host("h1").enter("wg", "show", "lb0").stdout      as root on that host
      fleet.ctl("host", "list")                               loopbackctl --json
      fleet.wait_converged()

FLEET_HOSTS sets how many hosts the fleet has at first (default 3). Two runs at once need two values of FLEET_PREFIX (default
lbt), of which the names of the namespaces and of the folder in build/ are made.
"""

import os
import shutil
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import fleet as fleets  # noqa: E402  (needs the path above)
import rig as rigs  # noqa: E402

PREFIX = os.environ.get("FLEET_PREFIX", "lbt")
FOLDER = os.path.join(rigs.ROOT, "build/netns-" + PREFIX)
_FLEET = pytest.StashKey()
_FAILED = pytest.StashKey()


def pytest_configure(config):
    """Say at once what would otherwise fail in every test."""
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests in tests/netns make network namespaces: run them as root")


@pytest.fixture(scope="session", name="deployment")
def deployment_fixture(request):
    """One control plane and its hosts for all tests of a run. Use `fleet`, which also sees to it that they are well."""
    made = None
    try:
        made = fleets.Fleet(FOLDER, PREFIX)
        made.lost = ""
        made.make_certificates()
        made.start_control_plane()
        made.create_network()
        for number in range(1, int(os.environ.get("FLEET_HOSTS", "3")) + 1):
            made.add(f"h{number}")
        request.config.stash[_FLEET] = made
        yield made
    finally:
        if made:
            for note in made.take_down():
                print(note, file=sys.stderr)
            if request.config.stash.get(_FAILED, False):
                shutil.rmtree(made.operator, ignore_errors=True)
            else:
                shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(name="fleet")
def fleet_fixture(request, deployment):
    """The fleet with every service up and every host at the newest generation, whatever the test before did to it."""
    for host in deployment.rig.hosts.values():
        for service, unit in host.units().items():
            if unit["state"] == "inactive":
                host.launch("start", service)
        host.launch("wait")
    if deployment.lost:
        pytest.fail(f"the fleet has not converged since before {deployment.lost}, where it was waited for", pytrace=False)
    try:
        deployment.wait_converged()
    except rigs.RigError:
        deployment.lost = request.node.name  # the next hundred tests need not wait for it, too
        raise
    return deployment


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test of the fleet shows the end of every log of it."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.config.stash[_FAILED] = True
        made = item.config.stash.get(_FLEET, None)
        if made and made.rig.hosts and "deployment" in item.fixturenames:
            report.sections.append(("fleet", "\n".join(host.log_tails() for host in made.rig.hosts.values())))


def pytest_terminal_summary(terminalreporter, config):
    """Where the logs are, if anybody will want them."""
    if config.stash.get(_FAILED, False) and os.path.isdir(FOLDER):
        terminalreporter.write_line(f"logs of the fleet: {os.path.relpath(FOLDER)}/HOST/log")
