"""What every optimiser with a penalty has in common: the penalty of each group, in groups, checkpoints and copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from nonsmooth.foreign_text import visible
from nonsmooth.optim.group_checks import check_group, is_adaptive
from nonsmooth.optim.parameter_groups import dimensions, warn_of_vectors
from nonsmooth.optim.penalty_reader import PenaltyReader, is_off, to_specification
from nonsmooth.optim.target_state import SPARED, TARGET
from nonsmooth.penalties import from_specification


class PenalizedOptimizer(Optimizer):
    """An optimiser whose groups have a `penalty`, as a name and numbers.

    So the penalty can be read, scheduled and saved like a learning rate. Steps are a subclass's business.
    """

    @property
    def _reader(self) -> PenaltyReader:
        # Not among what torch pickles and copies, so it is made anew where it is missing.
        if "_penalty_reader" not in self.__dict__:
            self._penalty_reader = PenaltyReader()
        return self._penalty_reader

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise unless a group's options are in their range and its penalty fits its parameters.

        Raises:
            ValueError: an option is out of its range, or the penalty does not fit.
        """
        check_group(group, adaptive=is_adaptive(self))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose penalty is its own `penalty` or else the optimiser's.

        Raises:
            TypeError: `penalty` is not a Penalty.
            ValueError: the penalty does not fit a parameter, or an option is out of its range.
        """
        default = self.defaults.get("penalty", self.__dict__.get("_default_penalty"))
        by_default = isinstance(param_group, dict) and "penalty" not in param_group
        specification = to_specification(param_group.get("penalty", default) if isinstance(param_group, dict) else None)
        group = {**param_group, "penalty": specification}
        before = len(self.param_groups)
        super().add_param_group(group)
        try:
            self.check_group(self.param_groups[before])
        except BaseException:
            del self.param_groups[before]
            raise
        self._reader(self.param_groups[before])
        if by_default and specification is not None and not is_off(from_specification(specification)):
            self._warn_of_vectors(before)

    def _warn_of_vectors(self, index: int) -> None:
        """Warn, once, where the optimiser's own penalty has come to lie on weights and vectors alike."""
        unnamed: list[tuple[str, int]] = self.__dict__.setdefault("_penalised_by_default", [])
        mixed = len({ndim > 1 for _, ndim in unnamed}) > 1
        unnamed += dimensions(index, self.param_groups[index])
        if not mixed:
            warn_of_vectors(unnamed)

    def state_dict(self) -> dict[str, Any]:
        """What torch's gives; a group's penalty is a copy, which a λ that changes later leaves as it is."""
        for group in self.param_groups:
            self._reader(group)
        return with_own_penalties(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; groups without a penalty, as in older checkpoints, keep the one they have here.

        Raises:
            ValueError: a penalty is not known or does not fit; nothing has been changed then.
        """
        super().load_state_dict(with_penalties(state_dict, self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("penalty", None)
        self._reader.active(self.param_groups)


OPTIONS = ("penalty", "forgetting")
"""Options of groups that torch's optimisers do not have, and so their checkpoints neither."""

OF_EACH_GROUP = ("params", "param_names", "penalty", TARGET, SPARED)
"""What need not be the same in groups that become one."""


def with_own_penalties(state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state with copies of the penalties in its groups, which a λ that changes later leaves as they are."""
    groups = [{**group, "penalty": group["penalty"] and dict(group["penalty"])} for group in state_dict["param_groups"]]
    return {**state_dict, "param_groups": groups}


def with_penalties(state_dict: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A state to load, its penalties checked, and the optimiser's own, with what belongs to them, where it has none.

    A state with the same parameters in other groups or another order is put into this optimiser's groups, with their
    penalties, where both know the parameters' names.

    Raises:
        ValueError: a penalty is not known or does not fit the parameters, or the groups are others and there are no
            names, or their options are at odds.
    """
    state_dict = _regrouped(state_dict, optimizer)
    groups = []
    for saved, own in zip(state_dict["param_groups"], optimizer.param_groups, strict=False):
        group = {"penalty": None, **{name: own[name] for name in OPTIONS if name in own}, **saved}
        group["penalty"] = to_specification(group["penalty"])
        check_group({**own, "penalty": group["penalty"]}, adaptive=is_adaptive(optimizer))
        groups.append(group)
    # Groups too many or too few are torch's to refuse.
    groups += state_dict["param_groups"][len(groups) :]
    return {**state_dict, "param_groups": groups}


def _regrouped(state_dict: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The state in the optimiser's groups; as it is where it is so already, or where torch has to refuse it.

    Raises:
        ValueError: the groups are others, of as many parameters, and do not say how they belong together.
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    names = [[name for group in groups for name in group.get("param_names") or ()] for groups in (saved, own)]
    counts = [[len(group["params"]) for group in groups] for groups in (saved, own)]
    if sum(counts[0]) != sum(counts[1]) or (counts[0] == counts[1] and (names[0] == names[1] or not all(names))):
        return state_dict
    if len(names[0]) != sum(counts[0]) or set(names[0]) != set(names[1]):
        if counts[0] == counts[1]:
            return state_dict
        raise ValueError(
            f"state_dict has its {sum(counts[0])} parameters in groups of {counts[0]}, this optimizer in groups of "
            f"{counts[1]}, and without names nothing says which is which; load it into an optimizer with the saved "
            "groups, such as torch's own, then attach(optimizer, penalty, model=model), which splits them in place"
        )
    home = {
        name: (number, group)
        for group in saved
        for name, number in zip(group["param_names"], group["params"], strict=True)
    }
    groups = []
    for group in own:
        sources = [home[name][1] for name in group["param_names"]]
        options = [{key: value for key, value in source.items() if key not in OF_EACH_GROUP} for source in sources]
        if any(each != options[0] for each in options):
            listed = ", ".join(map(visible, group["param_names"]))
            raise ValueError(
                f"state_dict has {listed} in groups with different options, and this "
                "optimizer in one; accepted is one set of options for each group"
            )
        numbers = [home[name][0] for name in group["param_names"]]
        target = {key: sources[0][key] for key in (TARGET, SPARED) if key in group and key in sources[0]}
        kept = {"params": numbers, "param_names": list(group["param_names"]), "penalty": group.get("penalty")}
        groups.append({**target, **(options[0] if options else {}), **kept})
    return {**state_dict, "param_groups": groups}
