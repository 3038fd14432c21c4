"""What every optimiser with a penalty has in common: the penalty of each group, in groups, checkpoints and copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from nonsmooth.optim.penalty_reader import PenaltyReader, specified
from nonsmooth.optim.proximal_step import check_group, is_adaptive


class PenalisedOptimizer(Optimizer):
    """An optimiser whose groups have a `penalty`, as a name and numbers.

    So the penalty can be read, scheduled and saved like a learning rate. Steps are a subclass's business.
    """

    @property
    def _reader(self) -> PenaltyReader:
        # Not among what torch pickles and copies, so it is made anew where it is missing.
        reader: PenaltyReader = self.__dict__.setdefault("_penalty_reader", PenaltyReader())
        return reader

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise unless a group's options are in their range and its penalty fits its parameters.

        Raises:
            ValueError: they are not, or it does not.
        """
        check_group(group, adaptive=is_adaptive(self))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose penalty is its own `penalty` or else the optimiser's.

        Raises:
            TypeError: the penalty is none.
            ValueError: it does not fit a parameter, or an option is out of its range.
        """
        default = self.defaults.get("penalty", self.__dict__.get("_default_penalty"))
        specification = specified(param_group.get("penalty", default) if isinstance(param_group, dict) else None)
        group = {**param_group, "penalty": specification}
        before = len(self.param_groups)
        super().add_param_group(group)
        try:
            self.check_group(self.param_groups[before])
        except BaseException:
            del self.param_groups[before]
            raise
        self._reader(self.param_groups[before])

    def state_dict(self) -> dict[str, Any]:
        """What torch's gives; a group's penalty is a copy, which a λ that changes later leaves as it is."""
        for group in self.param_groups:
            self._reader(group)
        state = super().state_dict()
        groups = [{**group, "penalty": group["penalty"] and dict(group["penalty"])} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

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
        self._reader.forget_others(self.param_groups)


def with_penalties(state_dict: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A state to load, its penalties checked, and the optimiser's own where it has none.

    Raises:
        ValueError: a penalty is not known or does not fit the parameters.
    """
    groups = []
    for saved, own in zip(state_dict["param_groups"], optimizer.param_groups, strict=False):
        group = {"penalty": own.get("penalty"), **saved}
        group["penalty"] = specified(group["penalty"])
        check_group({**own, "penalty": group["penalty"]}, adaptive=is_adaptive(optimizer))
        groups.append(group)
    # Groups too many or too few are torch's to refuse.
    groups += state_dict["param_groups"][len(groups) :]
    return {**state_dict, "param_groups": groups}
