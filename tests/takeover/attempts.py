# SPDX-License-Identifier: Apache-2.0
"""What a daemon that somebody else has taken over tries, and what must come of it: the list for auditors (docs/audit/take-over.md is made of it).

Run as a program, it writes that page to standard output.

An outcome is that of the attempt's last step, all steps before it having worked: the name of an error, SIGSYS (the filter killed the process), or done.
"N:" before it says that an earlier step must fail so. Daemons: netd, fetchd, wg (the wireguard-go that wg-launch becomes), controld, signd.
"""

import netlink as nl

DAEMONS = ("netd", "fetchd", "wg", "controld", "signd")
FILES_MAX = 4096


class Attempt:
    """One line of the list."""

    def __init__(self, name, tries, steps, expect, over=None, control=None, exempt=None, unit=None, unit_why=None):
        """
        @param name     of letters, digits and dashes
        @param tries    what it tries, for a person
        @param steps    lines of script.h; {words} are filled in from the target
        @param expect   {daemon: outcome}; daemons that are not named do not try it. A target's name before an outcome: see outcome()
        @param over     what it is tried on, each: None (nothing in particular), or a key of targets() in place.py
        @param control  steps that work without the sandbox, if the attempt's own do not say enough
        @param exempt   why there is no control run that works: words, or {errno names that the kernel without that part gives}
        @param unit     {daemon: outcomes} with the real units, where it differs because the unit's mount namespace carries it
        """
        self.name, self.tries, self.steps, self.expect, self.over = name, tries, steps, expect, over
        self.control, self.exempt, self.unit, self.unit_why = control, exempt, unit or {}, unit_why

    def outcome(self, daemon, target=None):
        """What must come of it, for a target; None if it is not tried."""
        wanted = self.expect.get(daemon)
        return wanted.get(target, wanted.get("*")) if isinstance(wanted, dict) else wanted


def each(outcome, **differ):
    """{daemon: outcome} of all, but for some."""
    return dict({daemon: outcome for daemon in DAEMONS}, **differ)


KILLED = each("SIGSYS")
KILLED_OR_ABSENT = each("SIGSYS", wg="ENOSYS")  # wg-launch's filter: what nobody would call by mistake kills, the rest does not exist
CLOSED = each("EACCES")

# ---- Other processes: memory, descriptors, signals, /proc

