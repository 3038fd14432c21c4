"""A study: cells to experiments, records to findings, alternatives, and verdicts that hang on a choice."""

import pytest

from nonsmooth.claims import (
    Choice,
    Claim,
    Evidence,
    Findings,
    Headline,
    NotStoredError,
    Outcome,
    Quantity,
    Row,
    Rule,
    Settings,
    Study,
    Verdict,
    below,
)
from nonsmooth.claims.framework.checking import check_claim
from nonsmooth.lab import Cell, Context, Record

SHARE = Quantity("share", "share that moves")
LIMIT = Choice("limit", 0.5, (0.3, 0.7), "the limit", "halfway")


def make(length_condition="", limit=LIMIT):
    """Runs of several lengths; a run moves if its number lies above the length."""
    length = Choice("length", 1, (2, 3), "run length", "short", length_condition)
    study = Study(
        Claim("made-up", "A title", "§1", "It moves.", "Because.", "A control."),
        rule=Rule(
            Row(below(SHARE, limit), Outcome(Verdict.NOT_REPRODUCED, "it stays")),
            otherwise=Outcome(Verdict.REPRODUCED, "it moves"),
        ),
        headline=Headline("moves", "{share:.0%}", ""),
        choices=(limit, length),
    )

    @study.experiment(part="walk", seed_axes={"reached": 0})
    def walk(run, *, seeds):
        return {"reached": [run.seed + 2.5] * seeds}

    @study.experiment(part="other")
    def other(run, *, width):
        return {"width": width}

    @study.planned
    def plan(scale):
        yield walk.cell(seeds=scale.seeds(20, 200), cost=0.1)
        yield other.cell(width=0.5, seed=3)

    @study.findings
    def findings(evidence, choices):
        reached = evidence[walk].joined("reached")
        if choices.length == 3 and len(reached) == 7:
            raise NotStoredError("seven are too few")
        return Findings([SHARE.share(int((reached > choices.length).sum()), len(reached))])

    study.figures(lambda evidence, found: [])
    return study


def records_of(study, settings=None):
    return [Record(cell, study.measure(cell, Context())) for cell in study.plan(settings or Settings())]


def test_a_cell_finds_its_experiment_and_only_that():
    study = make()
    assert study.measure(Cell("made-up", {"part": "other", "width": 2.0}), Context()) == {"width": 2.0}
    with pytest.raises(ValueError, match="no experiment"):
        study.measure(Cell("made-up", {"part": "other", "size": 2.0}), Context())


def test_a_cell_with_other_parameters_is_refused():
    with pytest.raises(TypeError, match="walk differ in the parameters seeds, width"):
        make().experiments[0].cell(width=3)


def test_the_verdict_is_judged_under_every_alternative():
    study = make("for runs of length {value}")
    judgement = study.judge(records_of(study))
    assert judgement.verdict is Verdict.REPRODUCED
    assert str(judgement.robustness) == "stands under 7 of 8 alternatives"  # 2 limits, 1 length, 5 groups of seeds
    assert judgement.robustness.unchanged == ("run length: 2 instead of 1",)
    (flip,) = judgement.robustness.flips
    assert flip.what == "run length: 3 instead of 1"
    assert flip.verdict is Verdict.NOT_REPRODUCED
    assert "This holds for runs of length 1." in judgement.because


def test_a_verdict_that_a_choice_turns_is_not_given():
    study = make()
    judgement = study.judge(records_of(study))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "run length: 3 instead of 1" in judgement.because
    assert judgement.robustness.stands == 7


def test_an_alternative_that_the_cells_do_not_allow_is_named():
    study = make()
    judgement = study.judge(records_of(study, Settings(seeds=7)))
    assert judgement.robustness.not_judged == ("run length: 3 instead of 1: seven are too few",)
    assert judgement.verdict is Verdict.REPRODUCED


def test_another_correction_is_another_outcome():
    """The verdict is the same, what it corrects is not."""
    study = make("for runs of length {value}")
    outcome = Outcome(Verdict.WITH_CORRECTION, "it stays", correction="It stays.")
    study.rule = Rule(
        Row(below(SHARE, LIMIT), outcome),
        otherwise=Outcome(Verdict.WITH_CORRECTION, "it moves", correction="It moves."),
    )
    robustness = study.judge(records_of(study)).robustness
    (flip,) = robustness.flips
    assert (flip.what, flip.says) == ("run length: 3 instead of 1", "it stays")
    assert robustness.stands == 7


