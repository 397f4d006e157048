"""Runs the application on an address."""

from __future__ import annotations

from aiohttp import web


class WebServer:
    """One listening socket. `start` gives the address; a port of 0 takes any free one."""

    def __init__(self, application: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._host = host
        self._port = port
        self.url = ""
        """Where it listens, once started."""

    async def start(self) -> str:
        """Begins to listen. Raises `OSError`, which names the address, when it is taken or not ours."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as exc:
            await self._runner.cleanup()
            raise OSError(
                exc.errno,
                f"cannot listen on {self._host}:{self._port} (web.host, web.port): {exc.strerror}; "
                "web.port = 0 or --port 0 takes any free port",
            ) from exc
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self.url

    async def stop(self) -> None:
        """Stops listening and ends connections."""
        await self._runner.cleanup()