_IOV = ["data here z:8", "data mine p:here u64:8", "data theirs u64:{address} u64:8"]
PROCESSES = [
    Attempt("ptrace-seize", "attach to another daemon as a debugger", ["call ptrace 0x4206 {pid} 0 0"], KILLED, over="daemons"),
    Attempt("ptrace-attach", "the older way to do so", ["call ptrace 16 {pid} 0 0"], KILLED, over="daemons",
            control=["call ptrace 0x4206 {pid} 0 0"]),
    Attempt("vm-read", "read another daemon's memory", _IOV + ["call process_vm_readv {pid} @mine 1 @theirs 1 0"], KILLED, over="daemons"),
    Attempt("vm-write", "write another daemon's memory", _IOV + ["call process_vm_writev {pid} @mine 1 @theirs 1 0"], KILLED, over="daemons",
            control=_IOV + ["call process_vm_readv {pid} @mine 1 @theirs 1 0", "call process_vm_writev {pid} @mine 1 @theirs 1 0"]),
    Attempt("pidfd-open", "a descriptor of another daemon's process", ["call pidfd_open {pid} 0"], KILLED_OR_ABSENT, over="daemons"),
    Attempt("pidfd-getfd", "copy another daemon's descriptor", ["call pidfd_getfd 0 0 0"], KILLED, over="daemons",
            control=["call pidfd_open {pid} 0", "call pidfd_getfd $0 0 0"]),
    Attempt("pidfd-signal", "signal another daemon by descriptor", ["call pidfd_send_signal 0 28 0 0"], KILLED_OR_ABSENT, over="daemons",
            control=["call pidfd_open {pid} 0", "call pidfd_send_signal $0 28 0 0"]),
    Attempt("kcmp", "compare kernel objects with another daemon's", ["call kcmp {pid} {pid} 0 0 0"], KILLED, over="daemons",
            exempt={"ENOSYS"}),
    Attempt("kill", "signal another daemon", ["call kill {pid} 28"], KILLED_OR_ABSENT, over="daemons"),
    Attempt("tgkill", "signal another daemon by the call that abort() needs: its uid is another", ["call tgkill {pid} {pid} 28"], each("EPERM"),
            over="daemons"),
    Attempt("tkill", "signal another daemon's thread", ["call tkill {pid} 28"], KILLED_OR_ABSENT, over="daemons"),
    Attempt("sigqueue", "queue a signal for another daemon", ["data info u32:28 u32:0 u32:0xffffffff z:116", "call rt_sigqueueinfo {pid} 28 @info"],
            KILLED_OR_ABSENT, over="daemons"),
    Attempt("prlimit", "change another daemon's limits", ["data limit z:16", "call prlimit64 {pid} 4 0 @limit"],
            each("SIGSYS", wg="EPERM"), over="daemons",
            exempt="the root of a container may lack CAP_SYS_RESOURCE"),
    Attempt("setpriority", "slow another daemon down", ["call setpriority 0 {pid} 0"], KILLED_OR_ABSENT, over="daemons"),
    Attempt("affinity", "pin another daemon to a processor", ["data set u64:3", "call sched_setaffinity {pid} 8 @set"], KILLED_OR_ABSENT,
            over="daemons"),
    Attempt("scheduler", "schedule another daemon differently", ["data how u32:0", "call sched_setscheduler {pid} 0 @how"], KILLED_OR_ABSENT,
            over="daemons"),
    Attempt("migrate-pages", "move another daemon's memory", ["data nodes u64:1", "call migrate_pages {pid} 64 @nodes @nodes"], KILLED_OR_ABSENT,
            over="daemons", exempt={"ENOSYS"}),
    Attempt("process-madvise", "page another daemon out", ["call process_madvise 0 0 0 20 0"], KILLED_OR_ABSENT, over="daemons",
            control=["data theirs u64:{page} u64:4096", "call pidfd_open {pid} 0", "call process_madvise $0 @theirs 1 20 0"]),
    Attempt("perf-of-process", "measure another daemon", ["data attr u32:1 u32:128 u64:0 z:112", "call perf_event_open @attr {pid} -1 -1 8"], KILLED,
            over="daemons"),
    Attempt("exe-link", "which program another daemon runs", ["data path s:/proc/{pid}/exe z:1", "data out z:256", "call readlink @path @out 256"],
            each("SIGSYS", wg="ENOSYS", controld="EACCES", signd="EACCES"), over="daemons"),
    Attempt("root-link", "which root another daemon has", ["data path s:/proc/{pid}/root z:1", "data out z:256", "call readlinkat -100 @path @out 256"],
            each("SIGSYS", wg="EACCES"), over="daemons"),
]
for _file, _flags in (("mem", 2), ("environ", 0), ("maps", 0), ("smaps", 0), ("fd/0", 0), ("root/etc/passwd", 0), ("cwd/etc/passwd", 0),
                      ("ns/net", 0), ("ns/mnt", 0), ("ns/user", 0), ("auxv", 0), ("syscall", 0), ("stack", 0), ("pagemap", 0), ("oom_score_adj", 2),
                      ("attr/current", 0), ("cmdline", 0), ("status", 0), ("net/unix", 0)):
    PROCESSES.append(Attempt("proc-" + _file.replace("/", "-").replace("_", "-"), f"open /proc/PID/{_file} of another daemon",
                             [f"data path s:/proc/{{pid}}/{_file} z:1", f"call openat -100 @path {_flags} 0"], CLOSED, over="daemons",
                             exempt={"ENOENT"} if _file in ("attr/current", "stack") else None))

# ---- Files of others. tenant: somebody else's on the same machine, readable by the world; Landlock alone holds those back.

