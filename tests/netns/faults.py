# SPDX-License-Identifier: Apache-2.0
"""Faults of a host that several tests make: a full disk, a wrong clock."""

import contextlib
import os
import shutil
import subprocess


@contextlib.contextmanager
def small_disk(host):
    """A host's netd keeps its state on a file system of 4 MiB. Gives a function that fills it, or empties it again."""
    state, apart = "/var/lib/loopback/netd", "/var/lib/loopback/netd.apart"
    host.launch("stop", "loopback-netd")
    host.enter("cp", "-a", state, apart)
    host.enter("mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "loopback-test", state)
    host.enter("cp", "-a", apart + "/.", state)
    host.launch("start", "loopback-netd")
    host.launch("wait")

    def fill(full):
        if full:
            host.enter("dd", "if=/dev/zero", f"of={state}/filler", "bs=4k", check=False)
            assert " 100% " in host.enter("df", state).stdout
        else:
            host.enter("rm", "-f", state + "/filler")

    yield fill
    fill(False)
    host.launch("stop", "loopback-netd")
    host.enter("rm", "-rf", apart)
    host.enter("cp", "-a", state, apart)
    host.enter("umount", state)
    shutil.rmtree(os.path.join(host.folder, "lib/netd"))
    os.rename(os.path.join(host.folder, "lib/netd.apart"), os.path.join(host.folder, "lib/netd"))
    host.launch("start", "loopback-netd")


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	if (!next)
		next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int r = next(id, now);
	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
		now->tv_sec += OFFSET;
	return r;
}
time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	out->tv_sec = now.tv_sec;
	out->tv_usec = now.tv_nsec / 1000;
	return 0;
}
"""


class WrongClock:
    """Services of one host whose C library tells another time of day. (A time namespace cannot do it: it moves only monotonic clocks.)"""

    def __init__(self, host, services, seconds):
        self.host, self.services, self.saved = host, services, {}
        source, library = (os.path.join(host.folder, "etc", name) for name in ("clock.c", "clock.so"))
        with open(source, "w", encoding="utf-8") as file:
            file.write(CLOCK)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", f"-DOFFSET=({seconds})", "-o", library, source], check=True)
        os.chmod(library, 0o755)
        for service in services:
            path = os.path.join(host.folder, "etc", service.removeprefix("loopback-") + ".env")
            self.saved[path] = ""
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    self.saved[path] = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.saved[path] + "LD_PRELOAD=/etc/loopback/clock.so\n")
        self.restart()

    def restart(self):
        """The services take the new environment."""
        for service in self.services:
            self.host.launch("restart", service)
            with open(f"/proc/{self.host.pid(service)}/maps", encoding="utf-8") as maps:
                assert ("clock.so" in maps.read()) == bool(self.saved), service

    def mend(self):
        """The right time again."""
        for path, text in self.saved.items():
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self.saved = {}
        self.restart()
