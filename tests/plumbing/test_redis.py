"""The client of Redis: whatever goes wrong on the way there is an outside that fails, and no bug of ours."""

import pytest
from redis.asyncio.cluster import RedisCluster

from growth.plumbing.redis import OUTSIDE_FAILING, BoundedCluster


@pytest.mark.parametrize(
    "raised",
    [
        AttributeError("'NoneType' object has no attribute 'writelines'"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
    ],
)
async def test_a_connection_that_the_client_closes_under_a_command_is_the_outside_failing(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    async def closed(*_args: object, **_options: object) -> None:
        raise raised

    assert not isinstance(raised, OUTSIDE_FAILING), "the control: by itself it would be taken for a bug"
    monkeypatch.setattr(RedisCluster, "execute_command", closed)
    cluster = BoundedCluster(host="127.0.0.1", port=1, socket_timeout=5.0)

    with pytest.raises(OUTSIDE_FAILING, match="closed on the way"):
        await cluster.execute_command("PING")

    await cluster.aclose()
