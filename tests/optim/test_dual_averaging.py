"""RDA and xRDA against naive loops, against each other and ProxSGD at their limits, and as torch optimisers."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch

from nonsmooth.optim import RDA, XRDA, ProxSGD, certify
from nonsmooth.optim.extended_dual_averaging import adaptive_weights
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1, TransformedL1
from nonsmooth.problems.lasso_reference import lasso_reference

STRENGTH = 0.3
OPTIMISERS = {
    "RDA": lambda parameters, **options: RDA(parameters, **{"lr": 0.2, **options}),
    "RDA, start": lambda parameters, **options: RDA(parameters, **{"lr": 0.2, "centre": "start", **options}),
    "XRDA": lambda parameters, **options: XRDA(parameters, **{"lr": 0.05, "time_scale": 0.2, **options}),
    "XRDA, adaptive": lambda parameters, **options: XRDA(
        parameters, **{"lr": 0.05, "time_scale": 0.2, "amplification": 20.0, **options}
    ),
}
every = pytest.mark.parametrize("name", OPTIMISERS)


@pytest.fixture(scope="module")
def lasso():
    """Data 30×8, response and the exact solution for (1/N)·‖y - Zw‖² + λ‖w‖₁."""
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(30, 8, generator=generator, dtype=torch.float64)
    signal = torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64)
    response = data @ signal + 0.5 * torch.randn(30, generator=generator, dtype=torch.float64)
    reference = lasso_reference(data[None], response[None], torch.tensor([[STRENGTH]], dtype=torch.float64))
    assert reference.gap.max() < 1e-13
    return data, response, reference.point[0, 0]


def start(dtype=torch.float64):
    return torch.linspace(-1, 1, 8, dtype=torch.float64).to(dtype).requires_grad_()


def loss(weight, data, response):
    """Mean squared error."""
    return ((response - data @ weight) ** 2).mean()


def descend(optimizer, weight, data, response, steps):
    """Full-batch steps on the loss."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss(weight, data, response).backward()
        optimizer.step()
    return weight.detach().clone()


def feed(optimizer, weight, gradients):
    """Steps with gradients that are given."""
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimizer.step()
    return weight.detach().clone()


