# SPDX-License-Identifier: Apache-2.0
"""The account that the demo believes."""

from steady_ping import account

LINE = "64 bytes from 100.64.0.2: icmp_seq={} ttl=64 time=0.4 ms\n"
SUMMARY = "\n--- 100.64.0.2 ping statistics ---\n{} packets transmitted, {} received, 0% packet loss, time 1ms\n"


def output(answered, sent):
    """What ping prints."""
    return "".join(LINE.format(number) for number in answered) + SUMMARY.format(sent, len(answered))


def test_all_answered():
    assert account(output([1, 2, 3], 3)) == (3, 0)


def test_the_last_one_may_be_under_way():
    assert account(output([1, 2], 3)) == (2, 0)


def test_a_gap_is_a_loss_and_so_is_silence_at_the_end():
    assert account(output([1, 3, 4], 4)) == (4, 1)
    assert account(output([1, 2], 6)) == (5, 3)


def test_a_duplicate_does_not_make_up_for_a_loss():
    assert account(output([1, 1, 3], 3)) == (3, 1)


def test_nothing_sent_is_nothing_proved():
    assert account("ping: connect: Network is unreachable\n") == (0, 0)
