"""The instance's HTTP surface: which path does what, who may call, what happens when it drains or starts slowly."""

import hashlib
import hmac
import logging
import time

import orjson
import prometheus_client
from pydantic import ValidationError
from xxhash import xxh3_64_hexdigest

from pointsman.simengine import tokenizer
from pointsman.simengine.asgi import ClientLeftError, Handler, Receive, Request, Routes, Scope, Send
from pointsman.simengine.bodies import DetokenizeBody, EmbeddingBody, TokenizeBody, read_body
from pointsman.simengine.derender import Derender
from pointsman.simengine.embeddings import embeddings_answer
from pointsman.simengine.errors import ApiError, PlainError, bad_request, shutting_down, unavailable
from pointsman.simengine.faults import Faults, FaultSettings, die
from pointsman.simengine.generation import Generation
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.options import Flavour, KvRole, ServerOptions
from pointsman.simengine.registry import Registry
from pointsman.simengine.scale_out import ScaleOut
from pointsman.simengine.sglang_metrics import SglangMetrics
from pointsman.simengine.sglang_wire import sglang_error
from pointsman.simengine.template import render
from pointsman.simengine.transfer.exchange import Exchange
from pointsman.simengine.vllm_metrics import VllmMetrics

VLLM_VERSION = "0.32.0"
"""The version whose behaviour is followed, and that `/version` names."""

SGLANG_VERSION = "0.5.23"

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
_GENERATING = ("/v1/completions", "/v1/chat/completions")
"""Refuse by themselves while the instance drains: it depends on the body how."""
_ALWAYS = ("/health", "/health_generate", "/ping", "/metrics", "/admin/", "/version", "/load", "/is_sleeping")

log = logging.getLogger(__name__)