_PATH = "data path s:{path} z:1"
FILES = [
    Attempt("read", "open for reading", [_PATH, "call openat -100 @path 0 0"], each("EACCES", fetchd={"*": "EACCES", "/etc/passwd": "done"}),
            over="files"),
    Attempt("write", "open for writing", [_PATH, "call openat -100 @path 1 0"], CLOSED, over="files"),
    Attempt("open", "open by the older call", [_PATH, "call open @path 0 0"], each("SIGSYS", wg="EACCES"), over="files"),
    Attempt("openat2", "open by the newer call", [_PATH, "data how z:24", "call openat2 -100 @path @how 24"], KILLED_OR_ABSENT, over="files"),
    Attempt("path-then-read", "take a place in the tree (O_PATH), which Landlock does not judge, and open that for reading",
            [_PATH, "call openat -100 @path 0x200000 0", "data self s:/proc/self/fd/9 z:1", "call fcntl $0 1030 9", "call openat -100 @self 0 0"],
            CLOSED, over="open-files"),
    Attempt("truncate", "cut it to nothing by name, which Landlock of Linux 6.1 does not judge", [_PATH, "call truncate @path {size}"],
            KILLED_OR_ABSENT, over="files"),
    Attempt("chmod", "make it readable to all, which Landlock never judges", [_PATH, "call chmod @path {mode}"],
            each("SIGSYS", netd="EPERM or EACCES", wg="ENOSYS"), over="files"),
    Attempt("fchmodat", "the same by another call", [_PATH, "call fchmodat -100 @path {mode}"], each("SIGSYS", netd="EPERM or EACCES", wg="ENOSYS"),
            over="files"),
    Attempt("chown", "take it over", [_PATH, "call chown @path {uid} {gid}"], KILLED_OR_ABSENT, over="files"),
    Attempt("fchownat", "the same by another call", [_PATH, "call fchownat -100 @path {uid} {gid} 0"], KILLED_OR_ABSENT, over="files"),
    Attempt("setxattr", "put an attribute on it", [_PATH, "data name s:user.takeover z:1", "call setxattr @path @name @name 4 0"],
            KILLED_OR_ABSENT, over="open-files", exempt={"EOPNOTSUPP", "EPERM"}),
    Attempt("utimes", "change its times", [_PATH, "call utimensat -100 @path 0 0"], KILLED_OR_ABSENT, over="open-files"),
    Attempt("handle", "a handle of it, to be opened past all folders", [_PATH, "data handle u32:128 z:256", "data mount z:8",
            "call name_to_handle_at -100 @path @handle @mount 0"], KILLED_OR_ABSENT, over="open-files", exempt={"EOPNOTSUPP"}),
    Attempt("watch", "watch what is done to it", ["call inotify_init1 0", _PATH, "call inotify_add_watch $0 @path 2"],
            each("0:SIGSYS", wg="done"), over="open-files"),
    Attempt("unlink", "remove it", [_PATH, "call unlink @path"], each("EACCES", fetchd="SIGSYS"), over="files",
            control=["data path s:/run/tenant/copy z:1", "call openat -100 @path 65 384", "call unlink @path"]),
    Attempt("unlinkat", "the same by another call", [_PATH, "call unlinkat -100 @path 0"], CLOSED, over="files",
            control=["data path s:/run/tenant/copy z:1", "call openat -100 @path 65 384", "call unlinkat -100 @path 0"]),
    Attempt("replace", "move a file of its own over it",
            ["data own s:{own}/takeover z:1", "call openat -100 @own 65 384", _PATH, "call renameat -100 @own -100 @path"],
            dict(netd="EACCES", fetchd="EACCES", controld="SIGSYS", signd="SIGSYS"), over="neighbours",
            control=["data own s:/run/tenant/own z:1", "call openat -100 @own 65 384", "data path s:/run/tenant/copy z:1",
                     "call renameat -100 @own -100 @path"]),
    Attempt("link", "a second name for it in its own folder", [_PATH, "data own s:{own}/takeover-link z:1", "call linkat -100 @path -100 @own 0"],
            dict(netd="SIGSYS", fetchd="SIGSYS", controld="SIGSYS", signd="SIGSYS", wg="ENOSYS"), over="files",
            control=["data own s:/run/tenant/own z:1", "call openat -100 @own 65 384", "data path s:/run/tenant/copy-link z:1",
                     "call linkat -100 @own -100 @path 0"]),
    Attempt("make", "a new file in a folder of others", ["data path s:{path}/takeover z:1", "call openat -100 @path 0xc1 384"],
            each("EACCES"), over="folders"),
    Attempt("mkdir", "a new folder there", ["data path s:{path}/takeover z:1", "call mkdir @path 448"], each("SIGSYS", netd="EACCES", wg="ENOSYS"),
            over="folders"),
    Attempt("symlink", "a link there", ["data path s:{path}/takeover z:1", "call symlink @path @path"], KILLED_OR_ABSENT, over="folders"),
    Attempt("mknod", "a device there", ["data path s:{path}/takeover z:1", "call mknod @path 8576 0x103"], KILLED_OR_ABSENT, over="folders"),
    Attempt("unix-bind", "a socket there", ["data path u16:1 s:{path}/takeover z:1", "call socket 1 1 0", "call bind $0 @path {length}"],
            each("0:SIGSYS", netd="EACCES", fetchd="EACCES", wg="EACCES", controld="SIGSYS"), over="folders"),
]

# ---- Sockets of others, by name

def _own(*names):
    return {"*": "EACCES", **{name: "done" for name in names}}


