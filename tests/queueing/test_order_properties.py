"""What orders promise, over random loads on one server of so many places."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.core.queueing.catalogue import ORDERS, make_order
from pointsman.core.queueing.order import Order, in_order
from pointsman.core.queueing.served import INPUT_WEIGHT, OUTPUT_WEIGHT, Served
from pointsman.core.requests import RequestView

PLACES = 3
orders = st.sampled_from(sorted(ORDERS)).map(make_order)


@dataclass
class Job:
    view: RequestView
    output_tokens: int
    started_s: float | None = None
    done: int = 0


@st.composite
def jobs(draw: st.DrawFn, *, tenants: int = 3, at_once: bool = False) -> list[Job]:
    count = draw(st.integers(1, 25))
    drawn = []
    for number in range(count):
        arrived_s = 0 if at_once else draw(st.integers(0, 40))
        view = RequestView(
            f"r{number}",
            "m",
            draw(st.integers(1, 60)),
            float(arrived_s),
            tenant=f"t{draw(st.integers(1, tenants))}",
            program=draw(st.sampled_from(["", "p", "q"])),
            expected_output_tokens=draw(st.integers(0, 30)),
        )
        drawn.append(Job(view, draw(st.integers(1, 12))))
    return drawn


@dataclass
class Server:
    """A token per running request and tick; free places go to who is first in the order."""

    order: Order
    served: Served = field(default_factory=Served)
    given: dict[str, int] = field(default_factory=dict)

    def run(self, load: list[Job], each_tick: Callable[[float, list[Job]], None] | None = None) -> None:
        running: list[Job] = []
        waiting: list[Job] = []
        coming = sorted(load, key=lambda job: job.view.arrived_s)
        now = 0.0
        while coming or waiting or running:
            waiting += [job for job in coming if job.view.arrived_s <= now]
            coming = [job for job in coming if job.view.arrived_s > now]
            if waiting and len(running) < PLACES:
                by_id = {job.view.request_id: job for job in waiting}
                for view in in_order(self.order, [job.view for job in waiting], self.served, now):
                    if len(running) == PLACES:
                        break
                    job = by_id[view.request_id]
                    job.started_s = now
                    waiting.remove(job)
                    running.append(job)
                    self.served.placed(view)
                    self._give(view.tenant, INPUT_WEIGHT * view.prompt_tokens)
            if each_tick is not None:
                each_tick(now, waiting)
            for job in running:
                job.done += 1
                self.served.generated(job.view, 1)
                self._give(job.view.tenant, OUTPUT_WEIGHT)
            running = [job for job in running if job.done < job.output_tokens]
            now += 1

    def _give(self, tenant: str, tokens: int) -> None:
        self.given[tenant] = self.given.get(tenant, 0) + tokens


@given(orders, jobs(), st.floats(0, 100))
def test_an_order_keeps_everybody_and_is_the_same_each_time(
    order: Order, load: list[Job], now: float
) -> None:
    views = [job.view for job in load]
    once = in_order(order, views, Served(), now)
    assert sorted(view.request_id for view in once) == sorted(view.request_id for view in views)
    assert in_order(order, views, Served(), now) == once


@given(orders, jobs())
def test_everybody_is_served_in_the_end(order: Order, load: list[Job]) -> None:
    Server(order).run(load)
    assert all(job.started_s is not None for job in load)


@settings(max_examples=60)
@given(st.sampled_from(["shortest_predicted", "least_attained"]), jobs(), st.integers(0, 30))
def test_nobody_starves_beyond_the_bound(name: str, load: list[Job], bound_s: int) -> None:
    """From the bound on, only who was starving before may still go first: first come, first served."""
    server = Server(make_order(name, {"starvation_s": float(bound_s)}))
    server.run(load)
    for job in load:
        for other in load:
            assert job.started_s is not None
            assert other.started_s is not None
            starving_s = job.view.arrived_s + bound_s
            if other.started_s > starving_s and other.started_s < job.started_s:
                assert other.view.arrived_s <= job.view.arrived_s


@settings(max_examples=60)
@given(jobs(tenants=2, at_once=True))
def test_backlogged_tenants_are_given_alike(load: list[Job]) -> None:
    """The bound of the paper: twice the larger of a longest prompt and all that may run at once."""
    longest = INPUT_WEIGHT * max(job.view.prompt_tokens for job in load)
    at_once = OUTPUT_WEIGHT * PLACES * max(job.output_tokens for job in load)
    server = Server(make_order("virtual_tokens"))

    def check(now: float, waiting: list[Job]) -> None:
        if len({job.view.tenant for job in waiting}) == 2:
            given_ = [server.given.get(tenant, 0) for tenant in ("t1", "t2")]
            assert abs(given_[0] - given_[1]) <= 2 * max(longest, at_once)

    server.run(load, check)
