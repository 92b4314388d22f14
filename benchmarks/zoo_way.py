"""The way of one public network: expand, a training step, fold, strict load into the original, absorb, compare."""

import collections
import itertools
import time
import warnings
import zlib
from multiprocessing import get_context
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.zoo_networks import LARGEST, OF_IMAGES, built, handed_over, made, task_of
from steps.errors import BadInput
from steps.reparam.certify import relative_error
from steps.reparam.custom_layers import NO_OTHER_WEIGHT
from steps.reparam.expand import Init, Mode, expand, plan_expansion
from steps.reparam.fold import FOLDABLE, absorb_norms, fold, norms_left
from steps.reparam.library_blocks import library_blocks, library_form
from steps.reparam.plan import ExpansionPlan
from steps.reparam.verify import BROKEN
from steps.tracing.copies import copied
from steps.tracing.outputs import tensors_of

BOUND = 1e-9  # relative, float64: what whole networks of hundreds of layers leave of 1e-12 a site
BLOCKS = ("repvgg", "acb", "dbb", "mobileone")  # the papers' four, by name: a new block moves no draw
WAYS: tuple[tuple[Init, Mode], ...] = tuple(itertools.product(get_args(Init), get_args(Mode)))
BATCH = 8  # at 64 px many end in one pixel: the statistics of two images would magnify rounding a thousandfold
MORE = 32  # the images of the second look
# How reasons begin that come of trying the expanded network: here, where the plain ones run, a fault of our own.
OURS = (BROKEN, "it cannot be replaced", "the network does not run without it", "replacing it")
ULP = 2.0**-52  # a last place of float64, relative


class Result(NamedTuple):
    """What became of one network."""

    name: str
    block: str = ""
    init: str = ""
    mode: str = ""
    size: int = 0
    handed_over: int = 0  # convolutions that give their output to a batch norm, told by hooks alone
    sites: int = 0  # expanded
    library_blocks: int = 0
    left: dict[str, int] = {}  # convolutions left as they are, by the reason
    norms_left: dict[str, int] = {}  # after absorb_norms, by the reason
    error: float | None = None  # the worst of folded, loaded and absorbed
    images: int = 0  # whose statistics the norms have
    sensitivity: float | None = None  # how far a last place of the first look's input moves its own outputs
    skipped: str = ""
    wrong: str = ""
    seconds: float = 0.0


def try_in_own_process(name: str) -> Result:
    """Return what becomes of a network in a process of its own.

    What a large network frees stays with its process in pieces too small for the next one: 5 GB after a hundred.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(tried(name)), daemon=True)
    child.start()
    sender.close()
    try:
        result: Result = receiver.recv()
    except EOFError:
        child.join()
        return Result(name, *drawn_for(name), wrong=f"its process ended with {child.exitcode}")
    child.join()
    return result


def drawn_for(name: str) -> tuple[str, Init, Mode]:
    """Return the block, the init and the mode that the network's name draws."""
    rest, block = divmod(zlib.crc32(name.encode()), len(BLOCKS))
    return BLOCKS[block], *WAYS[rest % len(WAYS)]


def tried(name: str) -> Result:
    """Return what becomes of a network, whatever it raises.

    A network whose own outputs move by a tenth of the bound and more when its input moves by a last place cannot
    be held to the bound on these images: rounding alone would break it. It is looked at once more, with the
    statistics of more images, and that look counts, with the same bound.
    """
    begin = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of their own networks
        try:
            result = _through(name, BATCH)
            if result.wrong and (result.sensitivity or 0) > BOUND / 10:
                result = _through(name, MORE)._replace(sensitivity=result.sensitivity)
        except Exception as fault:  # a network that none foresaw is a failure, not the end
            result = Result(name, *drawn_for(name), wrong=f"{type(fault).__name__}: {_message(fault)}")
    return result._replace(seconds=round(time.monotonic() - begin, 1))


def _through(name: str, images: int) -> Result:
    """Take one network the whole way, its norms with the statistics of so many images."""
    block, init, mode = drawn_for(name)
    if (task := task_of(name)) and task not in OF_IMAGES:
        return Result(name, block, init, mode, skipped=f"it takes or gives something else than images: {task}")
    torch.manual_seed(0)
    found = built(name)
    if found is None:
        return Result(name, block, init, mode, skipped=f"over {LARGEST // 10**6} million parameters")
    network, size = found
    batch_NCHW = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))
    image_NCHW = batch_NCHW[:2].double()
    own = library_blocks(network)
    givers = handed_over(network, image_NCHW)
    plain = copied(network)
    plan = _expand(network, block, init, mode, image_NCHW)
    result = Result(
        name,
        block,
        init,
        mode,
        size,
        givers,
        len(plan.expanded),
        len(own),
        dict(collections.Counter(_kind(site.skipped) for site in plan.sites if site.skipped)),
        images=images,
    )
    if ours := [line for line in plan.lines() if _is_ours(line)]:
        return result._replace(wrong=f"{len(ours)} sites fail once expanded, such as {ours[0]}")
    if not plan.expanded and not own:
        return result._replace(skipped="; ".join(result.left) or "no convolution")
    if init == "exact" and (moved := _moved_by_expanding(plain, network, image_NCHW)):
        return result._replace(wrong=moved)
    if fault := _fault_of_a_step(network, batch_NCHW):
        # A fault of the library's network shows without our blocks too; one that does not is ours.
        torch.manual_seed(0)
        of_plain = _fault_of_a_step(made(name, size), batch_NCHW)
        same = of_plain.partition(":")[0] == fault.partition(":")[0]
        return result._replace(skipped=of_plain) if same else result._replace(wrong=fault)
    return _judged(result, network, image_NCHW)


