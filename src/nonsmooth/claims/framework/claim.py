"""What a claim is: a statement of the paper, and what the evidence says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nonsmooth.claims.framework.quantity import Finding

SCALES = ("quick", "standard", "paper")

MOST_SEEDS = 10**6
"""Of one experiment; a plan of more would not fit into memory."""

LAST_FIRST_SEED = 2**31 - 1
"""With `MOST_SEEDS` added it stays below 2³², which is where the generators of scikit-learn end."""


class Verdict(str, Enum):
    """The five things that evidence can say of a claim."""

    REPRODUCED = "reproduced"
    EXPLANATION_NOT_SUPPORTED = "reproduced, explanation not supported"
    WITH_CORRECTION = "reproduced with a correction"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Settings:
    """What the user asked for; `plan` turns it into cells.

    Attributes:
        scale: "quick" (two cores, minutes), "standard" (two cores, overnight) or "paper" (a GPU).
        data: name of the images that networks are trained on: "digits" or "cifar10".
        seeds: number of seeds of each random experiment, or None for the claim's own number at this scale.
        first_seed: the seeds are `first_seed`, `first_seed` + 1, ...
        part: conditions KEY=VALUE that restrict the plans to the cells that meet them (module `part`);
            a plan itself takes no notice of them.
    """

    scale: str = "quick"
    data: str = "digits"
    seeds: int | None = None
    first_seed: int = 0
    part: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", tuple(self.part))
        if self.scale not in SCALES:
            raise ValueError(f"scale is {self.scale!r}; accepted are {', '.join(SCALES)}")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; accepted is a number of at least 1")
        if self.seeds is not None and self.seeds > MOST_SEEDS:
            raise ValueError(f"seeds is {self.seeds}; accepted is a number of at most {MOST_SEEDS}")
        if not 0 <= self.first_seed <= LAST_FIRST_SEED:
            raise ValueError(f"first_seed is {self.first_seed}; accepted are 0 to {LAST_FIRST_SEED}")

    def seed_range(self, default: int) -> range:
        """The seeds of a random experiment that has `default` of them unless the user says otherwise."""
        count = default if self.seeds is None else self.seeds
        return range(self.first_seed, self.first_seed + count)


@dataclass(frozen=True)
class Alternative:
    """What the rule says where one choice is made otherwise, or a group of seeds is left out.

    Attributes:
        what: was changed, in words.
        verdict: what it then says.
        says: the same in plain words, which tell one correction from another; "" for the verdict itself.
    """

    what: str
    verdict: Verdict
    says: str = ""


@dataclass(frozen=True)
class Robustness:
    """Under how many reasonable alternatives a verdict stands.

    Attributes:
        verdict: that the rule gives as the choices were made.
        judged: the alternatives that change something the rule asks for, with their verdicts.
        not_judged: those that the stored cells do not allow, in words.
        unchanged: those that change nothing the rule asks for, and so cannot change the verdict; they do not count.
        says: the verdict in plain words.
    """

    verdict: Verdict
    judged: tuple[Alternative, ...] = ()
    not_judged: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    says: str = ""

    @property
    def stands(self) -> int:
        """How many alternatives leave the verdict, and its correction, as they are."""
        return len(self.judged) - len(self.flips)

    @property
    def flips(self) -> tuple[Alternative, ...]:
        """The alternatives that give another verdict, or the same one with another correction or ground."""
        return tuple(one for one in self.judged if (one.verdict, one.says) != (self.verdict, self.says))

    def __str__(self) -> str:
        return f"stands under {self.stands} of {len(self.judged)} alternatives"


@dataclass(frozen=True)
class Headline:
    """The three short texts of a claim's row in the summary table; each is computed from the evidence."""

    paper: str
    ours: str
    control: str


@dataclass(frozen=True)
class Judgement:
    """What the evidence says of a claim.

    Attributes:
        verdict: the verdict that the claim's rule gives.
        because: one or two sentences with the numbers that decided it.
        headline: the row of the summary table.
        measured: what was measured on the paper's own set-up.
        control: what was measured in the experiments that could refute the paper's explanation.
        predicted: what a formula or a model says beforehand, beside the measured values.
        correction: the statement as it holds; needed if and only if the verdict is `WITH_CORRECTION`.
        decided_by: for an inconclusive verdict, what size of experiment would decide it.
        notes: anything a careful reader should know, a sentence each.
        says: the verdict in five plain words or fewer; "" for the verdict itself.
        asked: names of the findings that the rule asks for: those that a reader sees first.
        would_change: which finding would have to be otherwise for which other verdict, a line each.
        robustness: what the rule says under other choices; None where none is declared.

    Raises:
        ValueError: a correction or the deciding size is missing, or stands where none belongs.
    """

    verdict: Verdict
    because: str
    headline: Headline
    measured: tuple[Finding, ...]
    control: tuple[Finding, ...]
    predicted: tuple[Finding, ...] = ()
    correction: str | None = None
    decided_by: str | None = None
    notes: tuple[str, ...] = ()
    says: str = ""
    asked: tuple[str, ...] = ()
    would_change: tuple[str, ...] = ()
    robustness: Robustness | None = None

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.WITH_CORRECTION) != (self.correction is not None):
            raise ValueError(f"verdict is {self.verdict!s} and correction is {self.correction!r}: both or neither")
        if (self.verdict is Verdict.INCONCLUSIVE) != (self.decided_by is not None):
            raise ValueError(f"verdict is {self.verdict!s} and decided_by is {self.decided_by!r}: both or neither")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper.

    Attributes:
        id: short name, as on the command line.
        title: a reader's title, one line.
        where: section, proposition, figure or equation of the paper.
        statement: what the paper says, in one to three plain sentences.
        explanation: why, according to the paper.
        control: the experiment that would come out differently if that explanation were wrong.
        paper: the numbers that the paper prints.
        edition: the version of the paper that the statement is taken from, with what later versions changed.
        plain: the statement in one sentence for somebody who has not read the paper; "" for the title.
    """

    id: str
    title: str
    where: str
    statement: str
    explanation: str
    control: str
    paper: tuple[Finding, ...] = ()
    edition: str = "February 2024 (arXiv 2401.08426, early version)"
    plain: str = ""