_UNIT_OPEN = {daemon: ("ENOENT", "EACCES", "ECONNREFUSED") for daemon in ("netd", "fetchd", "wg", "controld")}
SOCKETS = [
    Attempt("connect", "connect to a socket by name. view is for everybody; the others have one user each",
            ["data to u16:1 s:{path} z:1", "call socket 1 {type} 0", "call connect $0 @to {length}"],
            dict(netd=_own(), fetchd=_own("documents", "view"), wg=_own("tunnel", "view"), controld=_own("sign"), signd="0:SIGSYS"), over="sockets"),
    Attempt("connect-open", "connect to a socket of another tenant whose mode lets everybody. Landlock does not judge it: the unit hides the folder",
            ["data to u16:1 s:/run/tenant/open.sock z:1", "call socket 1 1 0", "call connect $0 @to 30"],
            each("done", signd="0:SIGSYS"), unit=_UNIT_OPEN, unit_why="the unit shows no folder of others below /run"),
    Attempt("connect-abstract", "connect to an abstract socket of another tenant (Landlock: Linux 6.12)",
            ["data to u16:1 z:1 s:tenant", "call socket 1 1 0", "call connect $0 @to 9"], each("EPERM", signd="0:SIGSYS")),
    Attempt("send-open", "a datagram to a socket whose mode lets everybody", ["data to u16:1 s:/run/tenant/open.dgram z:1", "call socket 1 2 0",
            "call sendto $0 @to 4 0 @to 31"], each("done", signd="0:SIGSYS"), unit=_UNIT_OPEN, unit_why="the unit shows no folder of others below /run"),
]

# ---- Sockets of every family, netlink of every protocol

_UNKNOWN = {"EAFNOSUPPORT", "ESOCKTNOSUPPORT", "EPROTONOSUPPORT", "EPROTOTYPE", "ENODEV", "EINVAL"}
_FAMILIES = {1: "UNIX", 2: "INET", 10: "INET6", 16: "NETLINK", 17: "PACKET", 38: "ALG", 40: "VSOCK", 44: "XDP", 45: "MCTP"}
FAMILIES = []
for _number in range(0, 64):
    if _number in (1, 2, 10, 16):
        continue
    FAMILIES.append(Attempt(f"family-{_number}", f"a socket of family {_number}" + (f" (AF_{_FAMILIES[_number]})" if _number in _FAMILIES else ""),
                            [f"call socket {_number} 3 0"], KILLED_OR_ABSENT,
                            control=[f"call socket {_number} {1 if _number == 40 else 5 if _number == 38 else 3} 0"], exempt=_UNKNOWN))
for _name, _number in (("inet", 2), ("inet6", 10)):
    for _kind, _type, _protocol, _may in (("tcp", 1, 0, "done"), ("udp", 2, 0, "done"), ("raw", 3, 255, "EPERM"), ("icmp", 3, 1, "EPERM"),
                                          ("packet", 10, 3, "EPERM" if _number == 2 else "ESOCKTNOSUPPORT"), ("mptcp", 1, 262, "done")):
        FAMILIES.append(Attempt(f"{_name}-{_kind}", f"an internet socket: {_kind}", [f"call socket {_number} {_type} {_protocol}"],
                                each("SIGSYS", fetchd=_may, wg=_may), exempt=_UNKNOWN if _kind == "packet" else None))
FAMILIES += [
    Attempt("tcp-connect", "a TCP connection to the control plane. A tunnel speaks UDP: Landlock of Linux 6.7 denies it the rest",
            ["data to u16:2 be16:8443 x:c612000a z:8", "call socket 2 1 0", "call connect $0 @to 16"], each("0:SIGSYS", fetchd="done", wg="EACCES")),
    Attempt("tcp-listen", "a TCP port to be reached by", ["data at u16:2 be16:7777 z:12", "call socket 2 1 0", "call bind $0 @at 16", "call listen $0 8"],
            each("0:SIGSYS", fetchd="SIGSYS", wg="1:EACCES")),
    Attempt("udp-port", "a UDP port to be reached by: bind() is needed for the netlink socket of getaddrinfo(), and the filter cannot tell them apart",
            ["data at u16:2 be16:7777 z:12", "call socket 2 2 0", "call bind $0 @at 16"], each("0:SIGSYS", fetchd="done", wg="done")),
    Attempt("socketpair-inet", "two internet sockets at once", ["data two z:8", "call socketpair 2 1 0 @two"],
            each("SIGSYS", wg="ENOSYS", fetchd="EOPNOTSUPP"), exempt={"EOPNOTSUPP"}),
    Attempt("family-high-bits", "an internet socket, its family's number dressed up as another", ["call socket 0x100000002 1 0"],
            each("SIGSYS", wg="ENOSYS")),
    Attempt("i386-socket", "an internet socket by the gate of 32-bit programs", ["i386 359 2 1 0"], KILLED, exempt={"ENOSYS"}),
    Attempt("i386-execve", "execute by the gate of 32-bit programs", ["i386 11 0 0 0"], KILLED, exempt="its arguments would have to lie below 4 GiB"),
    Attempt("x32-socket", "an internet socket by the x32 numbering", ["x32 41 2 1 0"], KILLED, exempt={"ENOSYS"}),
]
_MAY_NETLINK = {0: ("netd", "fetchd", "wg"), 16: ("netd",)}
for _number in range(0, 40):
    _may = {daemon: "done" for daemon in _MAY_NETLINK.get(_number, ())}
    FAMILIES.append(Attempt(f"netlink-{_number}", f"netlink protocol {_number}" + {0: " (ROUTE)", 4: " (SOCK_DIAG)", 6: " (XFRM)", 9: " (AUDIT)",
                            12: " (NETFILTER)", 15: " (KOBJECT_UEVENT)", 16: " (GENERIC)", 21: " (CRYPTO)"}.get(_number, ""),
                            [f"call socket 16 3 {_number}"], dict(KILLED_OR_ABSENT, **_may), exempt=_UNKNOWN))

