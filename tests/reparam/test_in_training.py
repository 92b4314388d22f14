"""Networks that train only with gradients, or not at all: the plan is tried in training, or says it is untried."""

import torch

from steps.reparam.expand import expand, plan_expansion
from tests.reparam.own_networks import Own


def test_a_network_that_needs_gradients_in_training_is_tried_with_them() -> None:
    class Penalised(Own):
        def body(self, features: torch.Tensor) -> torch.Tensor:
            normed = super().body(features)
            if self.training:  # grad's backward reads the site's output; that is no second use of the output
                (slope,) = torch.autograd.grad(normed.square().sum(), features, create_graph=True)
                normed = normed + slope.mean()
            return normed

    plan = plan_expansion(Penalised(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16))
    assert plan.untried is None and len(plan.expanded) == 2


def test_a_plan_says_that_training_mode_could_not_be_tried() -> None:
    class Untrainable(Own):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise ValueError("ask me for the loss")
            features: torch.Tensor = super().forward(image)
            return features

    plan = expand(Untrainable(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16))
    assert plan.untried == "ValueError: ask me for the loss" and len(plan.expanded) == 2
    assert plan.lines()[-1] == "not tried in training mode: ValueError: ask me for the loss"
