from okdhp_edge.bench.present import find_pareto_front


def test_the_front_is_what_nothing_beats_in_both():
    points = [(1.0, 50.0), (2.0, 60.0), (2.5, 55.0), (3.0, 60.0), (0.9, 40.0)]
    assert find_pareto_front(points) == [0, 1, 4]


def test_equal_points_both_stay():
    assert find_pareto_front([(1.0, 50.0), (1.0, 50.0)]) == [0, 1]
