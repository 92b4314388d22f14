"""Quantization-aware fine-tuning: the folded network learns to give its answers through int8's roundings.

What is fine-tuned is what ships: the branches are folded first, so that the kernels that learn are the kernels
that are rounded, and fuse finds nothing left to fold. The roundings are those of backends/int8.py: weights per
output channel in 64 steps to the largest absolute value, what a layer reads and a convolution writes per tensor
in 127, all symmetric; biases stay in float32, and so do the logits of a linear layer. (Not rounded is what no
layer and no average reads, such as sums of a residual network. Rounded here alone is what the last convolution
writes of a network that ends in one. The first layer's input is rounded as the normalised image: the graph
folds 1 / std, and the mean where it can, into the kernel, and rounds pixels.) The range of a tensor is that of
its batch, so there is no state beside the weights; gradients pass a rounding as if it were not there (Jacob et
al., CVPR 2018, section 3).
Letters: N images, H and W pixels, C channels, O output channels, K classes.
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
from steps.training.layout import lay_out
from steps.training.loop import Plan, Training, fit
from steps.training.schedules import Cosine

STEPS, WEIGHT_STEPS = 127, 64  # to either side of zero
SMALLEST = torch.finfo(torch.float32).tiny  # a range of nothing but zeros would divide by zero
MAX_FOLD_ERROR: dict[CertifiedPrecision, float] = {
    "fp64": 1e-9
}  # of the largest output; fuse has nothing left to prove
LAYERS = (nn.Conv2d, nn.Linear)
READ_ROUNDED = (*LAYERS, nn.AdaptiveAvgPool2d, nn.AvgPool2d)


class QuantAware(nn.Module):
    """A network as its int8 engine will compute it; the network itself stays in float32."""

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
        """Return logits_NK, all kernels and activations rounded on the way."""
        rounded = {name: rounded_kernel(self.network.get_parameter(name)) for name in self.weights}
        logits_NK: Tensor = functional_call(self.network, rounded, (images_NHWC_u8,))
        return logits_NK

    def released(self) -> nn.Module:
        """Return the network, which rounds nothing from now on."""
        for hook in self.hooks:
            hook.remove()
        return self.network


def rounded_activation(values: Tensor) -> Tensor:
    """Return the values as int8 holds them: one range for all."""
    scale = (values.detach().abs().amax() / STEPS).clamp(min=SMALLEST)
    zero = torch.zeros(1, dtype=torch.int32, device=values.device)
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(values, scale, zero, -STEPS, STEPS)
    return rounded


def rounded_kernel(weight_OIKK: Tensor) -> Tensor:
    """Return the weights as int8 holds them: a range for each output channel."""
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
    """Return a plain copy of the network, without norms that can be gone, on its device, or refuse.

    Refuses where it differs from the trained one by more than MAX_FOLD_ERROR at any site.
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
    """Return the network of the best epoch, judged on val as int8 would answer, and what was reached.

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
