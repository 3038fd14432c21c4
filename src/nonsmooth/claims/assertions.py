"""What the paper asserts, sentence by sentence in its order, and which claim tests it, or why none does.

The sentences are put in our words. Definitions, citations without a statement and descriptions of the paper itself
are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assertion:
    """A sentence that could be false.

    Attributes:
        where: section, or "abstract".
        says: the sentence, in our words.
        claims: ids of the claims that test it.
        untested: why no experiment tests it; needed if and only if `claims` is empty.
    """

    where: str
    says: str
    claims: tuple[str, ...] = ()
    untested: str = ""

    def __post_init__(self) -> None:
        if bool(self.claims) == bool(self.untested):
            raise ValueError(
                f"{self.says!r} has the claims {self.claims!r} and the reason {self.untested!r}: one of them"
            )


OPINION = "What ought to be done or believed; no experiment decides it."
LITERATURE = "About what others write or do; a search decides it, not an experiment."

ASSERTIONS = (
    Assertion("abstract", "NGDMs converge differently from GD.", ("capture", "rate", "depth")),
    Assertion("abstract", "Results that assume L-smoothness do not apply to non-smooth networks.", ("rate", "depth")),
    Assertion(
        "abstract", "A larger L1 penalty leads to a larger L1 norm of NGDM's solution.", ("paradox-2d", "paradox-lasso")
    ),
    Assertion("abstract", "Pruning by an L1 penalty does not give what is expected of it.", ("pruning", "vgg16-l1")),
    Assertion(
        "abstract",
        "The edge of stability does not apply even to convex, differentiable functions that are Lipschitz continuous.",
        ("huber-smooth", "unstable-convergence"),
    ),
    Assertion("abstract", "Its relevance to non-convex networks with kinks is inconclusive.", ("edge-of-stability",)),
    Assertion(
        "introduction", "Gradient methods iteratively approach points where the gradient is zero.", ("constant-step",)
    ),
    Assertion(
        "introduction",
        "Training seldom meets a point that is not differentiable.",
        ("never-zero", "kink-minima", "depth-kinks"),
    ),
    Assertion(
        "introduction", "References in the field take non-differentiability to be of no consequence.", (), LITERATURE
    ),
    Assertion("introduction", "NGDMs converge more slowly than GD.", ("rate", "depth", "gelu-figures")),
    Assertion(
        "introduction", "NGDMs give no sparse solution of even the simplest LASSO.", ("never-zero", "ways-forward")
    ),
    Assertion("introduction", "A larger LASSO penalty can give a larger L1 norm.", ("paradox-2d", "paradox-lasso")),
    Assertion(
        "introduction", "The edge of stability does not hold for all convex differentiable networks.", ("huber-smooth",)
    ),
    Assertion(
        "introduction",
        "A counter-example to Ma et al.: subquadratic growth is not what makes convergence unstable.",
        ("subquadratic",),
    ),
    Assertion("introduction", "GD and NGDM are systems with different dynamics.", ("capture", "oscillation", "rate")),
    Assertion("§1", "The literature takes both recursions to behave nearly the same.", (), LITERATURE),
    Assertion("§1", "ReLU regression with a response that is nowhere positive is convex.", ("kumar-convex",)),
    Assertion(
        "§1", "On convex functions NGDM is the subgradient method.", (), "True by definition of the two recursions."
    ),
    Assertion(
        "§1", "With a constant step GD approaches the stationary point and rarely converges to it.", ("constant-step",)
    ),
    Assertion(
        "§1",
        "Diminishing steps whose sum diverges reach the stationary point in the limit.",
        ("step-sizes", "oscillation"),
    ),
    Assertion("§1", "Reducing steps lose this guarantee.", ("step-sizes",)),
    Assertion(
        "§1",
        "The end of a run with reducing steps is a run with its last, constant step.",
        ("step-sizes", "paradox-2d"),
    ),
    Assertion(
        "§2", "The conditions under which NGDMs are known to converge are rarely met in practice.", (), LITERATURE
    ),
    Assertion("§2", "StepLR's steps have a finite sum, which breaks assumption A.3 of Davis et al.", ("step-sizes",)),
    Assertion("§2", "With steps of a finite sum GD still comes near the solution.", ("step-sizes",)),
    Assertion("§2", "Proposition 2.1: a falling loss keeps GD within the unit ball.", ("capture",)),
    Assertion("§2", "NGDM leaves the unit ball while its loss falls at every step (Figure 1).", ("capture",)),
    Assertion("§2", "So the dynamics of NGDM and GD are not identical.", ("capture",)),
    Assertion("§2", "Local minima of ReLU networks are, as a rule, at kinks.", ("kink-minima",)),
    Assertion("§2", "L-smoothness greatly overestimates the speed of NGDMs.", ("rate",)),
    Assertion("§2", "GD needs O(1/ε) steps, NGDM O(1/ε²).", ("rate",)),
    Assertion("§2", "Smooth networks train faster than networks with kinks.", ("depth", "gelu-figures")),
    Assertion("§2", "The gap between ReLU and GELU widens with depth (Figure 2).", ("depth",)),
    Assertion("§2", "More depth brings more non-smoothness.", ("depth-kinks",)),
    Assertion("§2", "Hendrycks & Gimpel's figures show the same trend.", ("gelu-figures",)),
    Assertion("§2", "L-smoothness implies two derivatives, the second of which is bounded.", ("huber-smooth",)),
    Assertion(
        "§2",
        "Most losses of networks are not L-smooth.",
        (),
        "A count of losses in the literature. Even a network with derivatives of every order need not be L-smooth.",
    ),
    Assertion("§2", "Future networks may have no kinks.", (), OPINION),
    Assertion(
        "§3", "Users are told that an L1 penalty under a first-order method gives sparse networks.", (), LITERATURE
    ),
    Assertion("§3", "NGDM's solution is unreliable even for a linear model.", ("paradox-lasso", "ways-forward")),
    Assertion("§3", "Proposition 3.1: no entry ever becomes zero, with probability 1.", ("never-zero",)),
    Assertion("§3", "An entry that is zero stays zero (eq. 8).", ("never-zero",)),
    Assertion("§3", "Proposition 3.2: the sequence does not converge.", ("oscillation",)),
    Assertion("§3", "Proposition 3.2: it ends between two vectors of infinity norm below αλ.", ("oscillation",)),
    Assertion("§3", "N₀ is the largest of the coordinates' steps (proof of 3.2).", ("oscillation",)),
    Assertion("§3", "In two dimensions λ = 100 has the larger norm; ten printed numbers.", ("paradox-2d",)),
    Assertion("§3", "Reducing the step does not resolve it.", ("paradox-2d",)),
    Assertion("§3", "On the LASSO λ = 10 ends with 25.4, the small λ with 1.62.", ("paradox-lasso",)),
    Assertion("§3", "λ‖β‖₁ is Lipschitz with the constant λ.", ("bound",)),
    Assertion("§3", "lim ‖β_k‖₁ < αλ (eq. 12).", ("bound",)),
    Assertion("§3", "The larger λ has the larger error because of that bound.", ("bound", "paradox-lasso")),
    Assertion("§3", "With diminishing steps the solution is 0 for every λ.", ("oscillation", "step-sizes")),
    Assertion("§3", "L1 penalties are adopted for pruning, and endorsed in NVIDIA's guides.", (), LITERATURE),
    Assertion("§3", "VGG16 ends with a norm 30 times larger at λ = 0.1 than at 0.001.", ("vgg16-l1",)),
    Assertion("§3", "99.7 % of its weights lie below 1e-5 at λ = 0.001, 0.01 % at 0.1.", ("vgg16-l1",)),
    Assertion("§3", "The same under other step sizes and under Adam, in each case.", ("vgg16-adam",)),
    Assertion(
        "introduction", "Adagrad, RMSprop, Adam and their kin are gradient methods as GD is.", ("adaptive-zeros",)
    ),
    Assertion("§3", "Methods exist that do give sparse solutions.", ("ways-forward",)),
    Assertion("§3", "SGD has a limited capability to exploit structure (Xiao 2009).", ("ways-forward",)),
    Assertion("§3", "PyTorch's solutions are not comparable to glmnet's.", ("ways-forward", "paradox-lasso")),
    Assertion("§3", "A solution at a kink is hard to reach.", ("ways-forward",)),
    Assertion("§3", "NGDM on λ‖β‖₁ diverges for no α.", ("oscillation", "unstable-convergence")),
    Assertion("§4", "Networks do not diverge above 2 over the largest eigenvalue.", ("edge-of-stability",)),
    Assertion("§4", "The edge of stability is derived from L-smoothness.", (), "A statement about a proof."),
    Assertion(
        "§4", "Proposition 4.1: convex functions with bounded subgradients never diverge.", ("unstable-convergence",)
    ),
    Assertion("§4", "Proposition 4.1's proof: lim f(x_k) - f* ≤ αL².", ("unstable-convergence",)),
    Assertion("§4", "Huber regression is not smooth, since it has one derivative and not two.", ("huber-smooth",)),
    Assertion("§4", "With larger α the Huber loss oscillates faster, and never diverges (Figure 3).", ("huber",)),
    Assertion("§4", "At α = 1 the Huber loss rises first.", ("huber",)),
    Assertion(
        "§4",
        "Results for L-smooth losses cannot be carried over to kinks.",
        ("huber-smooth", "rate", "edge-of-stability"),
    ),
    Assertion("§4", "Finite differences break down at the minima of ReLU networks.", ("curvature-estimates",)),
    Assertion("§4", "Huber grows quadratically at its minimum, and yet converges unstably.", ("subquadratic",)),
    Assertion("§4", "The missing second derivative is the reason.", ("subquadratic",)),
    Assertion("§4", "Every L-smooth function grows subquadratically while it converges unstably.", ("subquadratic",)),
    Assertion(
        "§4",
        "The convex single-layer network is a good toy problem: its minimum is known and at a kink.",
        ("toy-problem", "kumar-convex"),
    ),
    Assertion("§5", "The community should agree on assumptions about the loss surface.", (), OPINION),
)
"""In the paper's order, but for the list of variants, which stands beside the claim about them."""
