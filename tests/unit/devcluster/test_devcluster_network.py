"""The choice of ports and subnets."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster.errors import DevClusterError
from devcluster.network import LINK_COUNT, Link, choose_link, choose_ports, find_free_port, is_port_free

numbers = st.sets(st.integers(0, LINK_COUNT - 1), max_size=LINK_COUNT - 1)


def test_the_first_link_is_taken_on_a_fresh_host() -> None:
    assert choose_link([], ["default", "192.0.2.0/24", "127.0.0.1/8"]) == Link(0)


def test_a_link_has_an_address_for_either_side_and_a_range_for_pods() -> None:
    link = Link(7)

    assert (link.host_address, link.node_address, link.pod_range) == ("198.18.7.1", "198.18.7.2", "198.19.7.0/24")


@pytest.mark.parametrize(
    ("in_use", "expected"),
    [
        pytest.param(["198.18.0.1/24"], 1, id="an address on the cable"),
        pytest.param(["198.19.0.0/24"], 1, id="a route to the pods"),
        pytest.param(["198.18.1.77"], 0, id="another link's host route"),
        pytest.param(["198.18.0.0/22"], 4, id="a network that spans four cables"),
        pytest.param(["0.0.0.0/0", "default", "not-an-address", "fe80::/64"], 0, id="default routes and oddities"),
    ],
)
def test_networks_of_the_host_are_avoided(in_use: list[str], expected: int) -> None:
    assert choose_link([], in_use).number == expected


@given(recorded=numbers, in_use=numbers)
def test_a_chosen_link_is_neither_recorded_nor_in_use(recorded: set[int], in_use: set[int]) -> None:
    if len(recorded | in_use) == LINK_COUNT:
        return

    link = choose_link(recorded, [Link(number).pod_range for number in in_use])

    assert link.number not in recorded | in_use


def test_a_full_range_of_links_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DevClusterError, match="down --stale"):
        choose_link(range(LINK_COUNT), [])


@given(seed=st.integers(), recorded=st.sets(st.integers(20000, 29999), max_size=50))
def test_chosen_ports_differ_and_are_free_and_unrecorded(seed: int, recorded: set[int]) -> None:
    ports = choose_ports(recorded, lambda port: port % 3 != 0, seed)

    assert len(ports.taken()) == 4
    assert all(port not in recorded and port % 3 != 0 and 20000 <= port < 30000 for port in ports.taken())


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(DevClusterError, match="no four free ports"):
        choose_ports([], lambda _: False)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_port_free(server.getsockname()[1])


def test_a_port_that_is_found_is_free() -> None:
    assert is_port_free(find_free_port())
