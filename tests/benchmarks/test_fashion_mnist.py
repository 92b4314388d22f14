"""The table of forms shows the measured values; a form that misses a bound with one seed misses the bound."""

from benchmarks.fashion_mnist import Outcome, figures_of, table_of

PLAIN = Outcome(0.88, 0.6, 1.0, parameters=1_100, parameters_fused=1_000, seconds=20.0)
WIDE = PLAIN._replace(top1=0.89, parameters=2_200, seconds=30.0)


def test_the_table_has_means_deviations_and_the_least_time_of_each_form() -> None:
    plain = [PLAIN, PLAIN._replace(top1=0.9, worst_recall=0.7, seconds=50.0)]
    *head, first, second = table_of({"plain": plain, "wide": [WIDE, WIDE]})
    assert len(head) == 2 and all(line.count("|") == first.count("|") == second.count("|") for line in head)
    assert first == "| plain | 89.00 ± 1.41 % | 65.0 % | 1,100 | 1,000 | × 1.00 |"
    assert second == "| wide | 89.00 ± 0.00 % | 60.0 % | 2,200 | 1,000 | × 1.50 |"


def test_the_worst_seed_is_held_against_the_bounds() -> None:
    assert all(figure.holds for figure in figures_of("plain", [PLAIN, PLAIN], floor=0.8))
    other_class = [PLAIN, PLAIN._replace(agreement=0.9985)]
    assert [figure.holds for figure in figures_of("plain", other_class, floor=0.8)] == [False, True]
    no_result = [PLAIN._replace(top1=0.79), PLAIN]
    assert [figure.holds for figure in figures_of("plain", no_result, floor=0.8)] == [True, False]