# ---- More rights: execution, processes, users, namespaces, mounts

_TRUE = ["data path s:/usr/bin/true z:1", "data argv p:path u64:0"]
RIGHTS = [
    Attempt("execve", "execute another program", _TRUE + ["call execve @path @argv 0"], KILLED_OR_ABSENT,
            control=["data path s:/bin/echo z:1", "data said s:takeover%20execve%201%20echo%20done%200%0atakeover%20execve%20end z:1",
                     "data argv p:path p:said u64:0", "call execve @path @argv 0"]),
    Attempt("execveat", "execute a descriptor", ["data empty z:1", "data argv p:empty u64:0", "call execveat 0 @empty @argv 0 0x1000"], KILLED,
            exempt="as execve"),
    Attempt("execute-memory", "make instructions in memory and run them. wireguard-go's loader needs such mappings", ["run"],
            each("SIGSYS", wg="done")),
    Attempt("mprotect-exec", "make memory executable", ["call mmap 0 4096 3 34 -1 0", "call mprotect $0 4096 7"], each("SIGSYS", wg="done")),
    Attempt("fork", "another process", ["fork fork"], KILLED),
    Attempt("vfork", "another process", ["fork vfork"], KILLED),
    Attempt("clone", "another process", ["fork clone 17 0 0 0 0"], KILLED_OR_ABSENT),
    Attempt("clone3", "another process; its arguments lie in memory, where no filter can look",
            ["data how z:32 u64:17 z:48", "fork clone3 @how 88"], each("SIGSYS", wg="ENOSYS", fetchd="ENOSYS")),
    Attempt("clone-user", "a user namespace for a new process", ["fork clone 0x10000011 0 0 0 0"], KILLED_OR_ABSENT),
    Attempt("clone3-user", "the same by the newer call", ["data how u64:0x10000000 z:24 u64:17 z:48", "fork clone3 @how 88"],
            each("SIGSYS", wg="ENOSYS", fetchd="ENOSYS")),
    Attempt("unshare-user", "a user namespace", ["call unshare 0x10000000"], KILLED),
    Attempt("unshare-net", "a network namespace", ["call unshare 0x40000000"], KILLED),
    Attempt("unshare-mount", "a mount namespace", ["call unshare 0x20000"], KILLED),
    Attempt("unshare-pid", "a namespace of processes", ["call unshare 0x20000000"], KILLED),
    Attempt("setns", "enter a namespace", ["call setns 0 0"], KILLED,
            control=["data path s:/proc/self/ns/net z:1", "call openat -100 @path 0 0", "call setns $0 0"]),
    Attempt("setuid", "become root", ["call setuid 0"], KILLED),
    Attempt("setresuid", "become root", ["call setresuid 0 0 0"], KILLED),
    Attempt("setreuid", "become root", ["call setreuid 0 0"], KILLED),
    Attempt("setfsuid", "become root before the file system", ["call setfsuid 0"], KILLED),
    Attempt("setgid", "join root's group", ["call setgid 0"], KILLED),
    Attempt("setregid", "join root's group", ["call setregid 0 0"], KILLED),
    Attempt("setresgid", "join root's group", ["call setresgid 0 0 0"], KILLED),
    Attempt("setfsgid", "join root's group before the file system", ["call setfsgid 0"], KILLED),
    Attempt("setgroups", "join other groups", ["data groups u32:0", "call setgroups 1 @groups"], KILLED),
    Attempt("capset", "raise capabilities", ["data header u32:0x20080522 u32:0",
            "data all u32:0xffffffff u32:0xffffffff u32:0 u32:0x1ff u32:0x1ff u32:0", "call capset @header @all"], KILLED,
            control=["data header u32:0x20080522 u32:0", "data all z:24", "call capget @header @all", "call capset @header @all"]),
    Attempt("ambient", "raise an ambient capability", ["call prctl 47 2 12 0 0"], KILLED_OR_ABSENT, exempt={"EPERM"}),
    Attempt("dumpable", "become dumpable, so that a process of the same user can read its memory", ["call prctl 4 1 0 0 0"], KILLED_OR_ABSENT),
    Attempt("keyring-join", "another session keyring", ["call keyctl 1 0 0 0 0"], KILLED),
    Attempt("add-key", "add a key", ["data type s:user z:1", "call add_key @type @type @type 4 -2"], KILLED),
    Attempt("request-key", "ask for a key", ["data type s:user z:1", "call request_key @type @type 0 0"], KILLED, exempt={"ENOKEY"}),
    Attempt("mount", "mount", ["data none s:tmpfs z:1", "data at s:/mnt z:1", "call mount @none @at @none 0 0"], KILLED),
    Attempt("umount", "unmount", ["data at s:/mnt z:1", "call umount2 @at 2"], KILLED,
            control=["data none s:tmpfs z:1", "data at s:/mnt z:1", "call mount @none @at @none 0 0", "call umount2 @at 2"]),
    Attempt("fsopen", "mount by the newer calls", ["data none s:tmpfs z:1", "call fsopen @none 0"], KILLED),
    Attempt("open-tree", "copy a mount", ["data at s:/ z:1", "call open_tree -100 @at 1"], KILLED),
    Attempt("move-mount", "move a mount", ["data at s:/mnt z:1", "call move_mount -100 @at -100 @at 0"], KILLED, exempt="needs a mount to move: as open-tree"),
    Attempt("mount-setattr", "change a mount", ["data at s:/ z:1", "data attr z:32", "call mount_setattr -100 @at 0 @attr 32"], KILLED_OR_ABSENT),
    Attempt("pivot-root", "another root", ["data at s:/mnt z:1", "call pivot_root @at @at"], KILLED,
            control=["data none s:tmpfs z:1", "data at s:/mnt z:1", "call mount @none @at @none 0 0", "call pivot_root @at @at"]),
    Attempt("chroot", "another root", ["data at s:/mnt z:1", "call chroot @at"], KILLED),
    Attempt("personality", "execute what is only readable", ["call personality 0x0400000"], KILLED),
    Attempt("landlock-more", "a Landlock ruleset of its own (it could only narrow)", ["call landlock_create_ruleset 0 0 1"], KILLED_OR_ABSENT),
    Attempt("seccomp-more", "another filter, one that answers EPERM to its own checks", ["data no u16:6 z:2 u32:0x7fff0000", "data filter u16:1 z:6 p:no",
            "call seccomp 1 0 @filter"], KILLED_OR_ABSENT),
]

