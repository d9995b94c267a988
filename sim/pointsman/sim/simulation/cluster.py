"""The instances of a simulated cluster: their runs of iterations, the KV between them, and how they come and go."""

from dataclasses import dataclass
from typing import Final

from pointsman.core.events import InstanceHealth, InstanceLost, InstanceSeen
from pointsman.core.instances import InstanceId
from pointsman.core.units import to_ps
from pointsman.sim.engine import EngineCounters, Iteration, KvPull, Output
from pointsman.sim.simulation.lives import Leg, Life
from pointsman.sim.simulation.node import Link, Node, add_counters
from pointsman.sim.simulation.options import Happening, InstanceChange, SimulationOptions
from pointsman.sim.simulation.recorder import Recorder
from pointsman.sim.simulation.routers import Routers
from pointsman.sim.simulation.run_ends import RunEnds
from pointsman.sim.simulation.timeline import INSTANCE_CHANGES, INSTANCE_WAKES, NO_MORE, Timeline

STARTED_UP: Final = 1
"""Version of an instance change's event that ends a start-up."""


@dataclass(frozen=True, slots=True)
class Loss:
    """An instance is gone, and with it what some requests had there."""

    node: Node
    instance: InstanceId
    lives: list[Life]


class Cluster:
    """What engines do, and what befalls them; routers hear of instances that come and go."""

    def __init__(
        self,
        options: SimulationOptions,
        timeline: Timeline,
        routers: Routers,
        recorder: Recorder,
        lives: dict[str, Life],
    ) -> None:
        """`lives`: of all requests under way, which others add to and take from."""
        self.nodes = _nodes(options)
        self.run_ends = RunEnds(self.nodes)
        self._by_id: dict[InstanceId, Node] = {}
        self._links: dict[tuple[int, int], Link] = {}
        self._changes: list[InstanceChange] = sorted(options.changes, key=lambda change: change.at_s)
        self._options = options
        self._timeline = timeline
        self._routers = routers
        self._recorder = recorder
        self._lives = lives

    def start(self) -> None:
        """All instances but those that start later."""
        late = {c.instance for c in self._changes if c.happening is Happening.STARTED}
        first = {change.instance: change.happening for change in reversed(self._changes)}
        for node in self.nodes:
            if node.name not in late or first[node.name] is not Happening.STARTED:
                node.begin_start(0)
                self._serve(node)
        for number, change in enumerate(self._changes):
            self._timeline.add(to_ps(change.at_s), INSTANCE_CHANGES, number)

    def serving(self, instance: InstanceId) -> Node | None:
        """None: it is gone."""
        node = self._by_id.get(instance)
        return None if node is None or node.engine is None else node

    def counters(self) -> EngineCounters:
        """Of all engines that there were."""
        total = EngineCounters()
        for node in self.nodes:
            add_counters(total, node.past)
            if node.engine is not None:
                add_counters(total, node.engine.counters)
        return total

    # --- legs

    def add(self, leg: Leg, node: Node) -> None:
        """Raises RequestTooLongError."""
        if node.engine is None:
            return
        if node.run is not None:
            self.cut(node, node.run)
        node.engine.add(leg, self._timeline.now_ps)
        self._wake(node)

    def pull(self, source: Leg, target: Node) -> KvPull:
        """Of what a prefill leg holds, over the way between the two."""
        key = (source.node, target.number)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self.nodes[source.node], target)
        return KvPull(source.prompt_tokens, 0, link.arrive_ps)

    def release_kv(self, source: Leg) -> None:
        """What a prefill leg holds is needed no more."""
        holder = self.nodes[source.node]
        if holder.engine is None:
            return
        if holder.run is not None:
            self.cut(holder, holder.run)
        holder.engine.release_kv(source.request_id)
        self._wake(holder)

    def drop(self, leg: Leg) -> None:
        """Free what it has on an instance that lives."""
        node = self.nodes[leg.node]
        if node.engine is None:
            return
        if node.run is not None:
            self.cut(node, node.run)
        if not node.engine.release_kv(leg.request_id):
            node.engine.abort(leg.request_id)

    # --- runs of iterations

    def _wake(self, node: Node) -> None:
        """An idle instance begins by an event of its own, so that all that arrives now is there."""
        if node.run is None:
            self._timeline.add(self._timeline.now_ps, INSTANCE_WAKES, node.number, node.version)

    def begin_run(self, node: Node) -> None:
        """Go on with what there is to do; a drained instance that has nothing left goes."""
        engine, timeline = node.engine, self._timeline
        if engine is None:
            return
        run = engine.begin_run(timeline.now_ps)
        node.run = run
        node.version += 1
        if run is not None:
            if self._options.stepwise and run.iterations > 1:
                engine.cut(run, timeline.now_ps)
            self._end_at(node, run.end_ps)
            return
        self._end_at(node, NO_MORE)
        wake_ps = engine.wake_ps()
        if wake_ps is not None:
            timeline.add(wake_ps, INSTANCE_WAKES, node.number, node.version)
        elif node.draining:
            self._retire(node)

    def cut(self, node: Node, run: Iteration) -> None:
        """Something has come: let the run end with the iteration under way."""
        engine, timeline = node.engine, self._timeline
        if engine is None or run.iterations == 1:
            return
        # An iteration that ends just now has made way for the next one where stepping would have had its turn by now.
        engine.cut(run, timeline.now_ps + (node.number < timeline.turn))
        if run.end_ps != node.run_end_ps:
            self._end_at(node, run.end_ps)

    def _end_at(self, node: Node, end_ps: int) -> None:
        node.run_end_ps = end_ps
        self.run_ends.moved(node)

    def end_run(self, node: Node) -> list[Output]:
        """What it has brought; `begin_run` goes on."""
        engine, run = node.engine, node.run
        if engine is None or run is None:
            return []
        node.run = None
        outputs = engine.end_run(run)
        self._waited(node, run, run.iterations)
        return outputs

    def _waited(self, node: Node, run: Iteration, iterations: int) -> None:
        """Between tokens, all but those whose first one came, or who warm up."""
        waited = run.decode_sequences - run.singles - node.warming
        if iterations and waited > 0:
            self._recorder.measured.waited(run.first_ps, run.step_ps, iterations, waited)

    # --- what befalls instances

    def change(self, number: int, version: int) -> Loss | None:
        """The change of this number happens, or what it began is over."""
        change, timeline = self._changes[number], self._timeline
        node = next(node for node in self.nodes if node.name == change.instance)
        if version == STARTED_UP:
            if node.starting and node.started_ps == to_ps(change.at_s):  # nothing befell it since
                self._serve(node)
        elif change.happening is Happening.STARTED:
            if node.engine is None and not node.starting:
                node.begin_start(timeline.now_ps)
                ready_ps = timeline.now_ps + to_ps(change.startup_s)
                timeline.add(ready_ps, INSTANCE_CHANGES, number, STARTED_UP)
        elif node.starting:
            self._stop(node)
        elif change.happening is Happening.DRAINED:
            self._drain(node)
        else:
            return self._lose(node)
        return None

    def _serve(self, node: Node) -> None:
        instance, now_ps = node.start(), self._timeline.now_ps
        self._by_id[instance.id] = node
        self._routers.observe(InstanceSeen(instance), now_ps)
        self._routers.observe(InstanceHealth(instance.id, available=True), now_ps)

    def _drain(self, node: Node) -> None:
        if node.instance is None or node.draining:
            return
        node.draining = True
        self._routers.observe(InstanceHealth(node.instance.id, available=False), self._timeline.now_ps)
        if node.run is None:
            self._retire(node)

    def _retire(self, node: Node) -> None:
        """A drained instance goes when nobody needs anything of it any more."""
        engine, instance = node.engine, node.instance
        if engine is None or instance is None or engine.has_work() or engine.wake_ps() is not None:
            return
        if any(life.leg is not None and life.leg.then == instance.id for life in self._lives.values()):
            return
        self._forget(node, instance.id)

    def _lose(self, node: Node) -> Loss | None:
        """With all that runs there."""
        engine, instance = node.engine, node.instance
        if engine is None or instance is None:
            return None
        lost = [leg.life for leg in engine.requests() if isinstance(leg, Leg)]
        lost += [
            life
            for life in self._lives.values()
            if life.source is not None and life.source.node == node.number
        ]
        if node.run is not None:
            self._waited(node, node.run, engine.abandon(node.run, self._timeline.now_ps))
        self._forget(node, instance.id)
        return Loss(node, instance.id, list(dict.fromkeys(lost)))

    def _forget(self, node: Node, instance: InstanceId) -> None:
        self._stop(node)
        del self._by_id[instance]
        self._routers.observe(InstanceLost(instance), self._timeline.now_ps)

    def _stop(self, node: Node) -> None:
        node.lose(self._timeline.now_ps)
        self.run_ends.moved(node)


def _nodes(options: SimulationOptions) -> list[Node]:
    nodes: list[Node] = []
    names: dict[str, int] = {}
    for pool in options.pools:
        for _ in range(pool.count):
            names[pool.name] = number = names.get(pool.name, 0) + 1
            nodes.append(Node(len(nodes), f"{pool.name}/{number}", pool, options.engine))
    return nodes
