"""Every solver against the enumeration of all choices, and each against what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.allocation.bounds import dual
from codesign.allocation.problem import Limit, Problem, totals
from codesign.allocation.repair import repaired
from codesign.allocation.solvers.catalog import SOLVERS
from codesign.allocation.solvers.feasible import found_feasible, made_feasible
from codesign.allocation.solvers.ladder import Ladder
from codesign.allocation.solvers.metropolis import Metropolis, acceptance, drawn, softmax
from codesign.allocation.solvers.milp import solved
from codesign.allocation.solvers.optuna_samplers import OptunaSampler
from codesign.allocation.solvers.pareto import Pareto
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.solvers.tournament import Tournament
from codesign.allocation.solving import solve
from codesign.allocation.table import Table, table_of
from codesign.errors import UserError
from tests.allocation.tables import METRICS, best_of_all, every_assignment, every_choice, large_table, small_tables

bounds = st.floats(0, 30).map(lambda value: round(value, 2))
RNG = np.random.default_rng(0)


def quick(solver: Solver) -> Solver:
    """The solver with few rounds."""
    if isinstance(solver, Metropolis):
        return replace(solver, rounds=30)
    if isinstance(solver, OptunaSampler):
        return replace(solver, trials=6)
    if isinstance(solver, Tournament):
        return replace(solver, rounds=30, population=8)
    return solver


class TestConformance:
    """What every implementation of `Solver` keeps."""

    @pytest.mark.parametrize("name", SOLVERS)
    @settings(max_examples=40)
    @given(table=small_tables(), most=bounds, size=st.none() | bounds, seed=st.integers(0, 3))
    def test_choices_keep_limits_and_bounds_hold(
        self, name: str, table: Table, most: float, size: float | None, seed: int
    ) -> None:
        limits = [Limit("latency_ms", most)]
        if size is not None and name != "pareto":
            limits.append(Limit("size_mib", size, "least"))
        problem = Problem.of(table, limits)
        best = best_of_all(problem)
        if best is None:
            with pytest.raises(UserError, match=r"feasible (latency_ms|size_mib) is"):
                solve(table, quick(SOLVERS[name]), limits, seed=seed)
            return
        found = solve(table, quick(SOLVERS[name]), limits, seed=seed)
        point = found.point
        assert (point.loss, point.costs) == totals(table, point.choices)
        for limit in limits:
            sign = 1 if limit.sense == "most" else -1
            assert sign * point.costs[limit.metric] <= sign * limit.bound + 1e-6
        tolerance = 1e-6 * max(1.0, best)
        assert found.bound <= best + tolerance <= point.loss + 2 * tolerance
        assert found.gap >= 0
        if found.optimal:
            assert point.loss <= best + tolerance
        for tied in table.ties:
            assert len({point.choices[group] for group in tied}) == 1
        assert all(point.choices[group] == choice for group, choice in table.pins.items())
        again = solve(table, quick(SOLVERS[name]), limits, seed=seed)
        assert again.point.choices == point.choices
        losses = [other.loss for other in found.frontier]
        if len(limits) == 1:
            assert losses == sorted(losses, reverse=True)

    @pytest.mark.parametrize("name", SOLVERS)
    def test_without_limits_every_group_gets_its_best(self, name: str) -> None:
        table = table_of({f"g{i}": {"a": (2.0, {"m": 1.0}), "b": (1.0, {"m": 5.0})} for i in range(4)})
        found = solve(table, quick(SOLVERS[name]))
        assert set(found.point.choices.values()) == {"b"} and found.optimal and found.gap == 0

    @pytest.mark.parametrize("name", SOLVERS)
    def test_the_metric_of_the_objective_can_be_a_cost(self, name: str) -> None:
        table = table_of({f"g{i}": {"a": (2.0 + i, {"m": 1.0}), "b": (1.0, {"m": 5.0})} for i in range(3)})
        found = solve(table, quick(SOLVERS[name]), [Limit("loss", 5.0)], minimize="m")
        assert found.point.costs["m"] >= 11.0 and found.point.loss <= 5.0
        assert found.bound <= 11.0 + 1e-9


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=30)
@given(table=small_tables(signed=True), most=bounds, lost=st.none() | st.floats(-20, 20).map(lambda x: round(x, 2)))
def test_losses_may_be_negative(name: str, table: Table, most: float, lost: float | None) -> None:
    """Against sums in the table's own units, limits on the loss among them."""
    limits = [Limit("latency_ms", most)]
    if lost is not None and name != "pareto":
        limits.append(Limit("loss", lost))
    within = [
        loss
        for loss, sums in every_assignment(table)
        if sums["latency_ms"] <= most + 1e-9 and (len(limits) == 1 or loss <= limits[1].bound + 1e-9)
    ]
    if not within:
        with pytest.raises(UserError, match=r"feasible (latency_ms|loss) is"):
            solve(table, quick(SOLVERS[name]), limits)
        return
    best = min(within)
    found = solve(table, quick(SOLVERS[name]), limits)
    assert found.point.loss == totals(table, found.point.choices)[0]
    assert found.bound <= best + 1e-6 <= found.point.loss + 2e-6
    larger = max(abs(found.point.loss), abs(found.bound), 1e-300)
    assert found.gap == pytest.approx((found.point.loss - found.bound) / larger, abs=1e-9)
    if found.optimal or name == "milp":
        assert found.point.loss == pytest.approx(best, abs=1e-6)


