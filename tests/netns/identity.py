# SPDX-License-Identifier: Apache-2.0
"""What a service's process is before its first instruction: descriptors, uid, capabilities, limits, as systemd sets them."""

import ctypes
import fcntl
import grp
import os
import pwd
import resource
import signal

_libc = ctypes.CDLL(None, use_errno=True)

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 1, 8, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 2, 4
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_CLONE_NEWNET = 0x40000000          # linux/sched.h
_CLOSE_RANGE_CLOEXEC = 4            # linux/close_range.h

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split()


def call(function, *arguments):
    """Call into the C library; raise OSError for -1."""
    result = getattr(_libc, function)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def die_with_parent(parent):
    """SIGKILL for this process when its parent dies; at once if that has happened already."""
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def capability_numbers(words):
    """{CAP_NET_ADMIN, ...} as numbers. Raises ValueError for a name that the kernel does not have."""
    return {CAPABILITIES.index(word.removeprefix("CAP_")) for word in words}


class Identity:
    """Who a service runs as. bounding None keeps the bounding set whole, as an absent CapabilityBoundingSet= does."""

    def __init__(self, user, group, ambient, bounding):
        self.name = user or "root"
        entry = pwd.getpwnam(self.name)
        self.uid = entry.pw_uid
        self.gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
        self.ambient, self.bounding = ambient, bounding

    def assume(self):
        """Become it, in the order that systemd and DESIGN use: bounding set, groups, gid, uid, then what is kept."""
        if self.bounding is not None:
            for number in range(64):
                if number not in self.bounding and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                    call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        if self.uid == 0:
            return
        call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresuid(self.uid, self.uid, self.uid)
        mask = sum(1 << number for number in self.ambient)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        low, high = mask & 0xFFFFFFFF, mask >> 32
        call("capset", header, (ctypes.c_uint32 * 6)(low, low, low, high, high, high))
        call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        for number in self.ambient:
            call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


def _place_descriptors(log, passed):
    """0 is /dev/null, 1 and 2 are the log, 3 and up what is passed; nothing else survives the exec."""
    null = os.open("/dev/null", os.O_RDONLY)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 512) for fd in [null, log, log] + passed]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=True)
    # What launch itself was started with is none of the service's business either.
    call("close_range", len(high), ctypes.c_uint(-1), _CLOSE_RANGE_CLOEXEC)


def _become(arguments, environment, identity, log, passed, settings):
    """In the child: all of it, then exec. Returns only by exception."""
    os.setsid()
    # Python changed these; a process that systemd starts has SIGPIPE ignored and the rest as the kernel has it.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if settings["private_network"]:
        call("unshare", _CLONE_NEWNET)
    if settings["nofile"]:
        most = min(settings["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(settings["umask"])
    os.chdir("/")
    identity.assume()
    # After the change of uid, which would clear it.
    die_with_parent(settings["parent"])
    if settings["no_new_privileges"]:
        call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    pid = str(os.getpid())
    if passed:
        environment["LISTEN_PID"] = pid
    if "WATCHDOG_USEC" in environment:
        environment["WATCHDOG_PID"] = pid
    _place_descriptors(log, passed)
    os.execve(arguments[0], arguments, environment)


def spawn(arguments, environment, identity, log, passed, **settings):
    """Start a service's process and wait until it has become the program.

    @param log     descriptor for its output
    @param passed  descriptors of its sockets, in the order of LISTEN_FDNAMES
    @param settings  umask, nofile, no_new_privileges, private_network
    @return pid. Raises OSError, with the failing step in its text, if the program did not start
    """
    settings["parent"] = os.getpid()
    report, child_report = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            # Out of the way of the descriptors that are placed from 3 upwards.
            child_report = fcntl.fcntl(child_report, fcntl.F_DUPFD_CLOEXEC, 256)
            _become(arguments, environment, identity, log, passed, settings)
        except BaseException as error:  # the child must never return into the parent's loop
            os.write(child_report, str(error).encode())
        os._exit(203)
    os.close(child_report)
    with os.fdopen(report, "rb") as stream:
        failure = stream.read().decode(errors="replace")
    if failure:
        os.waitpid(pid, 0)
        raise OSError(failure)
    return pid