# ---- The kernel: modules, BPF, io_uring, clocks, what root alone may

_NO_PARTS = {"ENOSYS", "ENODEV"}
KERNEL = [
    Attempt("init-module", "load a module", ["call init_module 0 0 0"], KILLED, exempt="a module of this very kernel is needed; the number alone decides"),
    Attempt("finit-module", "load a module from a descriptor", ["call finit_module 0 0 0"], KILLED, exempt="as init-module"),
    Attempt("delete-module", "unload a module", ["data name s:wireguard z:1", "call delete_module @name 0"], KILLED, exempt="as init-module"),
    Attempt("kexec-load", "boot another kernel", ["call kexec_load 0 0 0 0"], KILLED, exempt={"ENOSYS"}),
    Attempt("kexec-file-load", "boot another kernel", ["call kexec_file_load -1 -1 0 0 4"], KILLED, exempt={"ENOSYS", "EBADF"}),
    Attempt("reboot", "reboot (here: what Ctrl-Alt-Del does)", ["call reboot 0xfee1dead 0x28121969 0 0"], KILLED),
    Attempt("settimeofday", "set the time zone", ["data zone z:8", "call settimeofday 0 @zone"], KILLED),
    Attempt("clock-settime", "set the clock", ["data now z:16", "call clock_gettime 0 @now", "call clock_settime 0 @now"], KILLED),
    Attempt("adjtimex", "steer the clock", ["data how z:208", "call adjtimex @how"], KILLED_OR_ABSENT),
    Attempt("clock-adjtime", "steer the clock", ["data how z:208", "call clock_adjtime 0 @how"], KILLED_OR_ABSENT),
    Attempt("sethostname", "rename the host", ["data name s:h1", "call sethostname @name 2"], KILLED_OR_ABSENT),
    Attempt("setdomainname", "rename the domain", ["data name s:(none)", "call setdomainname @name 6"], KILLED_OR_ABSENT),
    Attempt("syslog", "read the kernel's log", ["data out z:4096", "call syslog 3 @out 4096"], KILLED_OR_ABSENT),
    Attempt("acct", "switch process accounting", ["call acct 0"], KILLED_OR_ABSENT, exempt=_NO_PARTS),
    Attempt("swapon", "swap to a file", ["call swapon 0 0"], KILLED, exempt="a swap file is needed; the number alone decides"),
    Attempt("iopl", "the ports of the machine", ["call iopl 3"], KILLED, exempt={"ENOSYS", "EPERM"}),
    Attempt("ioperm", "the ports of the machine", ["call ioperm 0x70 2 1"], KILLED, exempt={"ENOSYS", "EPERM"}),
    Attempt("quotactl", "quotas", ["call quotactl 0x80000100 0 0 0"], KILLED, exempt={"ENOSYS"}),
    Attempt("vhangup", "hang up a terminal", ["call vhangup"], KILLED_OR_ABSENT),
    Attempt("io-uring", "system calls that no filter sees", ["data params z:120", "call io_uring_setup 4 @params"], KILLED),
    Attempt("io-uring-enter", "the same", ["call io_uring_enter 0 0 0 0 0 0"], KILLED_OR_ABSENT, exempt="needs a ring: as io-uring"),
    Attempt("aio", "the older ring", ["data context z:8", "call io_setup 4 @context"], KILLED_OR_ABSENT),
    Attempt("userfaultfd", "hold the kernel at a page fault", ["call userfaultfd 0"], KILLED),
    Attempt("perf-event", "measure the machine", ["data attr u32:1 u32:128 u64:0 z:112", "call perf_event_open @attr -1 0 -1 8"], KILLED),
    Attempt("fanotify", "be asked before files are opened", ["call fanotify_init 4 0"], KILLED_OR_ABSENT),
    Attempt("shmget", "memory shared by number", ["call shmget 0 4096 0x380"], KILLED_OR_ABSENT),
    Attempt("msgget", "a queue of messages by number", ["call msgget 0 0x380"], KILLED_OR_ABSENT),
    Attempt("mq-open", "a queue of messages by name", ["data name s:takeover z:1", "call mq_open @name 0x42 384 0"], KILLED_OR_ABSENT),
    Attempt("modify-ldt", "old kinds of segments", ["data none z:16", "call modify_ldt 0 @none 16"], KILLED_OR_ABSENT, exempt={"ENOSYS"}),
    Attempt("memfd-secret", "memory that root cannot see", ["call memfd_secret 0"], KILLED_OR_ABSENT, exempt={"ENOSYS"}),
    Attempt("splice", "move pages between descriptors", ["call splice 0 0 1 0 1 0"], KILLED_OR_ABSENT, exempt="as vmsplice"),
    Attempt("vmsplice", "lend pages to a pipe", ["data fds z:8", "data vector p:fds u64:8", "call vmsplice 1 @vector 1 0"], KILLED_OR_ABSENT,
            control=["data fds z:8", "data vector p:fds u64:8", "call pipe2 @fds 0", "call vmsplice 4 @vector 1 0"]),
    Attempt("ioctl-tty", "type into a terminal", ["data byte s:x", "call ioctl 0 0x5412 @byte"], KILLED_OR_ABSENT, exempt={"ENOTTY"}),
    Attempt("ioctl-interface", "set an interface's flags by the older call", ["data request s:tenant0 z:9 u16:0 z:22", "call ioctl 0 0x8914 @request"],
            KILLED_OR_ABSENT, control=["data request s:tenant0 z:9 u16:0 z:22", "call socket 2 2 0", "call ioctl $0 0x8914 @request"]),
    Attempt("ioctl-mtu", "set an interface's MTU by the older call. To wireguard-go it is pretended that it worked (another test sees that it did not)",
            ["data request s:tenant0 z:9 u32:1300 z:20", "call ioctl 0 0x8922 @request"], each("SIGSYS", wg="done"),
            control=["data request s:tenant0 z:9 u32:1300 z:20", "call socket 2 2 0", "call ioctl $0 0x8922 @request"]),
    Attempt("bpf-cgroup", "a program on the root cgroup through an O_PATH descriptor: it would see every connection of the host. The descriptor is to be had",
            ["data root s:/sys/fs/cgroup z:1", "call openat -100 @root 0x200000 0", *nl.CONNECT4_PROGRAM, "call bpf 5 @load 72",
             "data attach r:1 r:0 u32:10 u32:0 z:16", "call bpf 28 @attach 32"], each("1:SIGSYS"),
            control=["data root s:/sys/fs/cgroup/takeover z:1", "call mkdir @root 448", "call openat -100 @root 0x200000 0", *nl.CONNECT4_PROGRAM,
                     "call bpf 5 @load 72", "data attach r:2 r:1 u32:10 u32:0 z:16", "call bpf 28 @attach 32"]),
]
for _number in range(0, 64):
    KERNEL.append(Attempt(f"bpf-{_number}", f"bpf() command {_number}" + {0: ": make a map", 5: ": load a program", 8: ": attach a program",
                          10: ": run a program", 18: ": load types", 28: ": make a link"}.get(_number, ""),
                          ["data attr z:128", f"call bpf {_number} @attr 128"], KILLED,
                          control=["data attr u32:2 u32:4 u32:4 u32:1 z:112", "call bpf 0 @attr 128"] if _number == 0 else
                          nl.CONNECT4_PROGRAM + ["call bpf 5 @load 72"] if _number == 5 else None,
                          exempt="the number of the system call alone decides: bpf-0, bpf-5 and bpf-cgroup have control runs"))

