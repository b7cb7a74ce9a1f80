# SPDX-License-Identifier: Apache-2.0
"""Pings that run through a change, and an account of every one of them."""

import os
import re
import signal
import subprocess
import tempfile

_ANSWER = re.compile(r"icmp_seq=(\d+) ttl=")
_SENT = re.compile(r"(\d+) packets transmitted")


def account(text):
    """What became of the packets, from ping's own output.

    @return (sent, lost). The very last packet may have been under way when ping was ended; it alone is not counted.
    """
    answered = {int(number) for number in _ANSWER.findall(text)}
    summary = _SENT.search(text)
    sent = int(summary.group(1)) if summary else 0
    if sent and sent not in answered:
        sent -= 1
    return sent, sent - len(answered)


class SteadyPing:
    """One host pings one overlay address until it is told to stop."""

    def __init__(self, host, address, interval=0.05):
        self.source, self.address = host.name, address
        self.output = tempfile.TemporaryFile(mode="w+")
        self.process = host.popen("ping", "-n", "-i", str(interval), address, stdout=self.output, stderr=subprocess.STDOUT)

    def stop(self):
        """End it and account for it: (sent, lost)."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=10)
        self.output.seek(0)
        text = self.output.read()
        self.output.close()
        return account(text)
