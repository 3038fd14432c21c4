"""Products against dense Hessians, by both methods; and what happens where autograd refuses."""

import pytest
import torch
from cases import CASES, dense_hessian
from torch import nn
from torch.nn import functional

from nonsmooth.curvature import hessian_operator, sharpness

SMOOTH = ["gelu", "tanh, trained", "attention", "tied and frozen", "negative-dominant"]


def dense_by_products(case, method):
    with hessian_operator(case.closure, case.parameters, mode=case.mode, method=method) as operator:
        rows = torch.stack([operator.product(row) for row in torch.eye(operator.size, dtype=operator.dtype)])
        assert operator.products == operator.size
        assert operator.method == (method or "double backward")
        return rows


@pytest.mark.parametrize("name", ["batch norm, training", "attention", "tied and frozen", "convolution"])
def test_products_with_the_unit_vectors_are_the_dense_hessian(name):
    case = CASES[name]()
    torch.testing.assert_close(dense_by_products(case, None), dense_hessian(case), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_on_smooth_losses_differences_agree(name):
    case = CASES[name]()
    exact = sharpness(case.closure, case.parameters, mode=case.mode)
    differences = sharpness(case.closure, case.parameters, mode=case.mode, method="finite differences")
    assert differences.method == "finite differences"
    assert differences.reason is None
    assert differences.value == pytest.approx(exact.value, rel=1e-4)


def test_across_kinks_differences_are_another_quantity():
    """|w| has no second derivative where autograd looks, and differences across 0 see the jump."""
    weight = torch.tensor([1e-7, 2.0], dtype=torch.float64, requires_grad=True)

    def loss():
        return weight.abs().sum()

    assert sharpness(loss, [weight]).value == 0
    assert sharpness(loss, [weight], method="finite differences").value > 1e4


class OnceDifferentiable(torch.autograd.Function):
    """x³ whose backward pass is not differentiable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * 3 * x**2


def test_where_autograd_refuses_differences_are_taken_and_the_record_says_so():
    weight = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)

    def loss():
        return OnceDifferentiable.apply(weight).sum()

    found = sharpness(loss, [weight])
    assert found.value == pytest.approx(12, rel=1e-6)
    assert found.lowest == pytest.approx(-6, rel=1e-6)
    assert found.method == "finite differences"
    assert "once_differentiable" in found.reason
    with (
        pytest.raises(RuntimeError, match=r"method is 'double backward', which autograd refuses here: .*once_diff"),
        hessian_operator(loss, [weight], method="double backward") as operator,
    ):
        operator.product(torch.ones(3, dtype=torch.float64))


def test_a_closure_that_calls_backward_itself_is_measured_by_differences():
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)

    def closure():
        weight.grad = None
        loss = (weight**4).sum()
        loss.backward()
        return loss

    closure()
    kept = weight.grad
    content = kept.clone()
    found = sharpness(closure, [weight])
    assert found.value == pytest.approx(48, rel=1e-6)
    assert found.reason == "the closure calls backward itself"
    assert weight.grad is kept
    assert torch.equal(weight.grad, content)


def test_a_closure_that_calls_backward_leaves_the_gradients_of_other_parameters_alone():
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), torch.randn(9, 3).double()

    def closure():
        loss = model(rows).square().mean()
        loss.backward()
        return loss

    closure()
    kept = [(parameter.grad, parameter.grad.clone()) for parameter in model.parameters()]
    sharpness(closure, model[2].parameters())
    for parameter, (gradient, content) in zip(model.parameters(), kept, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, content)


def test_fused_attention_alone_has_no_second_derivative():
    """The reason for the plain one, also where the closure insists; if torch learns it, the detour can go."""
    tokens = torch.randn(1, 1, 5, 8, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        loss = functional.scaled_dot_product_attention(tokens, tokens, tokens).square().sum()
        (slope,) = torch.autograd.grad(loss, tokens, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(slope.sum(), tokens)

    def loss_that_insists():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return functional.scaled_dot_product_attention(tokens, tokens, tokens).square().sum()

    insisted = sharpness(loss_that_insists, [tokens])
    assert insisted.method == "double backward"
    plain = sharpness(lambda: functional.scaled_dot_product_attention(tokens, tokens, tokens).square().sum(), [tokens])
    assert plain.method == "double backward"


def test_errors_of_the_closure_are_not_taken_for_a_refusal():
    weight = torch.ones(2, requires_grad=True)

    def broken():
        return (weight @ torch.ones(3)).sum()

    with pytest.raises(RuntimeError, match="size"):
        sharpness(broken, [weight])


def test_parameters_that_come_twice_or_not_at_all():
    torch.manual_seed(0)
    used, unused = torch.ones(3, requires_grad=True), torch.ones(4, requires_grad=True)
    frozen = torch.ones(5)
    with hessian_operator(lambda: used @ used, [used, unused, frozen, used]) as operator:
        assert operator.size == 7
        product = operator.product(torch.ones(7))
        assert [part.shape for part in operator.split(product)] == [used.shape, unused.shape]
    assert product.tolist() == [2, 2, 2, 0, 0, 0, 0]


def test_vectors_are_in_the_widest_type_and_weights_of_any_are_accepted():
    narrow, wide = torch.ones(2, dtype=torch.bfloat16, requires_grad=True), torch.ones(2, requires_grad=True)
    with hessian_operator(lambda: narrow.float().square().sum() + wide.square().sum(), [narrow, wide]) as operator:
        assert operator.product(torch.ones(4)).tolist() == [2] * 4
        assert operator.dtype == torch.float32
        with pytest.raises(ValueError, match=r"vector has shape \(3,\); accepted is \(4,\)"):
            operator.product(torch.ones(3))


@pytest.mark.slow
def test_a_compiled_model_is_measured_by_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    rows = torch.randn(20, 4).double()
    expected = sharpness(lambda: model(rows).square().mean(), model.parameters())
    compiled = torch.compile(model)
    found = sharpness(lambda: compiled(rows).square().mean(), model.parameters(), model=model)
    assert found.value == pytest.approx(expected.value, rel=1e-4)
    assert found.method == "finite differences"
    assert found.reason


@pytest.mark.slow
def test_a_compiled_model_that_is_not_named_is_found_all_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)).double()
    rows, compiled = torch.randn(20, 4).double(), torch.compile(model)
    for mode in ("train", "eval"):
        expected = sharpness(lambda: model(rows).square().mean(), model.parameters(), mode=mode)
        found = sharpness(lambda: compiled(rows).square().mean(), model.parameters(), mode=mode)
        assert found.value == pytest.approx(expected.value, rel=1e-3)
    with pytest.raises(ValueError, match="mode is None"):
        sharpness(lambda: compiled(rows).square().mean(), model.parameters())
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("method", [None, "finite differences"])
def test_there_are_no_products_after_the_block_or_of_other_weights(method):
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    weight.grad = kept = torch.ones_like(weight)

    def loss():
        return weight.pow(4).sum()

    with hessian_operator(loss, [weight], method=method) as operator:
        torch.testing.assert_close(operator.product(torch.ones(3).double()), torch.full((3,), 12.0).double())
        for wrong in ([1.0, 1.0, 1.0], None):
            with pytest.raises(TypeError, match="vector is a"):
                operator.product(wrong)
        with torch.no_grad():
            weight.mul_(2)
        with pytest.raises(RuntimeError, match="weights changed inside"):
            operator.product(torch.ones(3).double())
    with pytest.raises(RuntimeError, match="has ended"):
        operator.product(torch.ones(3).double())
    assert weight.grad is kept
