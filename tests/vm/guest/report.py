# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest (-p report): one line a test, as it ends, in the form that tests/vm/run counts.

  ok PREFIX NAME (SECONDS s)
  not ok PREFIX NAME: why
  skip PREFIX NAME: reason

PREFIX is $VM_PREFIX. What a test has to say in figures it says with figure(): a line "figure PREFIX ...".
"""

import os

# Taken before pytest captures what tests print.
_OUT = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
_PREFIX = os.environ.get("VM_PREFIX", "vm")


def figure(text):
    """A measured figure, for whoever reads the run."""
    print(f"figure {_PREFIX} {text}", file=_OUT)


def _why(report):
    """The line of a failure that says most."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return " ".join(text.split())[:300]


def pytest_runtest_logreport(report):
    """Setup and teardown count only when they fail; a skip is told wherever it comes from."""
    name = report.nodeid.rpartition("/")[2].replace(".py::", ".").replace("test_", "")
    if report.failed:
        print(f"not ok {_PREFIX} {name}{'' if report.when == 'call' else ' (' + report.when + ')'}: {_why(report)}", file=_OUT)
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        print(f"skip {_PREFIX} {name}: {reason}", file=_OUT)
    elif report.when == "call":
        print(f"ok {_PREFIX} {name} ({report.duration:.1f} s)", file=_OUT)


def pytest_collectreport(report):
    """A file that cannot be read holds tests that did not run."""
    if report.failed:
        print(f"not ok {_PREFIX} {report.nodeid} (collection): {_why(report)}", file=_OUT)
