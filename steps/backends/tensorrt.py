"""TensorRT 10 and 11 (package `tensorrt`) and TensorRT for RTX (`tensorrt_rtx`), in one module.

TensorRT builds on the GPU that will run the engine. TensorRT for RTX builds ahead of time, on any machine, for the
compute capabilities in params.yaml. The ONNX graph decides the precision (strong typing); the flags and
calibrators of older releases are gone. Setters and the builder log their errors and never raise, so each build has
its own logger, which collects the errors.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from steps.backends.this_gpu import gpu_and_driver, this_gpu
from steps.engines.contract import (
    NO_DRIVER,
    Built,
    CannotBuild,
    CannotRunHere,
    Images,
    Logits,
    Order,
    OtherVersion,
    Runner,
    WrongFile,
)
from steps.engines.names import BACKENDS
from steps.reports.card import Card, Device

MODEL = "model.engine"
RTX_MAGIC = b"vtrt"
BEST_SIDE = 512  # pixels: TensorRT tunes an engine that resizes images for this side
RTX_VERSION = slice(24, 28)  # four bytes of an RTX engine's header: 1, 7, 1, 116
Module = Any  # the packages have no type stubs, and a machine may have none of them


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:  # noqa: ARG001 - the contract has it
    """Return the engine's runner on the first GPU; raise CannotRunHere (no driver, other device or version)."""
    trt = import_module(BACKENDS[card.backend].package)
    content = (folder / MODEL).read_bytes()
    _check_version(trt, folder / MODEL, content, card)
    _check_device(card)
    logger = collecting_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise WrongFile(
            f"{card.backend} {trt.__version__} cannot read the engine {folder / MODEL}: {logger.first_error()}"
        )
    return _CudaRunner(trt, runtime, engine)


def build(order: Order) -> Built:
    """Write model.engine, or raise CannotBuild with the error of the parser or the builder."""
    trt = import_module(BACKENDS[order.backend].package)
    ahead_of_time = hasattr(trt, "ComputeCapability")
    logger = collecting_logger(trt)
    builder = _builder(trt, logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)  # keeps pointers into `network`: both must live until the build
    if not parser.parse(order.graph.read_bytes()):
        faults = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise CannotBuild(f"{order.backend} cannot read the graph: {' '.join(faults.split())}")
    config = builder.create_builder_config()
    capabilities = tuple(dict.fromkeys(order.compute_capabilities)) if ahead_of_time else (this_gpu(),)
    if ahead_of_time:
        _target(trt, config, capabilities, order.backend)
    _add_profile(builder, network, config, order, logger)
    if logger.errors:  # a setter with an error has set nothing, and the builder would ignore that
        raise CannotBuild(f"{order.backend} does not take the settings: {logger.first_error()}")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CannotBuild(f"{order.backend} cannot build the engine: {logger.first_error()}")
    (order.out / MODEL).write_bytes(bytes(engine))
    version = {order.backend: str(trt.__version__)}
    batch = (order.batch.least, order.batch.best, order.batch.most)
    device = Device(
        kind="cuda", compute_capabilities=capabilities, runtime=f"{order.backend} {trt.__version__}", batch=batch
    )
    return Built(device, version, tuple(logger.warnings), _device_memory(trt, logger, bytes(engine), capabilities))


def surroundings(backend: str) -> dict[str, str]:
    """Return all that decides the engine besides its order: the version, and the GPU and its driver.

    Ahead of time, the GPU only decides whether the engine's scratch memory can be read here.
    """
    trt = import_module(BACKENDS[backend].package)
    here = {"gpu": this_gpu()} if hasattr(trt, "ComputeCapability") else gpu_and_driver()
    return {backend: str(trt.__version__), **here}


def collecting_logger(trt: Module) -> Any:
    """Return a logger that collects warnings in `warnings` and errors in `errors`, each line once."""
    faults = {trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR}

    class Collecting(trt.ILogger):  # type: ignore[misc] # the base class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: dict[str, None] = {}
            self.errors: dict[str, None] = {}

        def log(self, severity: Any, message: str) -> None:
            if severity in faults:
                self.errors[" ".join(message.split())] = None
            elif severity == trt.ILogger.WARNING:
                self.warnings[" ".join(message.split())] = None

        def first_error(self) -> str:
            return next(iter(self.errors), "it gives no reason.")

    return Collecting()


