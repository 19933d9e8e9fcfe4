import random

from growth.load.histogram import BUCKETS, MAX_US, Histogram, bucket_of, top_of


def test_a_bucket_holds_what_falls_into_it_and_is_at_most_a_sixtieth_wide() -> None:
    for value in [*range(5000), *(int(1.01**n) for n in range(1, 1850))]:
        top = top_of(bucket_of(value))
        assert value <= top <= value + value / 60


def test_buckets_follow_each_other_without_a_gap() -> None:
    edges = [top_of(bucket) for bucket in range(BUCKETS)]
    assert edges == sorted(set(edges))
    assert all(bucket_of(edge) == bucket for bucket, edge in enumerate(edges))


def test_what_is_longer_than_the_longest_counts_as_the_longest() -> None:
    assert bucket_of(MAX_US * 1000) == bucket_of(MAX_US) == BUCKETS - 1
    assert bucket_of(-5) == 0


def test_percentiles_are_those_of_the_sorted_values() -> None:
    dice = random.Random(3)
    values = [int(dice.lognormvariate(6, 2)) for _ in range(20_000)]
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    values.sort()
    for percent in (50, 90, 99, 99.9):
        exact = values[-(-int(len(values) * percent * 10) // 1000) - 1]
        assert exact <= histogram.percentile(percent) <= exact * 1.02
    assert histogram.percentile(100) == histogram.maximum_us == values[-1]


def test_histograms_of_two_runs_add_up() -> None:
    together, first, second = Histogram(), Histogram(), Histogram()
    for value in range(1000):
        together.record(value)
        (first if value % 3 else second).record(value)
    first.add(second.sparse(), second.maximum_us)
    assert (first.counts, first.total, first.maximum_us) == (together.counts, together.total, together.maximum_us)


def test_an_empty_histogram_has_no_latency() -> None:
    assert Histogram().percentile(99) == 0
