"""The crowd of connections: who holds most makes room, and of those who has waited longest."""

from ipaddress import ip_network

import pytest

from growth.plumbing.http.crowd import Crowd

SHARE, ALL = 100, 300


class Client:
    """One connection."""

    def __init__(self, crowd: Crowd, group: str | None, since: float = 0.0, *, waits: bool = True) -> None:
        self.group = group
        self.since = since
        self.is_waiting = waits
        self.cut_for = ""
        self._crowd = crowd

    def cut(self, reason: str) -> None:
        self.cut_for = reason
        self._crowd.leave(self)


@pytest.fixture
def crowd() -> Crowd:
    return Crowd(max_connections=20, max_held_bytes=ALL, max_held_by_one_bytes=SHARE)


def test_one_address_holds_no_more_than_its_share_and_the_longest_waiting_leaves_for_the_next(crowd: Crowd) -> None:
    clients = [Client(crowd, "a") for _ in range(5)]
    assert all(crowd.hold(one, 25) for one in clients)
    assert [bool(one.cut_for) for one in clients] == [True, True, False, False, False]
    bystander = Client(crowd, "b")
    assert crowd.hold(bystander, SHARE)
    assert crowd.held_bytes == 75 + SHARE


def test_all_together_hold_no_more_than_there_is_and_the_greediest_leave_first(crowd: Crowd) -> None:
    small = [Client(crowd, f"small-{number}") for number in range(5)]
    assert all(crowd.hold(one, 10) for one in small)
    large = [Client(crowd, f"large-{number % 3}") for number in range(6)]
    for one in large:
        crowd.hold(one, 45)
    assert not any(one.cut_for for one in small)
    assert large[0].cut_for
    assert crowd.held_bytes <= ALL


def test_who_is_being_answered_is_not_cut_for_somebody_who_comes(crowd: Crowd) -> None:
    answered = Client(crowd, "a", waits=False)
    assert crowd.hold(answered, SHARE)
    newcomer = Client(crowd, "a")
    assert not crowd.hold(newcomer, 10)
    assert newcomer.cut_for
    assert not answered.cut_for


def test_what_is_held_is_what_was_told_last(crowd: Crowd) -> None:
    one = Client(crowd, "a")
    for held in (10, 40, 20):
        assert crowd.hold(one, held)
    assert crowd.held_bytes == 20
    crowd.release(one)
    crowd.release(one)
    assert crowd.held_bytes == 0


def test_a_trusted_proxy_has_no_share_of_its_own_and_the_bound_of_all() -> None:
    crowd = Crowd((ip_network("10.0.0.0/8"),), max_held_bytes=ALL, max_held_by_one_bytes=SHARE)
    group = crowd.group_of("10.1.2.3")
    assert group is None
    first, second = Client(crowd, group), Client(crowd, group)
    assert crowd.hold(first, 2 * SHARE)
    assert not first.cut_for
    assert crowd.hold(second, 2 * SHARE)
    assert first.cut_for


def test_ipv6_counts_by_what_one_subscriber_has(crowd: Crowd) -> None:
    assert crowd.group_of("2001:db8::1") == crowd.group_of("2001:db8::ffff:1") != crowd.group_of("2001:db8:0:1::1")
    assert crowd.group_of("::ffff:192.0.2.1") == crowd.group_of("192.0.2.1")


def test_with_no_place_left_the_address_with_most_connections_makes_some(crowd: Crowd) -> None:
    shoppers = [Client(crowd, f"shopper-{number}", since=0) for number in range(5)]
    crowders = [Client(crowd, "crowder", since=number) for number in range(15)]
    assert all(crowd.join(one) for one in [*shoppers, *crowders])
    newcomer = Client(crowd, "newcomer", since=99)
    assert crowd.join(newcomer)
    assert [one.cut_for for one in shoppers] == [""] * 5
    assert crowders[0].cut_for == "crowded"
    assert not crowders[-1].cut_for
    assert len(crowd) == 20


def test_with_no_place_left_and_everybody_being_answered_nobody_is_cut(crowd: Crowd) -> None:
    busy = [Client(crowd, "a", waits=False) for _ in range(20)]
    assert all(crowd.join(one) for one in busy)
    assert not crowd.join(Client(crowd, "b"))
    assert not any(one.cut_for for one in busy)


def test_without_a_share_one_address_has_all() -> None:
    crowd = Crowd(max_held_bytes=ALL, max_held_by_one_bytes=ALL)
    clients = [Client(crowd, "a") for _ in range(3)]
    assert all(crowd.hold(one, 90) for one in clients)
    assert crowd.held_bytes == 270