def _is_ours(line: str) -> bool:
    """Whether a line of the plan tells of a fault of ours: a convolution's own class was seen to run."""
    return NO_OTHER_WEIGHT in line or any(f": skipped, {reason}" in line for reason in OURS)


def _moved_by_expanding(plain: nn.Module, expanded: nn.Module, image_NCHW: Tensor) -> str:
    """Return by how much an exactly expanded network differs from what it was, where that is too much, or ""."""
    before, after = (copied(network).double().eval() for network in (plain, expanded))
    if _error(before, image_NCHW, before, image_NCHW) is None:
        return ""  # the plain one's outputs are not finite
    error = _error(before, image_NCHW, after, image_NCHW)
    return "" if error is not None and error <= BOUND else f"expanded exactly it differs by {error}"


def _expand(network: nn.Module, block: str, init: Init, mode: Mode, image_NCHW: Tensor) -> ExpansionPlan:
    """Expand the network and return the whole plan, also where no site is found."""
    try:
        return expand(network, block, init=init, mode=mode, example_NCHW=image_NCHW)
    except BadInput:
        plan = plan_expansion(network, block, example_NCHW=image_NCHW, mode=mode)
        if plan.expanded:
            raise
        return plan


def _judged(result: Result, network: nn.Module, image_NCHW: Tensor) -> Result:
    """Return the result of the trained network: its forms compared with it, and what is left in them."""
    plain = fold(network, image_NCHW)
    original = library_form(made(result.name, result.size).eval()).double()
    original.load_state_dict(plain.state_dict(), strict=True)
    absorbed = absorb_norms(plain, image_NCHW)
    errors = [_error(network, image_NCHW, form, image_NCHW) for form in (plain, original, absorbed)]
    known = [error for error in errors if error is not None]
    wrong = [error for error in errors if error is None or error > BOUND]
    left = norms_left(absorbed, image_NCHW)
    norms = [name for name, module in absorbed.named_modules() if isinstance(module, _BatchNorm)]
    forgotten = [name for name in norms if left.get(name, FOLDABLE) == FOLDABLE]
    faults = [f"folded, loaded, absorbed differ by {errors}"] * bool(wrong) + [
        f"absorb_norms forgot {len(forgotten)}: {forgotten[:3]}"
    ] * bool(forgotten)
    return result._replace(
        norms_left=dict(collections.Counter(_kind(reason) for name, reason in left.items() if name in norms)),
        error=max(known) if len(known) == len(errors) else None,
        sensitivity=_error(network, image_NCHW, network, _moved(image_NCHW)) if wrong else None,
        wrong="; ".join(faults),
    )


def _fault_of_a_step(network: nn.Module, batch_NCHW: Tensor) -> str:
    """Take one step of gradient descent, leave the network in float64 and eval mode; return what fails, or "".

    The norms then take over the batch's statistics whole: a tenth of them, as after one usual step, lets a
    network of hundreds of branches grow beyond all numbers in eval mode.
    """
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    try:
        outputs = tensors_of(network(batch_NCHW))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as fault:  # judged by the caller
        return f"cannot train at {batch_NCHW.shape[-1]} px, {type(fault).__name__}: {_message(fault)}"
    optimizer.step()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        for _ in range(2):  # a DBB border is made of the statistics before the pass
            network(batch_NCHW)
        found = tensors_of(network.double().eval()(batch_NCHW.double()))
    finite = all(bool(output.isfinite().all()) for output in found)
    return "" if finite else "outputs are not finite"


@torch.no_grad()
def _error(network: nn.Module, image_NCHW: Tensor, other: nn.Module, others_NCHW: Tensor) -> float | None:
    """Return the worst relative error among the outputs; None where one is not finite, or none was compared."""
    pairs = zip(tensors_of(network(image_NCHW)), tensors_of(other(others_NCHW)), strict=True)
    errors = [relative_error(expected, actual) for expected, actual in pairs]
    known = [error for error in errors if error is not None]
    return max(known) if known and len(known) == len(errors) else None


def _moved(image_NCHW: Tensor) -> Tensor:
    """Return the image with about two thirds of its pixels moved by one last place, up or down."""
    generator = torch.Generator().manual_seed(2)
    steps = torch.randint(-1, 2, image_NCHW.shape, generator=generator, dtype=torch.float64)
    return image_NCHW * (1 + ULP * steps)


def _kind(reason: str) -> str:
    """Return a plan's reason without what only one site says."""
    return reason.partition(" used by ")[0].partition("its convolution ")[0] or "its convolution has a reason"


def _message(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]
