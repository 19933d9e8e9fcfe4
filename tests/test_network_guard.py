"""No test reaches beyond this machine, not even one whose code swallows the error."""

import asyncio
import socket

import pytest

OUTSIDE = "192.0.2.1"  # reserved for documentation


async def test_connecting_outside_is_refused_and_noted(stays_on_this_machine: list[str]) -> None:
    with pytest.raises(PermissionError):
        await asyncio.open_connection(OUTSIDE, 80)
    assert stays_on_this_machine == [f"{OUTSIDE}:80"]
    stays_on_this_machine.clear()


async def test_asking_a_name_server_is_refused_and_noted(stays_on_this_machine: list[str]) -> None:
    with pytest.raises(PermissionError):
        await asyncio.get_running_loop().getaddrinfo("example.com", 80)
    assert stays_on_this_machine == ["example.com"]
    stays_on_this_machine.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost"])
def test_connecting_to_this_machine_is_allowed(host: str) -> None:
    with socket.create_server(("", 0)) as server, socket.create_connection((host, server.getsockname()[1]), timeout=5):
        pass
