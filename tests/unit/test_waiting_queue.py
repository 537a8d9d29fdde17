"""Who waits for a thread, and who would wait too long, by a clock that stands still until a test moves it."""

from serving.waiting_queue import WaitingQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waiting_queue(clock: Clock, *, threads: int = 2) -> WaitingQueue[int]:
    return WaitingQueue(seconds=0.5, threads=threads, clock=clock)


def take_steadily(items: WaitingQueue[int], clock: Clock, *, number: int, every: float) -> list[bool]:
    """Takes items one by one; returns which were late."""
    late = []
    for _ in range(number):
        clock.now += every
        late.append(items.take()[1])
    return late


def test_an_empty_queue_is_open_however_long_it_was_idle() -> None:
    clock = Clock()
    items = waiting_queue(clock)

    clock.now += 3600

    assert not items.is_too_long()


def test_items_are_taken_in_the_order_in_which_they_came() -> None:
    items = waiting_queue(Clock())
    for item in (3, 1, 2):
        items.put(item)

    assert [items.take()[0] for _ in range(3)] == [3, 1, 2]


def test_a_newcomer_waits_too_long_where_those_before_it_take_too_long_at_the_present_pace() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    for item in range(200):
        items.put(item)
    take_steadily(items, clock, number=150, every=0.002)  # 0.3 s: nobody has waited too long yet

    assert not items.is_too_long()  # 50 × 2 ms

    for item in range(220):
        items.put(item)

    assert items.is_too_long()  # 270 × 2 ms


def test_a_burst_finds_the_pace_of_the_one_before() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    for item in range(100):
        items.put(item)
    take_steadily(items, clock, number=100, every=0.004)
    clock.now += 60
    for item in range(100):  # one at a time, as threads are free: this tells nothing of how long others wait
        items.put(item)
        items.take()

    for item in range(140):
        items.put(item)

    assert items.is_too_long()


def test_a_newcomer_waits_too_long_where_no_thread_takes_anything() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    items.put(1)

    clock.now += 0.5
    before = items.is_too_long()
    clock.now += 0.01

    assert (before, items.is_too_long()) == (False, True)


def test_who_takes_an_item_is_told_where_it_waited_too_long() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    for item in range(8):
        items.put(item)

    assert take_steadily(items, clock, number=8, every=0.1) == [False] * 5 + [True] * 3


def test_a_queue_is_open_again_once_it_has_been_emptied() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    for item in range(50):
        items.put(item)
    take_steadily(items, clock, number=49, every=0.1)
    before = items.is_too_long()

    items.take()

    assert (before, items.is_too_long()) == (True, False)


def test_a_pace_that_slow_requests_left_behind_is_measured_again_and_forgotten() -> None:
    clock = Clock()
    items = waiting_queue(clock)
    for item in range(40):
        items.put(item)
    take_steadily(items, clock, number=40, every=0.4)  # slower than 0.5 s for two threads: their pace says "too long"
    clock.now += 60
    refused = 0

    for _ in range(50):  # bursts of six, quickly answered
        for item in range(6):
            if items.is_too_long():
                refused += 1
            else:
                items.put(item)
        take_steadily(items, clock, number=len(items._came), every=0.004)
        clock.now += 1

    assert refused < 50 * 6 / 5
    assert not items.is_too_long()
    for item in range(6):
        assert not items.is_too_long()
        items.put(item)
