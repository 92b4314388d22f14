"""A ResNet50_vd in PaddlePaddle itself; run where PaddlePaddle is installed: `python paddle_writes.py FOLDER`.

It writes its weights in each naming and format, its input images and its output logits.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import ParamAttr, nn

CLASSES, SIZE = 7, 75  # an odd size: the average pool of a shortcut reaches the border


class ConvNorm(nn.Layer):  # type: ignore[misc]
    """A convolution and its batch norm, after an average pool if the shortcut reduces the size."""

    def __init__(self, shape: tuple[int, int, int], stride: int, name: str, naming: str, pool: bool) -> None:
        super().__init__()
        inputs, outputs, kernel = shape
        norm_name = f"bn{name[3:]}"
        conv: dict[str, Any] = {}
        norm: dict[str, Any] = {}
        if naming == "static":
            conv = {"weight_attr": ParamAttr(name=f"{name}_weights")}
            norm = {
                "param_attr": ParamAttr(name=f"{norm_name}_scale"),
                "bias_attr": ParamAttr(name=f"{norm_name}_offset"),
                "moving_mean_name": f"{norm_name}_mean",
                "moving_variance_name": f"{norm_name}_variance",
            }
        self.names = ("conv", "bn") if naming == "2.0" else ("_conv", "_batch_norm")
        layer = nn.Conv2D(inputs, outputs, kernel, stride, kernel // 2, bias_attr=False, **conv)
        self.add_sublayer(self.names[0], layer)
        self.add_sublayer(self.names[1], nn.BatchNorm(outputs, **norm))
        self.pool = nn.AvgPool2D(2, 2, 0, ceil_mode=True) if pool else nn.Identity()

    def forward(self, images: Any) -> Any:
        conv, norm = (getattr(self, name) for name in self.names)
        return norm(conv(self.pool(images)))


class Bottleneck(nn.Layer):  # type: ignore[misc]
    def __init__(self, inputs: int, width: int, stride: int, first: bool, name: str, naming: str) -> None:
        super().__init__()
        self.conv0 = ConvNorm((inputs, width, 1), 1, f"{name}_branch2a", naming, pool=False)
        self.conv1 = ConvNorm((width, width, 3), stride, f"{name}_branch2b", naming, pool=False)
        self.conv2 = ConvNorm((width, 4 * width, 1), 1, f"{name}_branch2c", naming, pool=False)
        self.shortens = inputs != 4 * width
        if self.shortens:
            self.short = ConvNorm((inputs, 4 * width, 1), 1, f"{name}_branch1", naming, pool=not first)

    def forward(self, images: Any) -> Any:
        relu = nn.functional.relu
        residual = self.conv2(relu(self.conv1(relu(self.conv0(images)))))
        return relu(residual + (self.short(images) if self.shortens else images))


class Network(nn.Layer):  # type: ignore[misc]
    def __init__(self, naming: str) -> None:
        super().__init__()
        shapes = ((3, 32, 3), (32, 32, 3), (32, 64, 3))
        stem = [
            ConvNorm(shape, 1 + (n == 0), f"conv1_{n + 1}", naming, pool=False) for n, shape in enumerate(shapes)
        ]
        blocks, inputs, places = [], 64, []
        for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)):
            for block in range(depth):
                stride = 2 if block == 0 and stage > 0 else 1
                name = f"res{stage + 2}{'abcdef'[block]}"
                blocks.append(Bottleneck(inputs, width, stride, stage == block == 0, name, naming))
                places.append(f"bb_{stage}_{block}")
                inputs = 4 * width
        named = {"weight_attr": ParamAttr(name="fc_0.w_0"), "bias_attr": ParamAttr(name="fc_0.b_0")}
        head = nn.Linear(inputs, CLASSES, **(named if naming == "static" else {}))
        self.layers = (stem, blocks, head)
        if naming == "2.0":
            self.stem, self.blocks, self.fc = nn.Sequential(*stem), nn.Sequential(*blocks), head
        else:
            for place, layer in zip(["conv1_1", "conv1_2", "conv1_3", *places], [*stem, *blocks], strict=True):
                self.add_sublayer(place, layer)
            self.out = head

    def forward(self, images: Any) -> Any:
        stem, blocks, head = self.layers
        for layer in stem:
            images = nn.functional.relu(layer(images))
        images = nn.functional.max_pool2d(images, 3, 2, 1)
        for block in blocks:
            images = block(images)
        return head(images.mean([2, 3]))


def write_dygraph(folder: Path, images: Any, naming: str) -> None:
    network = Network(naming)
    random = np.random.default_rng(1)
    for name, value in network.state_dict().items():
        if name.endswith("_mean"):
            value.set_value(0.1 * random.standard_normal(value.shape).astype("float32"))
        elif name.endswith("_variance"):
            value.set_value(random.uniform(0.5, 1.5, value.shape).astype("float32"))
    network.eval()
    np.save(folder / f"{naming}.npy", network(paddle.to_tensor(images)).numpy())
    paddle.save(network.state_dict(), str(folder / f"{naming}.pdparams"))


def write_static(folder: Path, images: Any) -> None:
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        given = paddle.static.data("images", [None, 3, SIZE, SIZE])
        network = Network("static")
        network.eval()
        logits = network(given)
    executor = paddle.static.Executor()
    executor.run(startup)
    np.save(folder / "static.npy", executor.run(main, feed={"images": images}, fetch_list=[logits])[0])
    folder_of_variables = str(folder / "static")
    paddle.static.io.save_vars(executor, folder_of_variables, main, predicate=lambda v: v.persistable)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    noise = np.random.default_rng(0).standard_normal((2, 3, SIZE, SIZE)).astype("float32")
    np.save(target / "images.npy", noise)
    for each in ("1.8", "2.0"):
        write_dygraph(target, noise, each)
    write_static(target, noise)