def test_a_group_that_loses_much_less_than_nothing_proves_nothing_of_others() -> None:
    """As a share of -1e9 the gap is that of rounding; the others may do better all the same, and nothing is proven."""
    groups = {
        "a": {"x": (2.0, {"m": 0.0}), "y": (0.0, {"m": 2.0})},
        "b": {"x": (1.5, {"m": 0.0}), "y": (0.0, {"m": 1.0})},
    }
    table = table_of(groups | {"c": {"x": (-1e9, {"m": 0.0})}})
    found = solve(table, SOLVERS["lagrangian"], [Limit("m", 2.0)])
    assert found.gap < 1e-8 and not found.optimal
    assert solve(table, SOLVERS["milp"], [Limit("m", 2.0)]).point.loss == pytest.approx(-1e9 + 1.5)
    with pytest.raises(
        UserError, match=r"loss=-2000000000: no choices keep it; the smallest feasible loss is -1000000000"
    ):
        solve(table, SOLVERS["milp"], [Limit("loss", -2e9)])


@settings(max_examples=150)
@given(table=small_tables(), most=bounds, size=bounds, sense=st.sampled_from(["most", "least"]))
def test_the_integer_program_equals_enumeration(table: Table, most: float, size: float, sense: str) -> None:
    for limits in ([], [Limit("latency_ms", most)], [Limit("latency_ms", most), Limit("size_mib", size, sense)]):  # type: ignore[arg-type]
        problem = Problem.of(table, limits)
        best = best_of_all(problem)
        if best is None:
            assert solved(problem) is None
            assert found_feasible(problem) is None
            continue
        found = SOLVERS["milp"].solve(problem, RNG)
        assert problem.value(found.chosen) == pytest.approx(best, abs=1e-7)
        assert found.bound is not None and found.bound == pytest.approx(best, abs=1e-6)
        assert dual(problem).bound <= best + 1e-7


@settings(max_examples=100)
@given(table=small_tables(), most=bounds)
def test_the_dynamic_program_gives_the_whole_frontier(table: Table, most: float) -> None:
    problem = Problem.of(table, [Limit("latency_ms", most)])
    if best_of_all(problem) is None:
        return
    found = SOLVERS["pareto"].solve(problem, RNG)
    assert problem.value(found.chosen) == pytest.approx(best_of_all(problem), abs=1e-9)
    points = {(round(problem.used(one)[0], 9), round(problem.value(one), 9)) for one in found.frontier}
    everything = [(round(problem.used(one)[0], 9), round(problem.value(one), 9)) for one in every_choice(problem)]
    front = {p for p in everything if not any(o[0] <= p[0] and o[1] <= p[1] and o != p for o in everything)}
    assert points == front


