"""The README of a served model: what a client sends, and the lines that make it from an image file."""

from typing import Any

from steps.reports.card import Card

SIZED = """\
Send RGB images as unsigned bytes, N x {size} x {size} x 3, already resized and cropped; the network normalises
them itself. `preprocess` in the `predict.py` beside this file makes them exactly as the model was judged: the
image is set upright, its short side resized to {resize} pixels ({interpolation}, antialiased), its centre cropped
to {size} x {size}. Another library's resize costs accuracy without a message.
"""
ANY = """\
Send decoded RGB images, set upright, as unsigned bytes, N x H x W x 3, of any height and width up to {max_side}
pixels; the engine resizes, crops and normalises them itself. Images of one request share their height and width.
"""
# what the client's lines take from predict.py, and how they make the input of it
IMPORTS = {
    "sized": "from predict import decode_rgb, preprocess  ",
    "any": "from predict import decode_rgb              ",
}
HOWS = {"sized": "    HOW = {how}\n", "any": ""}
PREPARE = {"sized": "preprocess(decode_rgb(content), HOW)", "any": "np.asarray(decode_rgb(content))"}
CLIENT = """\
    from pathlib import Path

    import numpy as np
    import tritonclient.http as triton            # pip install tritonclient[http] onnxruntime pillow
    {imports}  # the predict.py beside this file

{how}    content = Path("photo.jpg").read_bytes()
    images_NHWC_u8 = {prepare}[None]
    source = triton.InferInput("{source}", images_NHWC_u8.shape, "UINT8")
    source.set_data_from_numpy(images_NHWC_u8)
    best = triton.InferRequestedOutput("{scores}", class_count=3)
    answer = triton.InferenceServerClient("localhost:8000").infer("{name}", [source], outputs=[best])
    print(answer.as_numpy("{scores}"))            # score:class id:class name, of the three best
"""
NOTES = {  # by backend; or by backend and precision, where that asks for more
    "onnxruntime": "",
    "openvino": "On a CPU with bfloat16, OpenVINO computes in it unless it is told not to, and Triton has no\n"
    "word for that: the scores there are not those that were judged. ONNX Runtime computes in float32 anywhere.\n",
    "openvino bf16": "This engine was judged in bfloat16. Serve it on a CPU that has it (avx512_bf16 or amx_bf16\n"
    "in /proc/cpuinfo): OpenVINO computes in it there by itself. On another CPU it computes in float32 without a\n"
    "message, and the scores are not those that were judged.\n",
    "tensorrt": "The engine belongs to the GPU and the TensorRT that it was built for: {runtime}, compute\n"
    "capability {capabilities}. The server must have that version.\n",
}


def client_page(name: str, card: Card, config: dict[str, Any]) -> str:
    """Return the page, in Markdown."""
    how = card.preprocessing
    facts = {"size": how.size, "resize": how.resize, "interpolation": how.interpolation, "max_side": card.max_side}
    device = {
        "runtime": card.device.runtime,
        "capabilities": ", ".join(card.device.compute_capabilities) or "unknown",
    }
    client = CLIENT.format(
        imports=IMPORTS[card.takes],
        how=HOWS[card.takes].format(how={key: facts[key] for key in ("size", "resize", "interpolation")}),
        prepare=PREPARE[card.takes],
        source=config["input"][0]["name"],
        scores=config["output"][0]["name"],
        name=name,
    )
    parts = (
        f"# {name}\n",
        f"{card.form} of a {card.arch} with {card.class_num} classes; `release.json` tells of what release.\n",
        {"sized": SIZED, "any": ANY}[card.takes].format(**facts),
        "The answer is one score (logit) a class, as in `labels.txt`; `predict.py` gives their softmax.\n"
        f"{_count(config['max_batch_size'])}\n",
        client,
        NOTES.get(f"{card.backend} {card.precision}", NOTES[card.backend]).format(**device),
    )
    return "\n".join(part for part in parts if part)


def _count(most: int) -> str:
    if most:
        return f"At most {most} images a request; the server gathers requests to batches."
    return "A request holds any number of images; `class_count` is right for one, as below."
