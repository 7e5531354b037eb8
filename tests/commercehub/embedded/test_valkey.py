import asyncio
import os
import signal
import stat

import arq
import redis.asyncio
from arq.connections import RedisSettings

from commercehub.embedded import Found, Home, Supervisor, find_valkey, start_valkey


def test_redis_py_and_arq_reach_it_and_it_comes_back_when_killed(home: Home) -> None:
    async def both(url: str) -> None:
        client = redis.asyncio.from_url(url)  # type: ignore[no-untyped-call]
        await client.set("colour", "blue")
        pool = await arq.create_pool(RedisSettings.from_dsn(url))
        assert await pool.get("colour") == b"blue"
        await pool.aclose()
        await client.aclose()

    with Supervisor(home.logs) as hub:
        url = start_valkey(hub, home, find_valkey({}))
        assert url
        asyncio.run(both(url))
        hub._held[0].process.kill()
        hub.watch(on_restart=lambda _child: os.kill(os.getpid(), signal.SIGINT))
        asyncio.run(both(url))
        assert stat.S_IMODE((home.run / "valkey.sock").stat().st_mode) == 0o700


def test_without_one_there_is_no_address(home: Home) -> None:
    yours = Found(origin="environment", why="HUB_REDIS_URL is set", url="redis://cache.example/0")
    with Supervisor(home.logs) as hub:
        assert start_valkey(hub, home, None) is None
        assert start_valkey(hub, home, yours) == "redis://cache.example/0"
