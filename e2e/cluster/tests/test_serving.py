"""Today's router and simulated engines in a real cluster: the image, probes, Services, names, crashes, rollouts."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.cluster import serving
from e2e.cluster.cluster import eventually
from e2e.cluster.namespace import Namespace
from e2e.cluster.serving import Engine

REQUEST = {
    "model": serving.MODEL,
    "messages": [{"role": "user", "content": "Which way to the harbour?"}],
    "max_tokens": 24,
    "ignore_eos": True,
    "seed": 1,
}

# Long enough that it does not skip the prefill pool.
LONG_REQUEST = {**REQUEST, "messages": [{"role": "user", "content": "Which way to the harbour? " * 200}]}

# Runs in the client pod: one request on a new connection each, statuses and the last answer as JSON.
ASK = """
import http.client, json, sys, time, urllib.error, urllib.request
url, request, count, pause_s = json.loads(sys.argv[1])
statuses, reasons, answer = [], [], None
order = urllib.request.Request(url, json.dumps(request).encode(), {"content-type": "application/json"})
for _ in range(count):
    try:
        try:
            response = urllib.request.urlopen(order, timeout=30)
        except urllib.error.HTTPError as refused:
            response = refused
        with response:
            answer = json.load(response)
        statuses.append(response.status)
        reasons.append(response.headers.get("x-pointsman-reason"))
    except (OSError, http.client.HTTPException) as error:
        statuses.append(0)
        reasons.append(repr(error))
    time.sleep(pause_s)
print(json.dumps([statuses, reasons, answer]))
"""

# Runs on this machine, inside the cluster's network: the client that our users have.
OPENAI = """
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
message = [{"role": "user", "content": "Which way to the harbour?"}]
whole = client.chat.completions.create(model="tiny", messages=message, max_tokens=24, seed=1)
stream = client.chat.completions.create(model="tiny", messages=message, max_tokens=24, seed=1, stream=True)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
assert whole.choices[0].message.content == "".join(pieces), (whole, pieces)
print(whole.usage.completion_tokens)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a number of requests, one after the other, came to."""

    statuses: list[int]
    reasons: list[str | None]
    answer: Any

    @property
    def text(self) -> str:
        content: str = self.answer["choices"][0]["message"]["content"]
        return content


class Deployed:
    """A router and engines in a namespace, all ready, and a pod to ask from."""

    def __init__(
        self, namespace: Namespace, engines: list[Engine], *, routers: int = 1, home: str | None = None
    ) -> None:
        """`home`: the node of router and client; anywhere if absent."""
        image = namespace.cluster.image
        self.namespace = namespace
        for described in engines:
            namespace.apply(*serving.engine(image, described))
        namespace.apply(
            *serving.router(image, engines, replicas=routers, node=home), serving.client(image, node=home)
        )
        for name in (*(described.name for described in engines), "router", "client"):
            namespace.wait_for_rollout(name)
        eventually(lambda: self.ask().statuses == [200], "the router answers nothing")

    def url(self, service: str, port: int) -> str:
        return f"http://{service}.{self.namespace.name}.svc.cluster.local:{port}/v1/chat/completions"

    def ask(
        self,
        url: str | None = None,
        *,
        request: Mapping[str, Any] = REQUEST,
        count: int = 1,
        pause_s: float = 0.0,
    ) -> Asked:
        """Requests to the router's Service, or to another URL, from the client pod."""
        order = json.dumps([url or self.url("router", 80), request, count, pause_s])
        return Asked(*json.loads(self.in_client(ASK, order)))

    def in_client(self, program: str, *arguments: str) -> str:
        """What a Python program prints in the client pod."""
        return self.namespace.kubectl(
            "exec", "deployment/client", "--", "python", "-c", program, *arguments, timeout=120
        )

    def metric(self, engine: str, name: str) -> float:
        """An engine's metric, summed over its labels."""
        lines = self.in_client(serving.FETCH, f"http://{engine}:{serving.ENGINE_PORT}/metrics").splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} "))
        )


@pytest.fixture
def mixed(namespace: Namespace) -> Deployed:
    """One engine on each of two nodes, router and client on the second."""
    nodes = namespace.cluster.nodes()
    engines = [Engine("engine-a", node=nodes[0]), Engine("engine-b", node=nodes[1])]
    return Deployed(namespace, engines, home=nodes[1])


@pytest.mark.asks_services
def test_curl_and_the_openai_client_get_answers_by_the_services_name(mixed: Deployed) -> None:
    name = f"router.{mixed.namespace.name}.svc.cluster.local"
    cluster = mixed.namespace.cluster
    listed = cluster.run(["curl", "--silent", "--show-error", "--fail", f"http://{name}/v1/models"]).stdout
    assert [model["id"] for model in json.loads(listed)["data"]] == [serving.MODEL]
    assert cluster.run([sys.executable, "-c", OPENAI, f"http://{name}/v1"]).stdout == "24\n"


def test_prefill_and_decode_apart_on_two_nodes_give_the_answer_of_one_engine(namespace: Namespace) -> None:
    nodes = namespace.cluster.nodes()
    engines = [Engine("prefill", "prefill", nodes[0]), Engine("decode", "decode", nodes[1])]
    apart = Deployed(namespace, engines)
    through_both, by_one = (
        apart.ask(apart.url(name, port), request=LONG_REQUEST)
        for name, port in (("router", 80), ("decode", serving.ENGINE_PORT))
    )
    assert through_both.statuses == by_one.statuses == [200]
    assert through_both.text == by_one.text
    assert apart.metric("prefill", "vllm:prompt_tokens_total") > 1000


def test_a_lost_engine_costs_no_request(mixed: Deployed) -> None:
    mixed.namespace.kubectl(
        "delete", "pod", "--selector=app.kubernetes.io/name=engine-a", "--force", "--wait=false"
    )
    asked = mixed.ask(count=20, pause_s=0.1)
    assert asked.statuses == [200] * 20, asked.reasons


def test_without_engines_clients_hear_why_and_later_get_answers_again(mixed: Deployed) -> None:
    for name in ("engine-a", "engine-b"):
        mixed.namespace.kubectl("scale", "deployment", name, "--replicas=0")
    eventually(lambda: mixed.ask().statuses == [503], "an answer comes from nowhere")
    assert mixed.ask().reasons[0]
    mixed.namespace.kubectl("scale", "deployment", "engine-b", "--replicas=1")
    eventually(lambda: mixed.ask().statuses == [200], "the engine that came back is not used")


@pytest.mark.kills_nodes
def test_answers_go_on_while_a_nodes_kubelet_and_containerd_are_dead(mixed: Deployed) -> None:
    cluster = mixed.namespace.cluster
    # Pods of a node that is not ready leave their Services: the router's must be the other one.
    node = cluster.nodes()[0]
    cluster.kill_node(node)
    try:
        eventually(lambda: not cluster.node_is_ready(node), "the node still counts as ready")
        eventually(lambda: mixed.ask(count=5).statuses == [200] * 5, "no answers while the node is not ready")
    finally:
        cluster.revive_node(node)
    eventually(lambda: cluster.node_is_ready(node), "the node does not come back")
    eventually(lambda: mixed.ask(count=5).statuses == [200] * 5, "no answers after the node came back")


def test_a_rollout_of_the_router_costs_no_request(namespace: Namespace) -> None:
    deployed = Deployed(namespace, [Engine("engine-a")], routers=2)
    namespace.kubectl("rollout", "restart", "deployment/router")
    asked = deployed.ask(count=60, pause_s=0.1)
    assert asked.statuses == [200] * 60, asked.reasons
    namespace.wait_for_rollout("router")
