"""The reference by task: which public names stand on which page. Modules that are not named here are internal."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import nonsmooth


@dataclass(frozen=True)
class Page:
    """A page of the reference.

    Attributes:
        file: its name under `reference/`, without the ending.
        title: what a reader wants.
        purpose: a sentence or two below the title.
        names: the public names in a reader's order, by the package or module that they are imported from.
    """

    file: str
    title: str
    purpose: str
    names: dict[str, str]

    def paths(self) -> list[str]:
        """Where each name is imported from, with the name."""
        return [f"{home}.{name}" for home, names in self.names.items() for name in names.split()]


PAGES = (
    Page(
        "optim",
        "Optimizers",
        "PyTorch's optimisers with a penalty: the prox makes exact zeros, and λ means one number under each.",
        {
            "nonsmooth.optim": "ProxSGD ProxAdam ProxAdamW ProxNAdam ProxRMSprop ProxAdagrad "
            "SteadySGD SteadyAdam SteadyAdamW SteadyNAdam SteadyRMSprop SteadyAdagrad RDA XRDA"
        },
    ),
    Page(
        "attach",
        "Penalties on a model, a target, averages, existing optimizers",
        "Say which weights are penalised and how many are to be zero, attach a penalty to an optimizer that exists, "
        "average weights and keep their zeros.",
        {"nonsmooth.optim": "penalize SparsityTarget attach takes_prox follow catch_up averaged SparseAverage"},
    ),
    Page(
        "penalties",
        "Penalties",
        "Value, prox, and distance to the subdifferential; and the class to write one's own from.",
        {
            "nonsmooth.penalties": "L1 ElasticNet GroupL1 SparseGroupL1 TransformedL1 MCP SCAD L0 Nuclear "
            "Penalty SeparablePenalty from_specification check_penalty",
            "nonsmooth.penalties.penalty": "check_above check_not_negative check_share",
        },
    ),
    Page(
        "certificates",
        "Certificates and gaps",
        "How far weights are from a solution, how many are exactly zero, and what the loss can still fall.",
        {"nonsmooth.optim": "certify Certificate TensorCertificate lasso_gap"},
    ),
    Page(
        "kinks",
        "Find kinks and penalties in a model",
        "Which operations are not differentiable everywhere, which penalties a loss holds, and how often a step "
        "crosses a kink.",
        {
            "nonsmooth.kinks": "scan Scan Operation Smoothness penalty_terms PenaltyTerm crossings Crossings "
            "LayerCrossings"
        },
    ),
    Page(
        "curvature",
        "Measure curvature",
        "Sharpness, the stability threshold of an optimizer, smoothness along steps, the gap that kinks leave.",
        {
            "nonsmooth.curvature": "sharpness Sharpness optimizer_sharpness OptimizerSharpness stability_threshold "
            "StabilityThreshold kink_gap KinkGap evaluate_point Point step_smoothness StepSmoothness "
            "directional_smoothness gradient_quotient oscillation_smoothness OscillationSmoothness hessian_operator "
            "HessianOperator largest_eigenpair Eigenpair"
        },
    ),
    Page(
        "dynamics",
        "Predict where training ends",
        "The stationary law of an optimizer at a kink, and methods iterated over ensembles of seeds and step sizes.",
        {
            "nonsmooth.dynamics": "stationary_law StationaryLaw iterate Run subgradient_step proximal_step "
            "Constant Diminishing Reducing",
            "nonsmooth.dynamics.recording": "loss norm Trace Points Largest Smallest Count FirstStep LastStep "
            "log_spaced evenly_spaced",
        },
    ),
    Page(
        "estimators",
        "scikit-learn estimators",
        "Linear models and small networks with any penalty, for pipelines and cross-validation.",
        {"nonsmooth.estimators": "ProxRegressor ProxClassifier ProxRegressorCV ProxClassifierCV Path ValidationCurve"},
    ),
    Page(
        "select",
        "Choose the sparsity",
        "Any model along a sequence of λ, the choice of one, refitting on its support, and stability selection.",
        {
            "nonsmooth.select": "sparsity_path SparsityPath PathPoint PathRun refit Refit stability_selection "
            "StabilitySelection"
        },
    ),
    Page(
        "claims",
        "Claims, figures and results",
        "Run a claim, read what was stored, write a claim, draw it.",
        {
            "nonsmooth.claims": "load_claim measure_cell claim_ids read_settings stored_records check_claim "
            "Study Claim Headline Settings Run Scale Evidence Runs NotStoredError Quantity Estimate Fact Word Missing "
            "Findings "
            "Value Rule Row Outcome below above within holds surely typically_below typically_above Choice "
            "Choices Afterthought Judgement Verdict",
            "nonsmooth.figures": "Figure Panel Axis Series",
            "nonsmooth.report": "write_report render REPORT_FILE",
        },
    ),
    Page(
        "lab",
        "Lab and storage",
        "Run cells of work here or on a cluster, store each record, and go on where a run was interrupted.",
        {
            "nonsmooth.lab": "run Cell Context Record Scalar Store Outcome Watcher SilentWatcher LabError Interrupted",
        },
    ),
    Page(
        "problems",
        "Problems, models and data",
        "Convex test problems with known minimisers, networks to study, and images.",
        {
            "nonsmooth.problems": "Problem Evaluation Regression lasso huber_regression relu_regression l1_norm "
            "RoundedL1 Sum RoundedLargestCoordinate QuadraticChain RisingChain "
            "SupportFunction LargestCoordinate SlopedLine Loss Squared Absolute Huber PseudoHuber Power Link "
            "Identity Relu QuadraticRelu Softplus",
            "nonsmooth.models": "vgg CONFIGURATIONS WEIGHT_LAYERS INITIALIZATIONS ACTIVATIONS Activation SmoothReLU "
            "PiecewiseLinearGELU "
            "cross_entropies draw_perceptrons match_perceptrons match_scales preactivations",
            "nonsmooth.data": "load_images Images DataError",
        },
    ),
)
"""In the order of the navigation."""


def index() -> str:
    """The page that leads to the others."""
    rows = "\n".join(f"| [{page.title}]({page.file}.md) | {page.purpose} |" for page in PAGES)
    top = ", ".join(f"`{name}`" for name in sorted(nonsmooth.__dir__(), key=str.lower) if name in nonsmooth._HOMES)
    return (
        "# Reference\n\n"
        "The public classes and functions, by task, from their docstrings. What is not listed here is internal and may "
        "change. Symbols of the paper stand beside the names; shapes are those of tensors.\n\n"
        f"| to | |\n|---|---|\n{rows}\n\n"
        f"At the top, after `import nonsmooth as ns`, stand {top}.\n"
    )


def text_of(page: Page) -> str:
    """A page: its names with a line each, then their docstrings."""
    rows = "\n".join(f"| [`{path}`][{identifier(path)}] | {first_line(path)} |" for path in page.paths())
    entries = "\n\n".join(
        f'::: {identifier(path)}\n    options:\n      heading: "{path}"\n      toc_label: "{path.rpartition(".")[2]}"'
        for path in page.paths()
    )
    return f"# {page.title}\n\n{page.purpose}\n\n| name | |\n|---|---|\n{rows}\n\n{entries}\n"


def value_of(path: str) -> Any:
    """What a path such as `nonsmooth.optim.certify` leads to."""
    home, _, name = path.rpartition(".")
    return getattr(importlib.import_module(home), name)


def identifier(path: str) -> str:
    """The path under which the documentation's tools find a name: its own, unless a module is called the same."""
    is_package = hasattr(importlib.import_module(path.rpartition(".")[0]), "__path__")
    if is_package and find_spec(path) is not None:
        value = value_of(path)
        return f"{value.__module__}.{value.__qualname__}"
    return path


def first_line(path: str) -> str:
    """The first sentence of a docstring; nothing for data."""
    value = value_of(path)
    text = (value.__doc__ or "").strip().split("\n\n")[0] if callable(value) else ""
    return " ".join(text.split()).replace("|", "\\|")
