"""Docs."""
from litestar import Router
from litestar.openapi.plugins import JsonRenderPlugin
PATH = "/"
def plugins(): return [JsonRenderPlugin()]
router = Router(path="/docs", route_handlers=[])