# ---- The page

GROUPS = {"processes": PROCESSES, "files": FILES, "sockets": SOCKETS, "families": FAMILIES, "rights": RIGHTS, "kernel": KERNEL}
_TITLES = {"processes": "Other processes", "files": "Files of others", "sockets": "Sockets of others", "families": "Sockets of every family",
           "rights": "More rights", "kernel": "The kernel"}
_OVER = {"daemons": "each other daemon", "files": "each other daemon's files, /etc/shadow and the like, another tenant's", "sockets": "each socket",
         "open-files": "a file that everybody may read", "neighbours": "each other daemon's files", "folders": "folders of others", None: ""}
_HEAD = """# Take-over: what is tried, and what comes of it

Generated by `make take-over-page` from tests/takeover/attempts.py; a test fails when it is not what that says. What a taken-over netd can do to packets is on
a [page of its own](netd-take-over.md).

Each daemon's program is replaced by a stand-in, started as its unit starts it, in the sandbox that the daemon itself enters, with the descriptors it is handed,
beside the other daemons of a running fleet. It tries each line once. Then the mesh, what is installed, other daemons' processes and files are compared with what
they were, and no ping may have been lost. Each line is also tried as root without the sandbox, where it must work: lines in *italics* do not (the last column
says why) and show only that the kernel was not even asked.

| outcome | means |
|---|---|
| SIGSYS | the system call killed the process: its filter does not name it |
| ENOSYS | the filter answers as if the kernel did not have it (wireguard-go, which is not ours, goes on without) |
| EACCES, EPERM | Landlock, the mode of the file or socket, or another uid |
| done | it is possible, and meant to be |
"""


