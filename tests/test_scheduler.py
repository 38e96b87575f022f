"""The scheduler loses nothing, starves nobody, and keeps its budgets, whatever comes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlt
from vlt.scheduling import CostModel, Scheduler

COST = CostModel(1e-3, 5e-5, 1e-8)
MAX_TOKENS, MAX_REQUESTS, MAX_WAIT = 600, 7, 0.25
POLICIES = ["latency", "fifo", "one"]
SLACK = 1e-9  # rounding of sums of times


@dataclass
class Asked:
    length: int
    arrival: float
    priority: int


@dataclass
class World:
    """A scheduler, what should be waiting in it, and rules that every batch must keep."""

    policy: str
    linger: float = 0.0
    now: float = 0.0
    waiting: dict[int, Asked] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            COST,
            policy=self.policy,
            max_tokens=MAX_TOKENS,
            max_requests=MAX_REQUESTS,
            max_wait=MAX_WAIT,
            linger=self.linger,
        )

    def add(self, length: int, priority: int, slack: float | None) -> None:
        deadline = None if slack is None else self.now + slack
        self.scheduler.add(self.count, length, self.now, priority=priority, deadline=deadline)
        self.waiting[self.count] = Asked(length, self.now, priority)
        self.count += 1

    def remove(self, request: int) -> None:
        expected = request in self.waiting
        assert self.scheduler.remove(request) is expected
        self.waiting.pop(request, None)

    def take(self) -> list[int]:
        wake = self.scheduler.wake_at()
        assert (wake is None) == (not self.waiting)
        batch = self.scheduler.next_batch(self.now)
        assert bool(batch) == (wake is not None and wake <= self.now)
        taken = {request: self.waiting.pop(request) for request in batch}  # none twice, none lost
        assert len(taken) == len(batch) <= (1 if self.policy == "one" else MAX_REQUESTS)
        assert len(batch) <= 1 or sum(each.length for each in taken.values()) <= MAX_TOKENS
        for started in taken.values():
            self.check_nobody_is_overtaken_for_long(started)
        assert self.scheduler.num_waiting == len(self.waiting)
        assert self.scheduler.waiting_tokens == sum(w.length for w in self.waiting.values())
        return batch

    def check_nobody_is_overtaken_for_long(self, started: Asked) -> None:
        head_start = MAX_WAIT if self.policy == "latency" else 0
        for left in self.waiting.values():
            ahead = head_start + (started.priority - left.priority) * MAX_WAIT
            assert started.arrival <= left.arrival + ahead + SLACK


ADD = st.tuples(
    st.just("add"),
    st.one_of(st.integers(0, 20), st.integers(0, 800)),
    st.sampled_from([0, 0, 0, 1, 2, -1]),
    st.one_of(st.none(), st.floats(1e-3, 1)),
)
REMOVE = st.tuples(st.just("remove"), st.integers(0, 40))
TAKE = st.tuples(st.just("take"), st.floats(0, 0.1))
STEPS = st.lists(st.one_of(ADD, ADD, ADD, REMOVE, TAKE), max_size=80)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(POLICIES), st.sampled_from([0.0, 0.03]), STEPS)
def test_rules_hold_whatever_comes(policy: str, linger: float, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    world = World(policy, linger)
    for kind, *arguments in steps:
        if kind == "add":
            world.add(*arguments)
        elif kind == "remove":
            world.remove(*arguments)
        else:
            world.now += arguments[0]
            world.take()
    world.now += linger
    while world.waiting:
        assert world.take()
    assert world.take() == []


def test_a_long_request_is_served_though_short_ones_keep_coming() -> None:
    """A flood of short requests, more than the device can do, overtakes it for max_wait only."""
    world = World("latency")
    for _ in range(200):
        world.add(10, 0, None)
    world.add(500, 0, None)
    document = world.count - 1
    while document in world.waiting:
        for _ in range(40):
            world.add(10, 0, None)
        batch = world.take()
        assert world.now < 2 * MAX_WAIT
        world.now += COST.seconds([10] * len(batch))


def test_short_requests_go_before_a_long_one() -> None:
    scheduler = Scheduler(COST)
    scheduler.add(1, 512, 0.0)
    for request in range(2, 6):
        scheduler.add(request, 8, 0.001)
    assert scheduler.next_batch(0.002)[:4] == [2, 3, 4, 5]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_higher_priority_goes_first_however_long(policy: str) -> None:
    scheduler = Scheduler(COST, policy=policy, max_requests=1)
    scheduler.add(1, 8, 0.0)
    scheduler.add(2, 400, 0.0, priority=1)
    scheduler.add(3, 8, 0.0, priority=-1)
    scheduler.add(4, 8, 0.0, priority=2)
    assert [scheduler.next_batch(0.0) for _ in range(4)] == [[4], [2], [1], [3]]


def test_a_priority_is_worth_max_wait() -> None:
    scheduler = Scheduler(COST, policy="fifo", max_requests=1, max_wait=1.0)
    scheduler.add(1, 8, 0.0)
    scheduler.add(2, 8, 1.1, priority=1)
    scheduler.add(3, 8, 0.9, priority=1)
    assert [scheduler.next_batch(2.0) for _ in range(3)] == [[3], [1], [2]]


def test_a_deadline_brings_a_long_request_forward() -> None:
    def first(deadline: float | None) -> int:
        scheduler = Scheduler(COST, max_requests=1)
        for request in range(4):
            scheduler.add(request, 100, 0.0)
        scheduler.add(9, 400, 0.0, deadline=deadline)
        return scheduler.next_batch(0.0)[0]

    assert first(None) == 0
    assert first(0.05) == 9
    assert first(100.0) == 0


def test_budgets() -> None:
    scheduler = Scheduler(COST, policy="fifo", max_tokens=100, max_requests=3)
    for request, length in enumerate([60, 40, 1, 500, 1, 1, 1, 1]):
        scheduler.add(request, length, 0.0)
    batches = [scheduler.next_batch(0.0) for _ in range(5)]
    assert batches == [[0, 1], [2], [3], [4, 5, 6], [7]]


def test_batches_grow_with_the_queue_but_by_its_root() -> None:
    """30 fixed costs, or the root of 32 times a fixed cost and what waits, where that is more."""
    cost = CostModel(1e-3, 1e-3)
    for waiting, expected in ((20, 20), (200, 80), (3200, 320), (20000, 800)):
        scheduler = Scheduler(cost, max_requests=100000, max_tokens=10**9)
        for request in range(waiting):
            scheduler.add(request, 1, 0.0)
        assert len(scheduler.next_batch(0.0)) == pytest.approx(expected, abs=1)


def test_lingering() -> None:
    scheduler = Scheduler(COST, linger=0.5, max_requests=3)
    assert scheduler.wake_at() is None
    scheduler.add(1, 8, 10.0)
    scheduler.add(2, 8, 10.25)
    assert scheduler.wake_at() == 10.5
    assert scheduler.next_batch(10.25) == []
    assert scheduler.next_batch(10.5) == [1, 2]
    for request in range(3):
        scheduler.add(request, 8, 11.0)
    assert scheduler.wake_at() == -math.inf  # full
    assert sorted(scheduler.next_batch(11.0)) == [0, 1, 2]


def test_errors_name_the_value_and_change_nothing() -> None:
    scheduler = Scheduler(COST)
    scheduler.add(1, 10, 0.0)
    wrong = vlt.InvalidArgumentError
    with pytest.raises(wrong, match="request 1 is waiting already; give each"):
        scheduler.add(1, 20, 0.0)
    with pytest.raises(wrong, match="length must be 0 .* not -1"):
        scheduler.add(2, -1, 0.0)
    with pytest.raises(wrong, match="now must be a finite number of seconds, not nan"):
        scheduler.add(2, 1, math.nan)
    with pytest.raises(wrong, match="priority must be -1000 ... 1000, not 1001"):
        scheduler.add(2, 1, 0.0, priority=1001)
    with pytest.raises(wrong, match=r"deadline 1.0 is not after now, 1.0"):
        scheduler.add(2, 1, 1.0, deadline=1.0)
    with pytest.raises(TypeError, match="request must be an integer"):
        scheduler.add("2", 1, 0.0)  # type: ignore[arg-type]
    with pytest.raises(wrong, match="now must be a finite number of seconds, not inf"):
        scheduler.next_batch(math.inf)
    assert (scheduler.num_waiting, scheduler.waiting_tokens) == (1, 10)
    assert scheduler.waiting_seconds == pytest.approx(COST.seconds([10]) - COST.base)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "best"}, "policy must be 'latency', 'fifo', 'one', not 'best'"),
        ({"max_tokens": 0}, "max_tokens must be 1"),
        ({"max_requests": 0}, "max_requests must be 1"),
        ({"max_wait": 0}, "max_wait must be above 0 seconds, not 0"),
        ({"linger": -1}, "linger must be 0 or more seconds, not -1"),
    ],
)
def test_wrong_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        Scheduler(COST, **options)  # type: ignore[arg-type]


# ---- Random arrivals, and clients that always ask again ------------------------------------------


def first_of_two(crowds: list[int]) -> str:
    """Who goes first after batches with so many requests there, one of each batch answered."""
    scheduler = Scheduler(COST, max_requests=1, max_wait=MAX_WAIT)
    number = 0
    for crowd in crowds:
        while scheduler.num_waiting < crowd:
            scheduler.add(number, 100 if number % 2 else 400, now=0.0)
            number += 1
        scheduler.next_batch(0.0)
    waiting = scheduler.num_waiting
    scheduler.add(-1, 400, now=1.0)
    scheduler.add(-2, 10, now=1.01)
    order = [scheduler.next_batch(2.0)[0] for _ in range(waiting + 2)]
    return "short" if order.index(-2) < order.index(-1) else "older"


def test_short_ones_go_first_where_arrivals_are_random() -> None:
    assert first_of_two([]) == "short"  # nothing is known
    assert first_of_two([1, 9, 30, 12, 2, 20, 5, 1, 15, 40] * 4) == "short"
    assert first_of_two([1, 2, 1, 1, 3, 2, 1, 1] * 5) == "short"  # few, and so few differences


def test_the_oldest_goes_first_where_the_crowd_stays_the_same() -> None:
    """Clients that always ask: whoever goes earlier makes others wait as much longer."""
    assert first_of_two([30] * 40) == "older"
    assert first_of_two([30, 31, 29, 32] * 10) == "older"


def test_all_go_at_once_where_the_crowd_stays_the_same() -> None:
    """Whoever is left behind waits for a whole batch more."""

    def batch_of(policy: str, crowds: list[int]) -> int:
        scheduler = Scheduler(COST, policy=policy)
        number = size = 0
        for crowd in crowds:
            while scheduler.num_waiting < crowd:
                scheduler.add(number, 300, now=0.0)
                number += 1
            size = len(scheduler.next_batch(0.0))
        return size

    steady = [40] * 40
    assert batch_of("latency", steady) == batch_of("fifo", steady) == 40
    changing = [4, 12, 40, 20, 8, 60, 1, 30] * 5 + [40]
    assert batch_of("latency", changing) < batch_of("fifo", changing) == 40