@settings(max_examples=150)
@given(table=small_tables(), most=bounds)
def test_greedy_and_lagrangian_are_within_their_proven_gap(table: Table, most: float) -> None:
    """Above the relaxation by less than what one group can save: the step that no longer fits."""
    problem = Problem.of(table, [Limit("latency_ms", most)])
    best = best_of_all(problem)
    if best is None:
        return
    present = np.where(problem.present, problem.objective, 0.0)
    most_saved = (present.max(axis=1) - problem.objective.min(axis=1)).max()
    relaxed = dual(problem).bound
    assert relaxed <= best + 1e-9
    for name in ("greedy", "lagrangian"):
        assert problem.value(SOLVERS[name].solve(problem, RNG).chosen) <= relaxed + most_saved + 1e-7


def test_the_relaxation_is_that_of_a_linear_program() -> None:
    from scipy.optimize import linprog

    for seed in range(5):
        problem = Problem.of(large_table(12, 5, seed), [Limit("size_mib", 700.0)])
        place, column = np.nonzero(problem.present)
        one = (place == np.arange(problem.decisions)[:, None]).astype(float)
        exact = linprog(
            problem.objective[place, column], A_ub=problem.rows[:, place, column], b_ub=problem.bounds,
            A_eq=one, b_eq=np.ones(problem.decisions), bounds=(0, 1),
        )  # fmt: skip
        assert dual(problem).bound == pytest.approx(exact.fun, rel=1e-6)


def test_two_limits_are_priced_as_the_linear_program_does() -> None:
    from scipy.optimize import linprog

    rng = np.random.default_rng(1)
    groups: dict[str, dict[str, tuple[float, dict[str, float]]]] = {}
    for group in range(30):
        costs = [{metric: bits * rng.uniform(1, 5) for metric in METRICS} for bits in range(6)]
        groups[f"g{group}"] = {f"w{bits}": (4.0**-bits * rng.uniform(1, 9), costs[bits]) for bits in range(6)}
    table = table_of(groups)
    problem = Problem.of(table, [Limit("latency_ms", 150.0), Limit("size_mib", 140.0)])
    place, column = np.nonzero(problem.present)
    one = (place == np.arange(problem.decisions)[:, None]).astype(float)
    exact = linprog(
        problem.objective[place, column], A_ub=problem.rows[:, place, column], b_ub=problem.bounds,
        A_eq=one, b_eq=np.ones(problem.decisions), bounds=(0, 1),
    )  # fmt: skip
    assert dual(problem).bound == pytest.approx(exact.fun, rel=1e-5)
    found = solve(table, SOLVERS["lagrangian"], problem.limits)
    exact_loss = solve(table, SOLVERS["milp"], problem.limits).point.loss
    assert exact_loss <= found.point.loss <= 1.1 * exact_loss


def test_thousands_of_groups() -> None:
    table = large_table(8000, 7)
    found = solve(table, SOLVERS["lagrangian"], [Limit("size_mib", 600_000.0)])
    assert found.gap < 1e-4 and len(found.point.choices) == 8000
    assert solve(table, SOLVERS["greedy"], [Limit("size_mib", 600_000.0)]).gap < 1e-3


def test_a_thinned_frontier_says_what_it_may_cost() -> None:
    problem = Problem.of(large_table(60, 5), [Limit("size_mib", 3000.0)])
    thin = Pareto(most=100).solve(problem, RNG)
    assert thin.bound is None and problem.feasible(thin.chosen)


@settings(max_examples=150)
@given(table=small_tables(), most=bounds, size=bounds, data=st.data())
def test_repair_keeps_what_is_feasible_and_mends_what_is_not(
    table: Table, most: float, size: float, data: st.DataObject
) -> None:
    problem = Problem.of(table, [Limit("latency_ms", most), Limit("size_mib", size, "least")])
    chosen = np.array([data.draw(st.sampled_from(np.flatnonzero(row).tolist())) for row in problem.present])
    found = repaired(problem, chosen)
    if problem.feasible(chosen):
        assert found is not None and problem.value(found) <= problem.value(chosen)
    if found is not None:
        assert problem.feasible(found)
    single = Problem.of(table, [Limit("latency_ms", most)])
    assert (repaired(single, chosen) is None) == (best_of_all(single) is None)