def _builder(trt: Module, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as fault:  # TensorRT's error without CUDA: "factory function returned nullptr"
        raise CannotBuild(
            f"TensorRT builds on the GPU that will run the engine, and {NO_DRIVER}. "
            "Build there, or build tensorrt-rtx, which needs no GPU."
        ) from fault


def _target(trt: Module, config: Any, capabilities: tuple[str, ...], backend: str) -> None:
    """Set the GPUs to build for, or raise CannotBuild where the package does not know one of them."""
    known = {name.removeprefix("SM"): member for name, member in trt.ComputeCapability.__members__.items()}
    members = {capability: known.get(capability.replace(".", "")) for capability in capabilities}
    unknown = [capability for capability, member in members.items() if member is None]
    if unknown or not members:
        supported = ", ".join(f"{name[:-1]}.{name[-1]}" for name in known if name.isdigit())
        raise CannotBuild(
            f"{backend} {trt.__version__} builds for the compute capabilities {supported}, not for "
            f"{', '.join(unknown) or 'none'}; change build.compute_capabilities."
        )
    config.num_compute_capabilities = len(members)
    for index, member in enumerate(members.values()):
        config.set_compute_capability(member, index)


def _add_profile(builder: Any, network: Any, config: Any, order: Order, logger: Any) -> None:
    """Set the batch sizes of the engine, and the sides of images where the engine takes any size."""
    source, batch = network.get_input(0), order.batch
    least, best, most = (batch.least, 1), (batch.best, BEST_SIDE), (batch.most, order.max_side or 0)
    shapes = [_shape(source, count, min(side, most[1])) for count, side in (least, best, most)]
    profile = builder.create_optimization_profile()
    profile.set_shape(source.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise CannotBuild(
            f"images_NHWC of {shapes[0]} to {shapes[-1]} are no profile for this graph: {logger.first_error()}"
        )


def _shape(source: Any, count: int, side: int) -> tuple[int, ...]:
    """Return the shape of `count` images, with `side` where the graph leaves the side open."""
    return (count, *(side if length < 0 else length for length in tuple(source.shape)[1:]))


def _device_memory(trt: Module, logger: Any, content: bytes, capabilities: tuple[str, ...]) -> int | None:
    """Return the engine's scratch memory; None where this machine lacks the GPU that the engine is for."""
    if this_gpu() not in capabilities:
        return None
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(content)
    return None if engine is None else int(engine.device_memory_size_v2)


def _check_version(trt: Module, file: Path, content: bytes, card: Card) -> None:
    """Raise WrongFile if the file is no engine, and OtherVersion if another version built the engine."""
    if card.backend == "tensorrt-rtx":
        if content[:4] != RTX_MAGIC:
            raise WrongFile(f"{file} is no engine of TensorRT for RTX: it begins with {content[:4]!r}.")
        version = ".".join(str(part) for part in content[RTX_VERSION])
    else:
        version = card.versions.get(card.backend, "an unknown version")
    if version != trt.__version__:
        raise OtherVersion(
            f"{file} was built by {card.backend} {version}, and {trt.__version__} is installed here; "
            f"an engine runs with one version only: build it again, or install {version}."
        )


def _check_device(card: Card) -> None:
    here = this_gpu()
    if not here:
        raise CannotRunHere(f"{card.form} runs on a GPU, and {NO_DRIVER}.")
    if here not in card.device.compute_capabilities:
        built_for = ", ".join(card.device.compute_capabilities)
        raise CannotRunHere(
            f"{card.form} was built for compute capability {built_for}, and this GPU has {here}; build it on this "
            "machine, or with that capability in build.compute_capabilities."
        )


class _CudaRunner:
    """Runs an engine on images in host memory; larger batches than the profile's are split, smaller filled."""

    def __init__(self, trt: Module, runtime: Any, engine: Any) -> None:
        self.runtime, self.engine = runtime, engine  # the engine needs its runtime alive
        self.context = engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        (self.source,) = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        (self.result,) = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        least, _, most = engine.get_tensor_profile_shape(self.source, 0)
        self.least, self.most = least[0], most[0]

    def __call__(self, images_NHWC_u8: Images) -> Logits:
        """Return logits_NK, row i for image i."""
        cuts = range(0, len(images_NHWC_u8), self.most)
        return np.concatenate([self._run(images_NHWC_u8[cut : cut + self.most]) for cut in cuts])

    def _run(self, images_NHWC_u8: Images) -> Logits:
        import torch

        count = len(images_NHWC_u8)
        padding = max(0, self.least - count)
        filled_NHWC_u8 = np.concatenate([images_NHWC_u8, np.repeat(images_NHWC_u8[-1:], padding, axis=0)])
        images = torch.from_numpy(filled_NHWC_u8).cuda()
        self.context.set_input_shape(self.source, tuple(images.shape))
        logits = torch.empty(tuple(self.context.get_tensor_shape(self.result)), dtype=torch.float32, device="cuda")
        self.context.set_tensor_address(self.source, images.data_ptr())
        self.context.set_tensor_address(self.result, logits.data_ptr())
        stream = torch.cuda.current_stream()
        if not self.context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"the engine failed on a batch of {count} images")
        stream.synchronize()
        return logits.cpu().numpy()[:count]