def _cell(entry, daemon):
    wanted = entry.expect.get(daemon)
    if isinstance(wanted, dict):
        special = [f"{target}: {outcome}" for target, outcome in wanted.items() if target != "*"]
        return "; ".join([wanted["*"]] + special)
    if wanted is None:
        return "-"
    step, colon, outcome = wanted.rpartition(":")
    return f"{outcome} (at step {int(step) + 1})" if colon else outcome


def _note(entry):
    parts = []
    if entry.unit:
        parts.append(f"with its unit: refused, since {entry.unit_why}")
    if isinstance(entry.exempt, str):
        parts.append(entry.exempt)
    elif entry.exempt:
        parts.append(f"this kernel may say {', '.join(sorted(entry.exempt))}" if len(entry.exempt) < 4 else "where the kernel has it")
    return "; ".join(parts)


def _ranges(entries):
    """Lines of a table; neighbours whose names differ in their number alone, and nothing else, become one."""
    rows = []
    for entry in entries:
        stem, _, number = entry.name.rpartition("-")
        alike = (stem, tuple(_cell(entry, daemon) for daemon in DAEMONS), _note(entry)) if number.isdigit() and ":" not in entry.tries and \
            "(" not in entry.tries else None
        if alike and rows and rows[-1][0] == alike:
            rows[-1][2] = entry
        else:
            rows.append([alike, entry, entry])
    return [(first, last) for _, first, last in rows]


def page():
    """docs/audit/take-over.md."""
    lines = [_HEAD]
    for group, entries in GROUPS.items():
        lines += [f"## {_TITLES[group]}", "", "| attempt | tries | on | " + " | ".join(DAEMONS) + " | |", "|---|---|---|" + "---|" * (len(DAEMONS) + 1)]
        for first, last in _ranges(entries):
            name = first.name if first is last else f"{first.name} to {last.name.rpartition('-')[2]}"
            name = f"*{name}*" if isinstance(first.exempt, str) and not first.control else name
            tries = first.tries if first is last else f"{first.tries} to {last.name.rpartition('-')[2]}"
            lines.append(f"| {name} | {tries} | {_OVER[first.over]} | " + " | ".join(_cell(first, daemon) for daemon in DAEMONS) + f" | {_note(first)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
