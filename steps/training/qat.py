"""Quantization-aware fine-tuning: the folded network learns to give its answers through int8's roundings.

The branches are folded before the fine-tuning: the kernels that learn are then the kernels that are rounded, and
fuse finds nothing left to fold. The roundings are those of building/int8.py, all symmetric: 64 steps to the
largest absolute value for weights, one range for each output channel; 127 steps for the input of a layer and the
output of a convolution, one range for each tensor. Biases and the logits of a linear layer stay in float32. Three
differences from the int8 graph remain. A tensor that no layer and no average reads, such as the sum of a residual
block, is not rounded. The output of a last convolution is rounded here alone. The input of the first layer is
rounded as the normalised image, where the graph rounds pixels and folds 1 / std into the kernel. The range of a
tensor is that of its batch, so there is no state beside the weights. Gradients pass a rounding unchanged (Jacob et
al., CVPR 2018, section 3). Letters: N images, H and W pixels, C channels, O output channels, K classes.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from steps.errors import Refused
from steps.models.normalised import Normalised, normalised
from steps.progress import say
from steps.reparam.certify import certify, exceeds
from steps.reparam.fold import absorb_norms, fold
from steps.reports.card import Preprocessing
from steps.reports.certificate import CertifiedPrecision
from steps.training.checkpoint import load_best
from steps.training.history import Progress
from steps.training.loop import Plan, Training, fit
from steps.training.memory_format import lay_out
from steps.training.schedules import Cosine

STEPS, WEIGHT_STEPS = 127, 64  # to either side of zero
SMALLEST = torch.finfo(torch.float32).tiny  # a range of nothing but zeros would divide by zero
MAX_FOLD_ERROR: dict[CertifiedPrecision, float] = {
    "fp64": 1e-9
}  # of the largest output; fuse has nothing left to prove
LAYERS = (nn.Conv2d, nn.Linear)
READ_ROUNDED = (*LAYERS, nn.AdaptiveAvgPool2d, nn.AvgPool2d)


class QuantAware(nn.Module):
    """Computes a network with the roundings of its int8 engine; the weights stay in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.weights = [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, LAYERS)]
        self.hooks = []
        for layer in network.modules():
            if isinstance(layer, READ_ROUNDED):
                self.hooks.append(layer.register_forward_pre_hook(_round_inputs))
            if isinstance(layer, nn.Conv2d):
                self.hooks.append(layer.register_forward_hook(_round_output))

    def forward(self, images_NHWC_u8: Tensor) -> Tensor:
        """Return logits_NK, computed with rounded kernels and activations."""
        rounded = {name: rounded_kernel(self.network.get_parameter(name)) for name in self.weights}
        logits_NK: Tensor = functional_call(self.network, rounded, (images_NHWC_u8,))
        return logits_NK

    def released(self) -> nn.Module:
        """Remove the roundings and return the network."""
        for hook in self.hooks:
            hook.remove()
        return self.network


def rounded_activation(values: Tensor) -> Tensor:
    """Return the values rounded to int8, with one range for the tensor."""
    scale = (values.detach().abs().amax() / STEPS).clamp(min=SMALLEST)
    zero = torch.zeros(1, dtype=torch.int32, device=values.device)
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(values, scale, zero, -STEPS, STEPS)
    return rounded


def rounded_kernel(weight_OIKK: Tensor) -> Tensor:
    """Return the weights rounded to int8, with a range for each output channel."""
    most = WEIGHT_STEPS
    scale_O = (weight_OIKK.detach().flatten(1).abs().amax(1) / most).clamp(min=SMALLEST)
    zeros_O = torch.zeros_like(scale_O, dtype=torch.int32)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(weight_OIKK, scale_O, zeros_O, 0, -most, most)
    return rounded


def _round_inputs(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (rounded_activation(inputs[0]), *inputs[1:])


def _round_output(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
    return rounded_activation(output)


def folded_for_int8(
    trained: Normalised, preprocessing: Preprocessing, real_NHWC_u8: Tensor, seed: int
) -> Normalised:
    """Return a folded copy of the network on its device, its batch norms absorbed where that is possible.

    Refuses where the copy differs from the trained network by more than MAX_FOLD_ERROR at any site.
    """
    device = trained.offset_C11.device
    trained = trained.cpu().eval()
    real_NCHW = trained.normalise(real_NHWC_u8)
    wide = trained.network.double()
    plain = absorb_norms(fold(wide, real_NCHW[:1]), real_NCHW[:1])
    worst = certify(wide, plain, real_NCHW, seed, MAX_FOLD_ERROR)[0]
    if exceeds(worst):
        raise Refused(
            f"at {worst.site} the folded network differs by {worst.error} of the largest output in fp64, allowed "
            f"is {worst.bound:g}; it is not fine-tuned for int8. Set train.qat.epochs to 0 and see what fuse says."
        )
    wide.float()
    folded: Normalised = normalised(plain.float(), preprocessing).to(device)
    lay_out(folded)
    return folded


def fine_tune(training: Training, folded: Normalised, epochs: int, lr: float) -> tuple[Normalised, Progress]:
    """Return the network of the best epoch, judged on val with the roundings of int8, and the progress.

    The optimizer has the settings of the training. Fine-tuning goes on from its own checkpoints, which lie inside
    the training's; images come in the order of the training's first epochs.
    """
    say(f"train: {epochs} epochs of quantization-aware fine-tuning of the folded network")
    aware = QuantAware(folded)
    plan = Plan(epochs, lr, Cosine(), training.plan.best_by, remedies="lower train.qat.lr")
    tuning = replace(
        training,
        network=aware,
        plan=plan,
        checkpoints=training.checkpoints / "qat",
    )
    progress = fit(tuning)
    assert progress.best_epoch is not None
    load_best(tuning.checkpoints, aware, progress.best_epoch)
    released = aware.released()
    assert isinstance(released, Normalised)
    return released.eval(), progress


def appended(progress: Progress, tuned: Progress) -> Progress:
    """Return the progress of both: the second's epochs follow the first's, and its best is the best."""
    assert tuned.best_epoch is not None
    rows = [replace(row, epoch=row.epoch + progress.epoch) for row in tuned.history]
    return replace(
        tuned,
        epoch=progress.epoch + tuned.epoch,
        best_epoch=progress.epoch + tuned.best_epoch,
        history=[*progress.history, *rows],
    )