class EngineApp:
    """ASGI application of one instance. Made on the running event loop."""

    def __init__(self, options: ServerOptions, instance: SimulatedInstance, exchange: Exchange) -> None:
        self.options = options
        self.instance = instance
        self.exchange = exchange
        self.faults = Faults()
        self.registry = Registry(
            options.model,
            options.served_names,
            options.lora_names,
            options.longest_context(),
            options.flavour.value,
        )
        fingerprint = f"vllm-{VLLM_VERSION}-{xxh3_64_hexdigest(options.model.encode())[:8]}"
        self.generation = Generation(instance, exchange, self.registry, self.faults, fingerprint)
        self._keys = [hashlib.sha256(key.encode()).digest() for key in options.api_keys]
        self._ready_at = time.monotonic() + options.start_up_s
        self._metrics = prometheus_client.CollectorRegistry()
        self._sglang = options.flavour is Flavour.SGLANG
        self._metrics.register((SglangMetrics if self._sglang else VllmMetrics)(instance, exchange))
        self._load = 0
        self._routes = self._make_routes()

    def _make_routes(self) -> Routes:
        routes = Routes()
        routes.add("POST", "/v1/chat/completions", self._counted(self.generation.chat))
        routes.add("POST", "/v1/completions", self._counted(self.generation.completion))
        routes.add("POST", "/v1/embeddings", self._counted(self._embeddings))
        routes.add("GET", "/v1/models", self._models)
        if not self._sglang:
            scale_out = ScaleOut(self.generation)
            routes.add("POST", "/v1/chat/completions/render", scale_out.render_chat)
            routes.add("POST", "/v1/completions/render", scale_out.render_completion)
            derender = Derender(self.generation)
            routes.add("POST", "/v1/chat/completions/derender", derender.chat)
            routes.add("POST", "/v1/completions/derender", derender.completion)
            routes.add("POST", "/inference/v1/generate", self._counted(scale_out.generate))
            routes.add("POST", "/inference/v1/abort_requests", scale_out.abort)
        routes.add("POST", "/tokenize", self._tokenize)
        routes.add("POST", "/detokenize", self._detokenize)
        routes.add("GET", "/health", self._health)
        routes.add("GET POST", "/ping", self._health)
        routes.add("GET", "/version", self._version)
        if self._sglang:
            routes.add("GET", "/health_generate", self._health)
            routes.add("GET", "/get_model_info", self._model_info)
            routes.add("GET", "/model_info", self._model_info)
            routes.add("GET", "/get_server_info", self._server_info)
            routes.add("GET", "/server_info", self._server_info)
        else:
            routes.add("GET", "/load", self._server_load)
        routes.add("GET", "/metrics", self._scrape)
        routes.add("POST", "/sleep", self._sleep)
        routes.add("POST", "/wake_up", self._wake_up)
        routes.add("GET", "/is_sleeping", self._is_sleeping)
        routes.add("GET", "/admin/status", self._status)
        routes.add("GET", "/admin/faults", self._show_faults)
        routes.add("POST", "/admin/faults", self._set_faults)
        routes.add("DELETE", "/admin/faults", self._clear_faults)
        return routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        try:
            await self._dispatch(request)
        except ClientLeftError:
            return
        except ApiError as error:
            if not request.started:
                await request.answer_json(sglang_error(error) if self._sglang else error.body(), error.status)

    async def _dispatch(self, request: Request) -> None:
        if not self._authorized(request):
            await request.answer_json({"error": "Unauthorized"}, 401)
            return
        if not request.path.startswith(_ALWAYS):
            if self.instance.draining and request.path not in _GENERATING:
                raise shutting_down()
            if time.monotonic() < self._ready_at:
                raise unavailable("The instance is starting.")
        handler = self._routes.find(request.method, request.path)
        if isinstance(handler, int):
            if handler == 404:
                raise PlainError(404, "Not Found")
            allowed = ((b"allow", self._routes.allowed(request.path)),)
            await request.answer(405, b'{"detail":"Method Not Allowed"}', b"application/json", allowed)
            return
        await handler(request)

    def _authorized(self, request: Request) -> bool:
        if not self._keys or not request.path.startswith(_GUARDED):
            return True
        scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = hashlib.sha256(key).digest()
        matched = False
        for known in self._keys:  # all of them, so that time tells nothing
            matched |= hmac.compare_digest(digest, known)
        return matched

    def _counted(self, handler: Handler) -> Handler:
        async def counted(request: Request) -> None:
            self._load += 1
            try:
                await handler(request)
            finally:
                self._load -= 1

        return counted

    async def _models(self, request: Request) -> None:
        await request.answer_json(self.registry.cards(int(self.instance.wall_s())))

    async def _embeddings(self, request: Request) -> None:
        body = read_body(EmbeddingBody, await request.body(), _content_type(request))
        model, _ = self.registry.resolve(body.model)
        await request.answer_json(embeddings_answer(body, model, self.options, int(self.instance.wall_s())))

    async def _tokenize(self, request: Request) -> None:
        body = read_body(TokenizeBody, await request.body(), _content_type(request))
        self.registry.resolve(body.model)
        if body.messages is not None:
            tokens = render(
                body.messages,
                body.tools,
                add_generation_prompt=body.add_generation_prompt,
                continue_final_message=body.continue_final_message,
            ).tolist()
        else:
            tokens = tokenizer.encode(body.prompt or "").tolist()
        await request.answer_json(
            {
                "count": len(tokens),
                "max_model_len": self.options.longest_context(),
                "tokens": tokens,
                "token_strs": [tokenizer.token_text(token) for token in tokens]
                if body.return_token_strs
                else None,
            }
        )

    async def _detokenize(self, request: Request) -> None:
        body = read_body(DetokenizeBody, await request.body(), _content_type(request))
        self.registry.resolve(body.model)
        beyond = [token for token in body.tokens if token >= tokenizer.VOCAB_SIZE]
        if beyond:
            raise bad_request(f"Token id {max(beyond)} is out of vocabulary")
        await request.answer_json({"prompt": tokenizer.decode(body.tokens)})

    async def _health(self, request: Request) -> None:
        starting = time.monotonic() < self._ready_at
        await request.answer(503 if starting or self.instance.draining else 200, b"")

    async def _version(self, request: Request) -> None:
        await request.answer_json({"version": VLLM_VERSION})

    async def _server_load(self, request: Request) -> None:
        await request.answer_json({"server_load": self._load})

    async def _model_info(self, request: Request) -> None:
        await request.answer_json(
            {
                "model_path": self.options.model,
                "served_model_name": self.options.served_names[0],
                "tokenizer_path": self.options.model,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
                "disaggregation_mode": self._disaggregation_mode(),
                "has_image_understanding": False,
                "has_audio_understanding": False,
            }
        )

    async def _server_info(self, request: Request) -> None:
        stats = self.instance.stats()
        await request.answer_json(
            {
                "model_path": self.options.model,
                "served_model_name": self.options.served_names[0],
                "version": SGLANG_VERSION,
                "context_length": self.options.longest_context(),
                "chunked_prefill_size": self.options.chunk_tokens,
                "page_size": self.options.profile.block_size,
                "max_total_num_tokens": stats.total_blocks * self.options.profile.block_size,
                "disaggregation_mode": self._disaggregation_mode(),
                "disaggregation_bootstrap_port": self.exchange.port,
            }
        )

    def _disaggregation_mode(self) -> str:
        modes = {KvRole.PRODUCER: "prefill", KvRole.CONSUMER: "decode"}
        return modes.get(self.options.transfer.role, "null")

    async def _scrape(self, request: Request) -> None:
        text = prometheus_client.generate_latest(self._metrics)
        await request.answer(200, text, prometheus_client.CONTENT_TYPE_LATEST.encode())

    async def _sleep(self, request: Request) -> None:
        level = request.parameter("level") or "1"
        if level not in ("0", "1", "2"):
            raise bad_request("level must be 0, 1 or 2", "level", level)
        if request.parameter("mode") in (None, "abort"):
            self.instance.abort_all()
        self.instance.sleep(int(level))
        await request.answer_json({"status": "sleeping", "level": int(level)})

    async def _wake_up(self, request: Request) -> None:
        self.instance.wake_up()
        await request.answer_json({"status": "awake", "tags": None})

    async def _is_sleeping(self, request: Request) -> None:
        await request.answer_json({"is_sleeping": self.instance.asleep})

    async def _status(self, request: Request) -> None:
        await request.answer_json(
            {
                **self.instance.status(),
                "kv_engine_id": self.exchange.engine_id,
                "kv_port": self.exchange.port,
                "draining": self.instance.draining,
            }
        )

    async def _show_faults(self, request: Request) -> None:
        await request.answer_json(self.faults.settings.model_dump())

    async def _set_faults(self, request: Request) -> None:
        data = await request.body()
        try:
            wanted = orjson.loads(data)
            settings = FaultSettings.model_validate({**self.faults.settings.model_dump(), **wanted})
        except (orjson.JSONDecodeError, TypeError) as error:
            raise bad_request(f"faults are a JSON object: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise bad_request(f"{field}: {first['msg']}", field) from None
        self._apply(settings)
        await request.answer_json(settings.model_dump())

    async def _clear_faults(self, request: Request) -> None:
        self._apply(FaultSettings())
        await request.answer_json(self.faults.settings.model_dump())

    def _apply(self, settings: FaultSettings) -> None:
        self.faults.set(settings)
        self.instance.set_faults(hang=settings.hang, slow_factor=settings.slow_factor)
        if settings.die_after_s is not None:
            self.instance.loop.call_later(settings.die_after_s, die)


def _content_type(request: Request) -> bytes:
    return request.headers.get(b"content-type", b"")
