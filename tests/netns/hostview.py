# SPDX-License-Identifier: Apache-2.0
"""What one host of the rig sees of the machine: its own /run, state folders, users and names, and the machine's programs.

All of it is mounts in a private namespace over the machine's root, so that it ends with the last process of the host, however
that ends; nothing is created on the machine, not even a mount point.
"""

import os
import stat

import identity

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000  # linux/sched.h
_MS_NOSUID, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4096, 16384, 1 << 18             # linux/mount.h
_MNT_DETACH = 2
FIRST_UID = 64100  # unused by Debian's and systemd's ranges


def _mount(source, target, kind=None, flags=0, data=None):
    encode = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    try:
        identity.call("mount", *encode, flags, None if data is None else data.encode())
    except OSError as error:
        raise OSError(error.errno, f"mount {source} on {target}: {os.strerror(error.errno)}") from None


def _shadow(folder, binds, texts):
    """Cover a folder by a tmpfs that shows the same entries, but for some that are bound elsewhere or have another text.

    Entry by entry instead of an overlay, because not every kernel and container offers overlayfs.
    """
    below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = os.listdir(folder)
    _mount("loopback-rig", folder, "tmpfs", _MS_NOSUID, "mode=0755")
    for name in names:
        path, mode = os.path.join(folder, name), os.lstat(name, dir_fd=below).st_mode
        if name in binds or name in texts:
            continue
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=below), path)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                os.mkdir(path)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
            _mount(f"/proc/self/fd/{below}/{name}", path, flags=_MS_BIND | _MS_REC)
    os.close(below)
    for name, source in binds.items():
        os.mkdir(os.path.join(folder, name))
        _mount(source, os.path.join(folder, name), flags=_MS_BIND)
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write(text)


def _accounts(sysusers):
    """The machine's passwd and group with the users of a folder of sysusers.d files appended."""
    passwd, group = "", ""
    with open("/etc/passwd", encoding="utf-8") as lines:
        passwd = lines.read()
    with open("/etc/group", encoding="utf-8") as lines:
        group = lines.read()
    number = FIRST_UID
    for entry in sorted(os.listdir(sysusers)):
        with open(os.path.join(sysusers, entry), encoding="utf-8") as lines:
            names = [line.split()[1] for line in lines if line.startswith("u ")]
        for name in names:
            passwd += f"{name}:x:{number}:{number}::/:/usr/sbin/nologin\n"
            group += f"{name}:x:{number}:\n"
            number += 1
    return passwd, group


def enter_new(name, netns, folder, programs, sysusers, hosts):
    """Make this process the first of a host.

    @param name      host name
    @param netns     path of the network namespace to join
    @param folder    etc, lib and cache below it become /etc/loopback, /var/lib/loopback, /var/cache/loopback
    @param programs  folder that becomes /usr/libexec/loopback
    @param sysusers  folder of sysusers.d files whose users exist on the host
    @param hosts     text of /etc/hosts
    """
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    identity.call("setns", fd, _CLONE_NEWNET)
    os.close(fd)
    identity.call("unshare", _CLONE_NEWNS | _CLONE_NEWUTS)
    identity.call("sethostname", name.encode(), len(name))
    _mount(None, "/", flags=_MS_REC | _MS_PRIVATE)
    if os.path.ismount("/run/netns"):
        # Copies of other namespaces' names would keep them alive for as long as this host lives.
        identity.call("umount2", b"/run/netns", _MNT_DETACH)
    passwd, group = _accounts(sysusers)
    _shadow("/etc", {"loopback": os.path.join(folder, "etc")},
            {"passwd": passwd, "group": group, "hosts": hosts, "hostname": name + "\n"})
    _shadow("/var/lib", {"loopback": os.path.join(folder, "lib")}, {})
    _shadow("/var/cache", {"loopback": os.path.join(folder, "cache")}, {})
    _shadow("/usr/libexec", {"loopback": programs}, {})
    _mount("loopback-rig", "/run", "tmpfs", _MS_NOSUID, "mode=0755")
    os.mkdir("/run/lock")
    # udev gives everybody the tun device (the kernel asks for CAP_NET_ADMIN); a container's /dev often does not.
    os.mknod("/run/tun", stat.S_IFCHR | 0o600, os.makedev(10, 200))
    os.chmod("/run/tun", 0o666)
    _mount("/run/tun", "/dev/net/tun", flags=_MS_BIND)
    _mount("loopback-rig", "/sys", "sysfs", _MS_NOSUID)
