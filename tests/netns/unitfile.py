# SPDX-License-Identifier: Apache-2.0
"""Read our systemd units, so that the rig and systemd work from one definition.

Every directive is either honoured by launch, or named in LEFT_TO_SYSTEMD, or an error: a unit must not come to rely on
something that the rig would silently leave out.
"""

import os
import shlex

HONOURED = {
    "Unit": {"ConditionPathExists", "After"},
    "Service": {
        "Type", "NotifyAccess", "ExecStart", "Environment", "EnvironmentFile", "Sockets", "User", "Group",
        "AmbientCapabilities", "CapabilityBoundingSet", "NoNewPrivileges", "PrivateNetwork", "UMask", "LimitNOFILE",
        "StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode",
        "RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve",
        "Restart", "RestartSec", "WatchdogSec", "TimeoutStartSec",
    },
    "Socket": {
        "ListenSequentialPacket", "FileDescriptorName", "SocketUser", "SocketGroup", "SocketMode", "DirectoryMode",
        "Service", "Backlog", "RemoveOnStop",
    },
    "Install": set(),
}

# Sandboxes that only a booted systemd can judge (the VM tests do), ordering against units that no rig has, and prose.
LEFT_TO_SYSTEMD = {
    "Unit": {"Description", "Documentation", "Before", "Wants", "Requires", "PartOf", "StartLimitIntervalSec"},
    "Service": {
        "AppArmorProfile", "CPUSchedulingPolicy", "DeviceAllow", "DevicePolicy", "ExecPaths", "IPAddressAllow", "IPAddressDeny",
        "InaccessiblePaths", "KeyringMode", "LimitCORE", "LimitMEMLOCK", "LockPersonality", "LogsDirectory",
        "MemoryDenyWriteExecute", "MemoryHigh", "MemoryMax", "NoExecPaths", "OOMPolicy", "OOMScoreAdjust",
        "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectClock",
        "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
        "ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "BindPaths",
        "BindReadOnlyPaths", "RemoveIPC", "RestrictAddressFamilies", "RestrictFileSystems", "RestrictNamespaces",
        "RestrictRealtime", "RestrictSUIDSGID", "RootDirectory", "SecureBits", "Slice", "SyslogIdentifier", "SystemCallArchitectures",
        "SystemCallErrorNumber", "SystemCallFilter", "TasksMax", "TemporaryFileSystem", "TimeoutStopSec",
    },
    "Socket": {"MaxConnections", "PassCredentials", "ReceiveBuffer", "SendBuffer"},
    "Install": {"WantedBy", "Also", "RequiredBy", "Alias"},
}

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60, "h": 3600, "": 1}


class UnitError(Exception):
    """A unit says something that the rig cannot stand in for."""


class Unit:
    """One unit file: the directives of each section, as lists of values in file order."""

    def __init__(self, name, path, sections):
        self.name, self.path, self.sections = name, path, sections

    def all(self, section, key):
        """Every value of a directive. An empty assignment forgets those before it, as systemd does."""
        values = []
        for value in self.sections.get(section, {}).get(key, []):
            values = values + [value] if value else []
        return values

    def one(self, section, key, default=None):
        """The last value of a directive, or default."""
        values = self.all(section, key)
        return values[-1] if values else default

    def words(self, section, key):
        """All values of a directive, split at blanks."""
        return [word for value in self.all(section, key) for word in value.split()]

    def flag(self, section, key):
        """A boolean, false if unset."""
        value = self.one(section, key, "no")
        if value not in ("yes", "no", "true", "false", "1", "0"):
            raise UnitError(f"{self.path}: {key}={value}: expected yes or no")
        return value in ("yes", "true", "1")

    def octal(self, section, key, default):
        """A file mode."""
        return int(self.one(section, key, default), 8)

    def seconds(self, section, key, default):
        """A time span of one number and one unit, in seconds."""
        value = self.one(section, key)
        if value is None:
            return default
        digits = value.rstrip("abcdefghijklmnopqrstuvwxyz")
        suffix = value[len(digits):]
        if suffix not in _SECONDS or not digits.strip():
            raise UnitError(f"{self.path}: {key}={value}: expected a number and one of {', '.join(filter(None, _SECONDS))}")
        return float(digits) * _SECONDS[suffix]

    def assigned(self, section, key):
        """Whether a directive occurs at all, even with an empty value."""
        return key in self.sections.get(section, {})


