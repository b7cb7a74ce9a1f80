# SPDX-License-Identifier: Apache-2.0
"""The last tests before a reboot without the control plane (test_reboot.py): a peer is made that will be up before netd."""

import json
import os

import machine
import rig as rigs
from machine import run

# h2 as it was, but without an agent: a plain WireGuard interface in a namespace, in the place of a machine that was not rebooted.
PEER = """#!/bin/sh
set -e
ip netns add peer
ip link add internet0 type veth peer name eth0 netns peer
ip address add {machine}/32 dev internet0
ip link set internet0 up
ip route add {peer}/32 dev internet0 src {machine}
ip -n peer link set lo up
ip -n peer address add {peer}/15 dev eth0
ip -n peer link set eth0 up
ip -n peer link add lb0 type wireguard
ip netns exec peer wg setconf lb0 {notes}/peer.conf
ip -n peer address add {overlay}/32 dev lb0
ip -n peer link set lb0 mtu 1380 up
ip -n peer route add {cidr} dev lb0
"""

UNITS = {"vm-peer": """[Unit]
Description=A host's peer, which is up before it
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={notes}/peer
""", "vm-first-answer": """[Unit]
Description=Writes down when the peer answers for the first time
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/python3 -IS {tests}/first_answer.py {overlay} {notes}/first-answer
"""}
ORDER = "[Install]\nWantedBy=multi-user.target\n"


def test_a_reboot_without_the_control_plane_is_prepared(site):
    other = site.rig.hosts["h2"]
    told = {"machine": rigs.MACHINE_ADDRESS, "peer": other.address, "overlay": site.overlay("h2"), "cidr": "100.64.0.0/16",
            "notes": machine.NOTES, "tests": machine.NOTES}
    site.write_secret(f"{machine.NOTES}/peer.conf", other.enter("wg", "showconf", "lb0").stdout)
    with open(f"{machine.NOTES}/peer", "w", encoding="utf-8") as out:
        out.write(PEER.format(**told))
    os.chmod(f"{machine.NOTES}/peer", 0o755)
    run("cp", os.path.join(os.path.dirname(os.path.realpath(__file__)), "first_answer.py"), machine.NOTES)
    for name, text in UNITS.items():
        before = "Before=loopback-netd.service\n" + ("After=vm-peer.service\n" if name != "vm-peer" else "")
        with open(f"/etc/systemd/system/{name}.service", "w", encoding="utf-8") as out:
            out.write(text.format(**told).replace("[Service]", before + "[Service]") + ORDER)
        run("systemctl", "enable", f"{name}.service")
    run("systemctl", "mask", "--now", "loopback-controld.service", "loopback-signd.service", "loopback-signd.socket")
    with open(f"{machine.NOTES}/before.json", "w", encoding="utf-8") as out:
        json.dump({"told": told, "status": machine.status(), "peers": run("wg", "show", "lb0", "allowed-ips")}, out)
