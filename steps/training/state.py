"""The parts of a training that have a state, each as named tensors: a checkpoint is a dictionary of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


class Part(Protocol):
    """What goes on after an interruption as if there had been none."""

    def state(self) -> Tensors:
        """Return the state as named tensors, on any device."""

    def restore(self, tensors: Tensors) -> None:
        """Take the state that `state` gave, in this process or another."""


@dataclass(frozen=True)
class NetworkPart:
    """Weights and buffers."""

    network: nn.Module

    def state(self) -> Tensors:
        """Return the state dict."""
        return dict(self.network.state_dict())

    def restore(self, tensors: Tensors) -> None:
        """Load the state dict, strictly."""
        self.network.load_state_dict(tensors)


@dataclass(frozen=True)
class OptimizerPart:
    """What an optimizer keeps of each parameter, such as its momentum, as `<parameter> <key>`."""

    network: nn.Module
    optimizer: Optimizer

    def state(self) -> Tensors:
        """Return the optimizer's tensors by the parameters' names; a number becomes a tensor."""
        kept = self.optimizer.state
        return {
            f"{name} {key}": torch.as_tensor(value)
            for name, parameter in self.network.named_parameters()
            for key, value in kept.get(parameter, {}).items()
            if value is not None
        }

    def restore(self, tensors: Tensors) -> None:
        """Put each tensor back, in its parameter's own layout, which a fused step takes for granted."""
        parameters = dict(self.network.named_parameters())
        for place, tensor in tensors.items():
            name, key = place.rsplit(" ", 1)
            parameter = parameters[name]
            self.optimizer.state[parameter][key] = (
                torch.zeros_like(parameter).copy_(tensor)
                if tensor.shape == parameter.shape
                else tensor.to(parameter.device)
            )


@dataclass(frozen=True)
class RandomPart:
    """Torch's global generators: dropout and dropped paths draw from them."""

    def state(self) -> Tensors:
        """Return the state of each device's generator."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def restore(self, tensors: Tensors) -> None:
        """Set the generators of the devices that there are."""
        torch.set_rng_state(tensors["cpu"].cpu())
        if "cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["cuda"].cpu())


Parts = Mapping[str, Part]


def parts_of(network: nn.Module, optimizer: Optimizer) -> dict[str, Part]:
    """Return the parts that every training has."""
    return {
        "network": NetworkPart(network),
        "optimizer": OptimizerPart(network, optimizer),
        "random": RandomPart(),
    }