def parse(path):
    """Read one unit file. Raises UnitError, with file and line, for what the rig does not know."""
    sections, section = {}, None
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line or line[0] in "#;":
                continue
            if line[0] == "[" and line[-1] == "]":
                section = line[1:-1]
                if section not in HONOURED:
                    raise UnitError(f"{path}:{number}: section [{section}]: expected one of {', '.join(HONOURED)}")
                sections.setdefault(section, {})
                continue
            key, equals, value = line.partition("=")
            key, value = key.strip(), value.strip()
            if section is None or not equals:
                raise UnitError(f"{path}:{number}: expected Name=value inside a section, found {line!r}")
            if key not in HONOURED[section] and key not in LEFT_TO_SYSTEMD[section]:
                raise UnitError(f"{path}:{number}: the rig knows no {key}= in [{section}]: honour it in launch or name it "
                                "in LEFT_TO_SYSTEMD (unitfile.py)")
            if value.endswith("\\"):
                raise UnitError(f"{path}:{number}: continued lines are not read by the rig; write {key}= twice")
            sections[section].setdefault(key, []).append(value)
    return Unit(os.path.splitext(os.path.basename(path))[0], path, sections)


def load(folder, name):
    """Read a service and the sockets it is given.

    @return (service, [socket]); sockets in the order of Sockets=
    """
    service = parse(os.path.join(folder, name + ".service"))
    sockets = []
    for word in service.words("Service", "Sockets"):
        unit = parse(os.path.join(folder, word))
        if unit.one("Socket", "Service") != name + ".service":
            raise UnitError(f"{unit.path}: Service={unit.one('Socket', 'Service')}, but {service.path} lists it in Sockets=")
        sockets.append(unit)
    given = {unit.path for unit in sockets}
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if entry.endswith(".socket") and path not in given and parse(path).one("Socket", "Service") == name + ".service":
            raise UnitError(f"{path}: is for {name}.service, whose Sockets= does not list it: systemd would not pass it at boot")
    return service, sockets


def environment(unit):
    """What Environment= and EnvironmentFile= set, in systemd's order (files win)."""
    result = {}
    for value in unit.all("Service", "Environment"):
        result.update(word.split("=", 1) for word in shlex.split(value))
    for value in unit.all("Service", "EnvironmentFile"):
        try:
            with open(value.lstrip("-"), encoding="utf-8") as lines:
                for line in lines:
                    key, equals, text = line.strip().partition("=")
                    if equals and key[0] not in "#;":
                        result[key.strip()] = " ".join(shlex.split(text))
        except FileNotFoundError:
            if not value.startswith("-"):
                raise UnitError(f"{unit.path}: EnvironmentFile={value} is missing") from None
    return result


def command_line(unit, variables):
    """ExecStart= as an argument vector; $NAME alone is split into words, ${NAME} is one word or part of one."""
    lines = unit.all("Service", "ExecStart")
    if len(lines) != 1:
        raise UnitError(f"{unit.path}: expected one ExecStart=, found {len(lines)}")
    arguments = []
    for word in shlex.split(lines[0]):
        if word.startswith("$") and not word.startswith("${"):
            arguments += variables.get(word[1:], "").split()
            continue
        while "${" in word:
            before, _, rest = word.partition("${")
            name, _, after = rest.partition("}")
            word = before + variables.get(name, "") + after
        arguments.append(word)
    return arguments