def test_a_ladder_goes_down_where_it_loses_least() -> None:
    """By hand: from w3 everywhere, b (0.5), a (1), b (2), then a (4) would be next."""
    rungs = {"a": (5.0, 1.0, 0.0), "b": (2.5, 0.5, 0.0)}
    table = table_of({
        name: {f"w{3 - i}": (loss[2 - i], {"m": 3.0 - i}) for i in range(3)} for name, loss in rungs.items()
    })  # fmt: skip
    problem = Problem.of(table, [Limit("m", 3.0)])
    found = Ladder().solve(problem, RNG)
    assert [problem.names_of(one) for one in found.frontier] == [
        {"a": "w3", "b": "w3"}, {"a": "w3", "b": "w2"}, {"a": "w2", "b": "w2"}, {"a": "w2", "b": "w1"},
    ]  # fmt: skip
    assert problem.names_of(found.chosen) == {"a": "w2", "b": "w1"}


@pytest.mark.parametrize("corrected", [False, True])
def test_the_stationary_law_of_the_sampler(corrected: bool) -> None:
    """As published it is pi squared, corrected it is pi: exactly by the chain's matrix, and by running it."""
    law = np.array([[0.5, 0.3, 0.2]])
    chain = np.zeros((3, 3))
    for old in range(3):
        for new in range(3):
            taken = acceptance(law, law, np.array([old]), np.array([new]), corrected)[0]
            chain[old, new] += law[0, new] * taken
            chain[old, old] += law[0, new] * (1 - taken)
    expected = law[0] ** (1 if corrected else 2)
    expected /= expected.sum()
    assert expected @ chain == pytest.approx(expected, abs=1e-12)
    rng = np.random.default_rng(3)
    many = np.repeat(law, 20_000, axis=0)
    state = np.zeros(len(many), dtype=np.int64)
    for _ in range(30):
        proposed = drawn(many, rng)
        taken = rng.random(len(many)) < acceptance(many, many, state, proposed, corrected)
        state = np.where(taken, proposed, state)
    assert np.bincount(state) / len(state) == pytest.approx(expected, abs=0.015)


def test_probabilities_are_of_choices_that_there_are() -> None:
    present = np.array([[True, True, False]])
    assert softmax(np.array([[0.0, np.log(3.0), 9.0]]), present)[0] == pytest.approx([0.25, 0.75, 0.0])


@pytest.mark.parametrize("name", ["metropolis", "metropolis-corrected", "tournament", "nsga2", "tpe"])
def test_searches_go_beyond_the_repaired_best(name: str) -> None:
    """Costs that say nothing of losses: the walk down from the best choices ends 7 % above the optimum."""
    rng = np.random.default_rng(6)
    table = table_of({
        f"g{i}": {f"c{j}": (float(rng.uniform(0, 10)), {"m": float(rng.integers(1, 60))}) for j in range(5)}
        for i in range(15)
    })  # fmt: skip
    limits = [Limit("m", 230.0)]
    problem = Problem.of(table, limits)
    walked = problem.value(made_feasible(problem, problem.best))
    exact = solve(table, SOLVERS["milp"], limits)
    assert exact.optimal and walked > 1.06 * exact.point.loss
    solver = SOLVERS[name]
    found = solve(table, replace(solver, trials=80) if isinstance(solver, OptunaSampler) else solver, limits)
    assert found.point.loss < walked
    if not isinstance(solver, OptunaSampler):
        assert found.point.loss == pytest.approx(exact.point.loss)


def test_limits_that_cannot_be_kept_together_are_named() -> None:
    table = table_of({"g": {"a": (0.0, {"x": 1.0, "y": 9.0}), "b": (0.0, {"x": 9.0, "y": 1.0})}})
    with pytest.raises(UserError, match=r"at_most x=0\.5: no choices keep it; the smallest feasible x is 1"):
        solve(table, SOLVERS["milp"], [Limit("x", 0.5)])
    with pytest.raises(
        UserError, match=r"at_most x=2: no choices keep it with at_most y=2; .* smallest feasible x is 9"
    ):
        solve(table, SOLVERS["milp"], [Limit("x", 2.0), Limit("y", 2.0)])
    with pytest.raises(UserError, match=r"at_least x=10: no choices keep it; the largest feasible x is 9"):
        solve(table, SOLVERS["milp"], [Limit("x", 10.0, "least")])
    with pytest.raises(UserError, match="2 limits given, must be at most one; milp and lagrangian take several"):
        solve(table, SOLVERS["pareto"], [Limit("x", 9.0), Limit("y", 9.0)])