def test_a_choice_that_nothing_reads_does_not_count():
    study = make("for runs of length {value}")
    study.choices = (*study.choices, Choice("name", "a", ("b", "c"), "the name", "short"))
    robustness = study.judge(records_of(study)).robustness
    assert len(robustness.judged) == 8
    assert "the name: b instead of a" in robustness.unchanged


def test_seeds_whose_lack_leaves_too_little_are_named():
    study = make("for runs of length {value}")
    assert str(study.judge(records_of(study, Settings(seeds=9))).robustness).endswith("of 8 alternatives")

    @study.findings
    def findings(evidence, choices):
        reached = evidence[study.experiments[0]].joined("reached")
        if len(reached) < 8:
            raise NotStoredError("fewer than eight seeds")
        return Findings([SHARE.share_of(reached > choices.length)])

    not_judged = study.judge(records_of(study, Settings(seeds=9))).robustness.not_judged
    assert not_judged == tuple(
        f"4 of 5 groups of seeds, without group {group}: fewer than eight seeds" for group in (1, 2, 3, 4)
    )


def test_a_cell_with_few_seeds_is_kept_whole_beside_one_with_many():
    study = make()
    cells = [Record(Cell("made-up", {"part": "walk", "seeds": n}), {"reached": list(range(n))}) for n in (10, 1)]
    evidence = study_evidence(study, cells)
    assert evidence.groups() == 5
    for group in range(5):
        assert [len(r["reached"]) for r in evidence.without(group, 5).records] == [8, 1]


def test_leaving_out_seeds_leaves_out_every_fifth_of_each_list():
    study = make()
    record = Record(Cell("made-up", {"part": "walk", "seeds": 10}), {"reached": list(range(10))})
    evidence = study_evidence(study, [record])
    left = [evidence.without(group, 5)[study.experiments[0]].joined("reached").tolist() for group in range(5)]
    assert left[1] == [0, 2, 3, 4, 5, 7, 8, 9]
    assert sorted(x for part in left for x in part) == sorted(list(range(10)) * 4)


def study_evidence(study, records):
    return Evidence(records, study.experiments)


def test_seeds_that_have_cells_of_their_own_are_left_out_too():
    study = make()
    records = [
        Record(Cell("made-up", {"part": "other", "width": 1.0}, seed=seed), {"width": seed}) for seed in range(7)
    ]
    evidence = study_evidence(study, records)
    assert evidence.groups() == 5
    assert [r.seed for r in evidence.without(0, 5).records] == [1, 2, 3, 4, 6]


def test_one_seed_is_never_left_out():
    study = make()
    evidence = study_evidence(study, records_of(study, Settings(seeds=1)))
    assert evidence.groups() == 0


def test_a_study_is_a_claim():
    assert check_claim(make("for runs of length {value}")).verdict is Verdict.REPRODUCED


def test_a_choice_needs_an_alternative():
    with pytest.raises(ValueError, match="alternatives"):
        Choice("limit", 0.5, (), "the limit", "halfway")
    with pytest.raises(ValueError, match="alternatives"):
        Choice("limit", 0.5, (0.5, 0.6), "the limit", "halfway")


def test_an_alternative_counts_once():
    with pytest.raises(ValueError, match="twice"):
        Choice("limit", 0.5, (0.3, 0.7, 0.3), "the limit", "halfway")


def test_a_rule_compares_with_declared_choices_only():
    with pytest.raises(ValueError, match="limit, which is not among its choices"):
        Study(
            Claim("made-up", "A title", "§1", "It moves.", "Because.", "A control."),
            rule=Rule(
                Row(below(SHARE, LIMIT), Outcome(Verdict.NOT_REPRODUCED, "it stays")),
                otherwise=Outcome(Verdict.REPRODUCED, "it moves"),
            ),
            headline=Headline("moves", "", ""),
        )


def test_a_text_that_wants_the_number_of_what_is_missing_is_empty():
    findings = Findings([SHARE.share(0, 0)])
    assert findings.fill_known("{share.count} runs") == ""
    assert findings.fill_known("{share}") == "–"