def draws(steps, shape=(8,), dtype=torch.float64, seed=0):
    return list(torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def soft(x, t):
    return math.copysign(max(abs(x) - t, 0.0), x)


def naive_rda(data, response, w, steps, gamma, centred):
    """Xiao's (2009) formula, coordinate by coordinate; with a centre, the minimiser of the three terms by hand."""
    centre = list(w) if centred else [0.0] * len(w)
    sums = [0.0] * len(w)
    for t in range(1, steps + 1):
        residual = [sum(z * b for z, b in zip(row, w, strict=True)) - y for row, y in zip(data, response, strict=True)]
        for j in range(len(w)):
            sums[j] += 2 / len(data) * sum(r * row[j] for r, row in zip(residual, data, strict=True))
        means = [s / t for s in sums]
        if centred:
            step = math.sqrt(t) / gamma
            w = [soft(c - step * m, step * STRENGTH) for c, m in zip(centre, means, strict=True)]
        else:
            w = [
                0.0 if abs(m) <= STRENGTH else -math.sqrt(t) / gamma * (m - STRENGTH * math.copysign(1, m))
                for m in means
            ]
    return w


@pytest.mark.parametrize("centre", ["zero", "start"])
def test_rda_is_the_published_formula(lasso, centre):
    data, response, _ = lasso
    weight = start()
    optimizer = RDA([weight], lr=1 / 5, penalty=L1(STRENGTH), centre=centre)
    point = descend(optimizer, weight, data, response, 60)
    expected = naive_rda(data.tolist(), response.tolist(), start().tolist(), 60, 5.0, centre == "start")
    np.testing.assert_allclose(point, expected, rtol=1e-9, atol=1e-12)
    assert 0 < (point == 0).sum() < 8


def naive_xrda(data, response, w, steps, h, a, amplification, scale):
    keep = math.exp(-h / scale)
    size, velocity, due, y = [0.0] * 8, [0.0] * 8, [0.0] * 8, list(w)
    for _ in range(steps):
        residual = [sum(z * b for z, b in zip(row, w, strict=True)) - x for row, x in zip(data, response, strict=True)]
        gradient = [2 / len(data) * sum(r * row[j] for r, row in zip(residual, data, strict=True)) for j in range(8)]
        size = [keep * r + (1 - keep) * abs(b) for r, b in zip(size, w, strict=True)]
        for j in range(8):
            due[j] = a * due[j] + h * amplification / (1 + (amplification - 1) * size[j] / max(size))
            velocity[j] = keep * velocity[j] + (1 - keep) * gradient[j]
            y[j] = a * y[j] + (1 - a) * w[j] - h * velocity[j]
        w = [soft(b, STRENGTH * s) for b, s in zip(y, due, strict=True)]
    return w


@pytest.mark.parametrize("averaging", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("amplification", [1.0, 50.0])
def test_xrda_is_the_recursion_that_a_naive_loop_runs(lasso, averaging, amplification):
    data, response, _ = lasso
    weight = start()
    optimizer = XRDA([weight], lr=0.05, averaging=averaging, amplification=amplification, time_scale=0.2,
                     penalty=L1(STRENGTH))  # fmt: skip
    point = descend(optimizer, weight, data, response, 60)
    expected = naive_xrda(data.tolist(), response.tolist(), start().tolist(), 60, 0.05, averaging, amplification, 0.2)
    np.testing.assert_allclose(point, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("penalty", [GroupL1(0.4, dim=0), ElasticNet(0.5, 0.7), TransformedL1(0.2)], ids=repr)
def test_a_step_of_rda_minimises_its_three_terms_for_any_penalty(penalty):
    weight = start().detach().reshape(4, 2).clone().requires_grad_()
    centre, gradients = weight.detach().clone(), draws(9, (4, 2))
    point = feed(RDA([weight], lr=0.5, penalty=penalty, centre="start"), weight, gradients)
    mean = torch.stack(gradients).mean(0)

    def objective(w):
        return (mean * w).sum() + penalty.value(w) + 2 / (2 * 3) * ((w - centre) ** 2).sum()

    for size in (1e-3, 1e-1, 1.0):
        for move in draws(100, (4, 2), seed=5):
            assert objective(point) <= objective(point + size * move) + 1e-12


def test_xrda_with_a_0_is_proximal_sgd_with_averaged_momentum(lasso):
    data, response, _ = lasso
    mine, theirs = start(), start()
    momentum = math.exp(-0.05 / 0.2)
    sgd = ProxSGD([theirs], lr=0.05, momentum=momentum, dampening=momentum, penalty=L1(STRENGTH))
    sgd.state[theirs]["momentum_buffer"] = torch.zeros_like(theirs)  # torch would begin with the first gradient
    xrda = XRDA([mine], lr=0.05, averaging=0.0, time_scale=0.2, penalty=L1(STRENGTH))
    for steps in (1, 4, 200):
        torch.testing.assert_close(
            descend(xrda, mine, data, response, steps), descend(sgd, theirs, data, response, steps), rtol=0, atol=1e-13
        )
    assert "average" not in xrda.state[mine]


def test_xrda_with_a_1_is_dual_averaging_from_the_start_point(lasso):
    """Without momentum, RDA with √t/γ = h·t, that is 1/γ = h√t."""
    data, response, _ = lasso
    mine, theirs = start(), start()
    xrda = XRDA([mine], lr=0.05, averaging=1.0, time_scale=1e-4, penalty=L1(STRENGTH))
    rda = RDA([theirs], lr=0.05, centre="start", penalty=L1(STRENGTH))
    for step in range(1, 101):
        rda.param_groups[0]["lr"] = 0.05 * math.sqrt(step)
        torch.testing.assert_close(
            descend(xrda, mine, data, response, 1), descend(rda, theirs, data, response, 1), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("averaging", [0.0, 0.5, 0.9])
def test_xrda_ends_at_scikit_learns_solution_with_a_certificate(lasso, averaging):
    data, response, solution = lasso
    weight = start()
    optimizer = XRDA([weight], lr=0.05, averaging=averaging, time_scale=0.475, penalty=L1(STRENGTH))
    point = descend(optimizer, weight, data, response, 2000)
    torch.testing.assert_close(point, solution, rtol=0, atol=1e-10)
    assert torch.equal(point == 0, solution == 0)
    certificate = certify(optimizer, lambda: loss(weight, data, response), quadratic=True)
    assert certificate.converged
    assert certificate.gap < 1e-10


def test_rda_approaches_the_optimum_like_gamma_over_the_root_of_t(lasso):
    """Its zeros are right long before the rest."""
    data, response, solution = lasso
    weight = start()
    optimizer = RDA([weight], lr=0.5, penalty=L1(STRENGTH))
    for steps in (1000, 3000):
        point = descend(optimizer, weight, data, response, steps)
        taken = float(optimizer.state[weight]["step"])
        certificate = certify(optimizer, lambda: loss(weight, data, response))
        assert torch.equal(point == 0, solution == 0)
        # The sum of the gradients is -t(λ + γw/√t) on the support; the last one is what a step adds to that.
        assert certificate.residual == pytest.approx(float(point.abs().max()) / (2 * 0.5 * taken**0.5), rel=0.05)


def test_centred_at_the_start_an_optimum_is_kept_and_centred_at_zero_it_is_lost(lasso):
    data, response, solution = lasso
    kept, lost = solution.clone().requires_grad_(), solution.clone().requires_grad_()
    stay = descend(RDA([kept], lr=0.1, penalty=L1(STRENGTH), centre="start"), kept, data, response, 200)
    torch.testing.assert_close(stay, solution, rtol=0, atol=1e-10)
    leave = descend(RDA([lost], lr=0.1, penalty=L1(STRENGTH)), lost, data, response, 1)
    assert (leave - solution).abs().max() > 0.5


def test_too_small_a_gamma_grows_without_bound_on_a_full_batch(lasso):
    data, response, solution = lasso
    sharpness = 2 / len(data) * torch.linalg.matrix_norm(data, 2).item() ** 2
    stable, unstable = (
        descend(RDA([weight], lr=factor / sharpness, penalty=L1(STRENGTH)), weight, data, response, 200)
        for factor, weight in ((1, start()), (50, start()))
    )
    assert stable.abs().max() < 2 * solution.abs().max()
    assert unstable.abs().max() > 1e6


def test_adaptive_weights_are_one_for_the_largest_and_m_for_zero():
    weights = adaptive_weights(torch.tensor([0.0, 1.0, 2.0]), 10.0)
    torch.testing.assert_close(weights, torch.tensor([10.0, 10 / 5.5, 1.0]))
    torch.testing.assert_close(adaptive_weights(torch.zeros(3), 10.0), torch.full((3,), 10.0))
    assert adaptive_weights(torch.zeros(0), 10.0).shape == (0,)


def test_the_largest_size_is_taken_over_the_dimensions_asked_for():
    """Rows as parameters of their own, or one parameter whose largest is taken by row."""
    gradients = draws(30, (3, 4))
    whole = torch.ones(3, 4, dtype=torch.float64) * torch.tensor([[1.0], [5.0], [0.1]], dtype=torch.float64)
    rows = [row.clone().requires_grad_() for row in whole]
    whole.requires_grad_()
    options = {"lr": 0.05, "amplification": 30.0, "penalty": L1(0.1)}
    together = feed(XRDA([whole], amplification_dim=-1, **options), whole, gradients)
    for i, row in enumerate(rows):
        apart = feed(XRDA([row], **options), row, [gradient[i] for gradient in gradients])
        torch.testing.assert_close(together[i], apart, rtol=0, atol=0)
    mixed = torch.ones(3, 4, dtype=torch.float64) * torch.tensor([[1.0], [5.0], [0.1]], dtype=torch.float64)
    mixed.requires_grad_()
    assert not torch.equal(feed(XRDA([mixed], **options), mixed, gradients), together)


# As torch optimisers


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_saved_loaded_and_continued_it_is_as_if_it_had_never_stopped(name, dtype):
    gradients = draws(20)
    through, stopped = start(dtype), start(dtype)
    expected = feed(OPTIMISERS[name]([through], penalty=L1(0.1)), through, gradients)
    first = OPTIMISERS[name]([stopped], penalty=L1(0.1))
    feed(first, stopped, gradients[:7])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = OPTIMISERS[name]([stopped], lr=9.0, averaging=0.1) if "XRDA" in name else RDA([stopped], lr=9.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.param_groups[0]["penalty"] == {"name": "L1", "strength": 0.1, "weights": None,
                                                 "complex_rule": "magnitude"}  # fmt: skip
    assert torch.equal(feed(second, stopped, gradients[7:]), expected)
    sums = [v for k, v in second.state[stopped].items() if k in ("gradient_sum", "gradient_mean", "average")]
    assert sums
    assert all(total.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype) for total in sums)


@every
def test_copies_and_pickles_go_on_as_the_original(name):
    gradients, weight = draws(12), start()
    optimizer = OPTIMISERS[name]([weight], penalty=L1(0.1))
    feed(optimizer, weight, gradients[:5])
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    expected = feed(optimizer, weight, gradients[5:])
    for made in copies:
        assert torch.equal(feed(made, made.param_groups[0]["params"][0], gradients[5:]), expected)


@every
def test_hooks_fire_once_and_see_the_final_weights(name):
    weight = start()
    torch.optim.SGD([weight.clone().detach()], lr=0.1)  # after which torch wraps the steps of plain optimisers
    optimizer, seen = OPTIMISERS[name]([weight], penalty=L1(0.1)), []
    optimizer.register_step_pre_hook(lambda *_: seen.append(weight.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: seen.append(weight.detach().clone()))
    final = feed(optimizer, weight, draws(1))
    assert len(seen) == 2
    assert torch.equal(seen[0], start().detach())
    assert torch.equal(seen[1], final)


@every
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(name):
    weight = start()
    optimizer = OPTIMISERS[name]([weight], penalty=L1(0.1))

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    value = (start() ** 2).sum().item()
    assert optimizer.step(closure).item() == value
    assert not torch.equal(weight, start())


@every
def test_maximize_flips_the_loss_only_and_weight_decay_is_added_to_it(name):
    gradients = draws(15)
    one, two, three, four = (start() for _ in range(4))
    down = feed(OPTIMISERS[name]([one], penalty=L1(0.1)), one, gradients)
    up = feed(OPTIMISERS[name]([two], penalty=L1(0.1), maximize=True), two, [-gradient for gradient in gradients])
    assert torch.equal(down, up)
    decaying = OPTIMISERS[name]([three], penalty=L1(0.1), weight_decay=0.2)
    by_hand = OPTIMISERS[name]([four], penalty=L1(0.1))
    for gradient in gradients:
        feed(decaying, three, [gradient])
        feed(by_hand, four, [gradient + 0.2 * four.detach()])
    torch.testing.assert_close(three, four, rtol=1e-12, atol=1e-14)
    assert not torch.equal(three.detach(), down)


@every
def test_parameters_without_a_gradient_are_left_alone(name):
    frozen, weight = start(), start()
    optimizer = OPTIMISERS[name]([frozen, weight], penalty=L1(0.1))
    feed(optimizer, weight, draws(3))
    assert torch.equal(frozen, start())
    assert frozen not in optimizer.state


@every
def test_a_sparse_gradient_is_refused_before_anything_is_changed(name):
    weight, table = start(), torch.ones(4, 2, requires_grad=True)
    optimizer = OPTIMISERS[name]([weight, table], penalty=L1(0.1))
    weight.grad, table.grad = torch.ones(8, dtype=torch.float64), torch.ones(4, 2).to_sparse()
    with pytest.raises(ValueError, match=r"torch.sparse_coo; dual averaging moves.* sparse=False$"):
        optimizer.step()
    assert torch.equal(weight, start())
    assert not optimizer.state


@every
def test_each_group_has_options_of_its_own(name):
    gradients = draws(9)
    one, two = start(), start()
    options = {"lr": 0.01, "penalty": L1(0.5), "weight_decay": 0.1}
    together = OPTIMISERS[name]([{"params": [one]}, {"params": [two], **options}], penalty=None)
    for gradient in gradients:
        two.grad = gradient
        feed(together, one, [gradient])
    alone, other = start(), start()
    assert torch.equal(one, feed(OPTIMISERS[name]([alone]), alone, gradients))
    assert torch.equal(two, feed(OPTIMISERS[name]([other], **options), other, gradients))


@every
def test_a_step_size_of_zero_moves_nothing(name):
    weight = start()
    optimizer = OPTIMISERS[name]([weight], lr=0.0, penalty=L1(0.1))
    assert torch.equal(feed(optimizer, weight, draws(3)), start())
    optimizer.param_groups[0]["lr"] = 0.1
    assert not torch.equal(feed(optimizer, weight, draws(1)), start())


@every
def test_a_step_size_may_be_a_tensor(name):
    gradients = draws(9)
    number, tensor = start(), start()
    expected = feed(OPTIMISERS[name]([number], lr=0.125, penalty=L1(0.1)), number, gradients)
    for rate in (torch.tensor(0.125), torch.tensor([0.125])):
        tensor = start()
        assert torch.equal(feed(OPTIMISERS[name]([tensor], lr=rate, penalty=L1(0.1)), tensor, gradients), expected)


@every
def test_complex_components_are_two_real_parameters(name):
    if "adaptive" in name:
        pytest.skip("its weights are those of magnitudes")
    gradients = draws(9, dtype=torch.complex128)
    both = torch.complex(start().detach(), start().detach().flip(0)).requires_grad_()
    real = torch.view_as_real(both.detach()).clone().requires_grad_()
    found = feed(OPTIMISERS[name]([both], penalty=L1(0.1, complex_rule="components")), both, gradients)
    expected = feed(OPTIMISERS[name]([real], penalty=L1(0.1)), real, [torch.view_as_real(g) for g in gradients])
    torch.testing.assert_close(torch.view_as_real(found), expected, rtol=0, atol=1e-14)


def test_in_bfloat16_rda_is_the_rounding_of_rda_in_float32():
    """Steps below the spacing of bfloat16 add up, and so does the shrinkage."""
    gradients = [gradient.bfloat16().float() for gradient in draws(300, dtype=torch.float32)]
    rough, precise = start(torch.bfloat16), start(torch.bfloat16).float().detach().requires_grad_()
    options = {"lr": 2e-3, "penalty": L1(0.5), "centre": "start"}
    found = feed(RDA([rough], **options), rough, gradients)
    assert torch.equal(found, feed(RDA([precise], **options), precise, gradients).bfloat16())
    # One step shrinks by 0.001, where the spacing below 1 is 0.004.
    assert found[-1] < 1


def test_a_penalty_that_is_not_convex_is_refused_where_its_prox_is_not_one_point():
    weight = start()
    optimizer = RDA([weight], lr=1.0, penalty=MCP(0.1, gamma=2.5))
    feed(optimizer, weight, draws(6))
    before, total = weight.detach().clone(), optimizer.state[weight]["gradient_sum"].clone()
    weight.grad = torch.ones_like(weight)
    with pytest.raises(ValueError, match=r"step is 2.64575.*below 2.5"):
        optimizer.step()
    assert torch.equal(weight, before)
    assert torch.equal(optimizer.state[weight]["gradient_sum"], total)
    extended = XRDA([weight], lr=1.0, averaging=1.0, penalty=MCP(0.1, gamma=2.5))
    feed(extended, weight, draws(2))
    with pytest.raises(ValueError, match=r"step is 3;.*below 2.5"):
        extended.step()


@every
def test_an_overflow_under_a_gradient_scaler_leaves_weights_and_sums_untouched(name):
    weight = start(torch.float32)
    optimizer, scaler = OPTIMISERS[name]([weight], penalty=L1(0.1)), torch.amp.GradScaler("cpu", init_scale=1e38)
    scaler.scale((weight**2).sum() * 1e10).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight, start(torch.float32))
    assert not optimizer.state


@every
def test_options_that_an_older_checkpoint_lacks_are_filled_in(name):
    weight = start()
    optimizer = OPTIMISERS[name]([weight], penalty=L1(0.1))
    feed(optimizer, weight, draws(2))
    state = optimizer.state_dict()
    for option in ("maximize", "weight_decay", "centre", "averaging", "amplification_dim", "penalty"):
        state["param_groups"][0].pop(option, None)
    optimizer.load_state_dict(state)
    feed(optimizer, weight, draws(2))
    assert optimizer.param_groups[0]["penalty"]["strength"] == 0.1


def test_unknown_options_in_a_checkpoint_are_refused_before_anything_is_changed():
    weight = start()
    optimizer = RDA([weight], lr=0.1, penalty=L1(0.1))
    feed(optimizer, weight, draws(2))
    for option, value in (("centre", "mean"), ("lr", -1.0), ("penalty", {"name": "L7", "strength": 1.0})):
        state = optimizer.state_dict()
        state["param_groups"][0][option] = value
        with pytest.raises(ValueError, match=str(value if option != "penalty" else "L7")):
            optimizer.load_state_dict(state)
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert optimizer.param_groups[0]["centre"] == "zero"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: RDA([w], lr=-0.1), "lr is -0.1"),
        (lambda w: RDA([w], lr=math.nan), "lr is nan"),
        (lambda w: RDA([w], lr=torch.tensor([0.1, 0.2])), r"lr has shape \(2,\)"),
        (lambda w: RDA([w], lr=torch.tensor(-0.1)), r"lr is tensor\(-0.1"),
        (lambda w: RDA([w], lr=0.1, centre="mean"), "centre is 'mean'; accepted are zero, start"),
        (lambda w: RDA([w], lr=0.1, weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda w: RDA([{"params": [w], "centre": 0.0}], lr=0.1), "centre is 0.0"),
        (lambda w: XRDA([w], lr=0.1, averaging=1.5), "averaging is 1.5"),
        (lambda w: XRDA([w], lr=0.1, amplification=0.5), "amplification is 0.5"),
        (lambda w: XRDA([w], lr=0.1, time_scale=0.0), "time_scale is 0.0"),
        (lambda w: XRDA([w], lr=0.1, amplification_dim=1), r"amplification_dim is 1; .* \(8,\)"),
        (lambda w: XRDA([{"params": [w], "lr": -2.0}], lr=0.1), "lr is -2.0"),
        (lambda w: RDA([w], lr=0.1, penalty=GroupL1(0.1, index=[[0, 1], [2]])), "does not fit parameter 0"),
    ],
)
def test_options_out_of_their_range_are_refused_with_their_value(make, message):
    with pytest.raises(ValueError, match=message):
        make(start())


@every
def test_a_refused_group_is_not_added_and_a_refused_option_moves_nothing(name):
    weight = start()
    optimizer = OPTIMISERS[name]([weight], penalty=L1(0.1))
    with pytest.raises(ValueError, match="weight_decay is -1"):
        optimizer.add_param_group({"params": [start()], "weight_decay": -1.0})
    assert len(optimizer.param_groups) == 1
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr is -1"):
        feed(optimizer, weight, draws(1))
    assert torch.equal(weight, start())
    assert not optimizer.state


@pytest.mark.slow
@every
def test_a_compiled_step_is_the_step(name):
    """To rounding; torch breaks the graph where penalties are read, and compiles nothing anew at later steps."""
    gradients = draws(12)
    plain, compiled = start(), start()
    expected = feed(OPTIMISERS[name]([plain], penalty=L1(0.1)), plain, gradients)
    optimizer = OPTIMISERS[name]([compiled], penalty=L1(0.1))
    torch.compiler.reset()
    step = torch.compile(optimizer.step, backend="eager")
    for i, gradient in enumerate(gradients):
        compiled.grad = gradient
        with torch.compiler.set_stance("default" if i < 4 else "fail_on_recompile"):
            step()
    torch.testing.assert_close(compiled.detach(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [RDA, XRDA])
def test_the_step_size_has_torchs_default(kind):
    assert kind([start()]).param_groups[0]["lr"] == torch.optim.SGD([start()]).param_groups[0]["lr"]


@every
def test_counts_that_a_checkpoint_has_as_numbers_are_read(name):
    gradients = draws(8)
    through, stopped = start(), start()
    expected = feed(OPTIMISERS[name]([through], penalty=L1(0.1)), through, gradients)
    first = OPTIMISERS[name]([stopped], penalty=L1(0.1))
    feed(first, stopped, gradients[:4])
    state = copy.deepcopy(first.state_dict())
    for key in ("step", "prox_step"):
        if key in state["state"][0] and state["state"][0][key].ndim == 0:
            state["state"][0][key] = float(state["state"][0][key])
    second = OPTIMISERS[name]([stopped], penalty=L1(0.1))
    second.load_state_dict(state)
    assert torch.equal(feed(second, stopped, gradients[4:]), expected)


@every
def test_a_state_that_lacks_what_a_step_reads_is_refused_and_one_that_has_more_is_taken(name):
    weight = start()
    optimizer = OPTIMISERS[name]([weight], penalty=L1(0.1))
    feed(optimizer, weight, draws(2))
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["of_another_tool"] = torch.ones(3)
    state["param_groups"][0]["initial_lr"] = 0.1
    optimizer.load_state_dict(state)
    feed(optimizer, weight, draws(1))
    before = {key: value.clone() for key, value in optimizer.state[weight].items()}
    for key in optimizer.needed:
        lacking = copy.deepcopy(optimizer.state_dict())
        del lacking["state"][0][key]
        with pytest.raises(ValueError, match=f"state of parameter 0 has .* and lacks {key}"):
            optimizer.load_state_dict(lacking)
    adam = torch.optim.Adam([start()], lr=0.1)
    adam.param_groups[0]["params"][0].grad = torch.ones(8, dtype=torch.float64)
    adam.step()
    with pytest.raises(ValueError, match="lacks"):
        optimizer.load_state_dict(adam.state_dict())
    assert all(torch.equal(optimizer.state[weight][key], value) for key, value in before.items())
