"""A stand-in for vLLM's server as a process that can be killed, and that hangs or ends when a test says so.

It speaks the OpenAI protocol, has LoRA adapters and gives the same answer to the same request. In its folder it writes
`pids` (a line for each start), `arguments.json` and `answered` (a line for each chat reply, the sha256 of its request).
While `hang` is there, chat requests wait and /metrics stands still, and other requests are replied to; a start removes
it. While `dies` is there, a chat request ends the process with status 9.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from flows.bench.stub_server import chat_response, stub_answer


class ServedStub:
    """The server of one process."""

    def __init__(self, folder: Path, model: str, port: int, latency_s: float) -> None:
        self._folder, self._model, self._port, self._latency_s = folder, model, port, latency_s
        self._adapters: dict[str, str] = {}
        self._tokens = 0

    async def run(self) -> None:
        """Serve until the process ends."""
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        print(f"serving {self._model}", flush=True)
        await asyncio.Event().wait()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body: dict[str, Any] = json.loads(raw)
        if body["model"] not in {self._model, *self._adapters}:
            return web.json_response({"error": {"message": f"no model {body['model']}"}}, status=404)
        if (self._folder / "dies").exists():
            print("the engine is out of memory", flush=True)
            os._exit(9)
        if (self._folder / "hang").exists():
            await asyncio.Event().wait()
        await asyncio.sleep(self._latency_s)
        self._tokens += 1
        content = body["messages"][-1]["content"]
        if content != ".":  # the call by which a server is watched
            with (self._folder / "answered").open("a") as file:
                file.write(f"{hashlib.sha256(raw).hexdigest()} {self._port}\n")
        return chat_response(raw, body, content, stub_answer(content, body.get("seed")))

    async def _load(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self._adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success")

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": name} for name in (self._model, *self._adapters)]})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {self._tokens}.0\n')


def main() -> None:
    """Serve as the arguments say, most of which are vLLM's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--latency", type=float, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    arguments, _ = parser.parse_known_args()
    folder = arguments.folder
    (folder / "hang").unlink(missing_ok=True)
    (folder / f"arguments-{arguments.port}.json").write_text(
        json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ)})
    )
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    stub = ServedStub(folder, arguments.served_model_name, arguments.port, arguments.latency)
    asyncio.run(stub.run())


if __name__ == "__main__":
    main()
