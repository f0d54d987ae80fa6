"""Seconds, bytes and errors of a SqueezeNet gradient in a browser: onnxruntime-web against tfjs, on one thread.

python -m book.explorer.compare_runtimes FOLDER    FOLDER holds node_modules with onnxruntime-web and @tensorflow/tfjs
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from pathlib import Path

import torch
from playwright.sync_api import Error, sync_playwright

from book.explorer.networks import export
from utils import import_lesson, load_image, load_model, preprocess_image

PAGE = """<!doctype html><script src="node_modules/@tensorflow/tfjs/dist/tf.min.js"></script>
<script src="node_modules/@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.min.js"></script><script>
const bytes = async (name) => (await fetch(name)).arrayBuffer();
async function timed(run) {                                 // the first run compiles; then the median of five
  await run();
  const seconds = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    await run();
    seconds.push((performance.now() - start) / 1000);
  }
  return seconds.sort((a, b) => a - b)[2];
}
async function ort() {
  const ort = await import('./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL('./node_modules/onnxruntime-web/dist/', location.href).href;
  const data = new Uint8Array(await bytes('weights.bin'));
  const options = { externalData: [{ path: 'weights.bin', data }], executionProviders: ['wasm'] };
  const session = await ort.InferenceSession.create(new Uint8Array(await bytes('graph.onnx')), options);
  const seed = new Float32Array(1000); seed[TARGET] = 1;
  const inputs = {
    image: new ort.Tensor('float32', new Float32Array(await bytes('image.bin')), [1, 3, 224, 224]),
    seed: new ort.Tensor('float32', seed, [1, 1000]), lowest: new ort.Tensor('float32', [-3.4e38], [1]),
    want_gradient: new ort.Tensor('bool', [true], []),
  };
  const run = async () => (await session.run(inputs, ['gradient'])).gradient.data;
  return { gradient: Array.from(await run()), seconds: await timed(run) };
}
async function tfjs(backend) {
  tf.wasm.setWasmPaths('node_modules/@tensorflow/tfjs-backend-wasm/dist/');
  await tf.setBackend(backend); await tf.ready();
  const data = await bytes('weights.bin'), weights = {};
  for (const { name, offset, shape } of FACTS.weights) {
    const count = shape.reduce((a, b) => a * b, 1);
    const t = tf.tensor(new Float32Array(data, offset, count), shape);
    weights[name] = shape.length === 4 ? t.transpose([2, 3, 1, 0]) : t;
  }
  const conv = (x, name, stride, pad) => {
    const z = tf.conv2d(x, weights[name + '.weight'], stride, pad);
    return z.add(weights[name + '.bias']).relu();
  };
  const fire = (x, name) => {
    const s = conv(x, name + '.squeeze', 1, 'valid');
    return tf.concat([conv(s, name + '.expand1x1', 1, 'valid'), conv(s, name + '.expand3x3', 1, 'same')], 3);
  };
  const score = (x) => {
    let y = conv(x, 'features.0', 2, 'valid');
    for (const i of [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
      y = [2, 5, 8].includes(i) ? tf.maxPool(y, 3, 2, 'valid') : fire(y, 'features.' + i);
    return conv(y, 'classifier.1', 1, 'valid').mean([1, 2]).mul(tf.oneHot([TARGET], 1000)).sum();
  };
  const image = tf.tensor(new Float32Array(await bytes('image.bin')), [1, 3, 224, 224]).transpose([0, 2, 3, 1]);
  const gradient = tf.grad(score);
  const run = async () => {
    const g = tf.tidy(() => gradient(image).transpose([0, 3, 1, 2]));
    const values = await g.data();
    g.dispose();
    return values;
  };
  return { gradient: Array.from(await run()), seconds: await timed(run) };
}
</script>"""


def prepare(folder: Path) -> torch.Tensor:
    """Write the page, the graph and an image beside node_modules; the gradient that PyTorch finds."""
    model, weights, facts = export("squeezenet1_1")
    network, image = load_model("squeezenet1_1"), preprocess_image(load_image("cat.jpg"))
    target = int(network(image).argmax())
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    (folder / "weights.bin").write_bytes(weights)
    (folder / "image.bin").write_bytes(image.numpy().tobytes())
    (folder / "page.html").write_text(PAGE.replace("TARGET", str(target)).replace("FACTS", json.dumps(facts)))
    return import_lesson("01_vanilla_gradient_saliency").vanilla_gradient(network, image, target)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each request."""

    def log_message(self, *_args) -> None:
        """Say nothing."""


def main(folder: Path) -> None:
    """Print a row for each runtime."""
    right = prepare(folder).flatten()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--enable-unsafe-swiftshader"])
        for call in ("ort()", "tfjs('cpu')", "tfjs('wasm')", "tfjs('webgl')"):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
            try:
                found = page.evaluate(f"async () => await {call}")
                error = (torch.tensor(found["gradient"]) - right).norm() / right.norm()
                print(f"{call:16} {found['seconds']:8.3f} s   relative error {error:.1e}", flush=True)
            except Error as error:
                print(f"{call:16} {str(error).splitlines()[0][:110]}", flush=True)
            page.close()
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
