// Each method in a few lines, as in its lesson. A method is an async generator: it yields what it has so far, so that
// the page can draw it, and the worker can stop it between two steps. What it yields:
//   { attribution: 3 x 224 x 224 }  or  { cells, height, width } for a class activation map, which keeps its sign
//   done, total: steps; and what else the page shows (path, gap ...)

import { run } from './network.js';
import { blurred, enlarge, gaussLegendre, normals, plainTensor, randomStream, PIXELS } from './numbers.js';

export const methods = {
  gradient,
  timesInput,
  smoothGrad,
  integratedGradients,
  gradCam,
  cam,
  guided,
  guidedGradCam,
};

/** The slope of the class's score at every pixel (lesson 01). */
async function* gradient(network, image, { target }) {
  const { gradient: attribution } = await run(network, image, { target });
  yield { attribution, done: 1, total: 1 };
}

/** Slope times value; 0 is the mean colour (lesson 02). */
async function* timesInput(network, image, { target }) {
  const { gradient: slope } = await run(network, image, { target });
  yield { attribution: slope.map((g, i) => g * image[i]), done: 1, total: 1 };
}

/** The noise of the n-th copy, the same at every visit. */
export function noiseOf(n) {
  return normals(3 * PIXELS, randomStream(1000 + n));
}

/** The mean slope of noisy copies (lesson 03). */
async function* smoothGrad(network, image, { target, samples, noise }) {
  const spread = image.reduce((a, b) => Math.max(a, b), -Infinity) - image.reduce((a, b) => Math.min(a, b), Infinity);
  const sigma = noise * spread,
    sum = new Float64Array(3 * PIXELS);
  for (let n = 0; n < samples; n++) {
    const draws = noiseOf(n),
      copy = image.map((x, i) => x + sigma * draws[i]);
    const { gradient: slope } = await run(network, copy, { target });
    for (let i = 0; i < sum.length; i++) sum[i] += slope[i];
    yield { attribution: Float32Array.from(sum, (s) => s / (n + 1)), done: n + 1, total: samples };
  }
}

export const baselines = {
  mean: () => new Float32Array(3 * PIXELS),
  black: () => plainTensor([0, 0, 0]),
  white: () => plainTensor([1, 1, 1]),
  blur: blurred,
};

/** Slopes along the way from the baseline to the picture, added up, times the way (lesson 04). */
async function* integratedGradients(network, image, { target, steps, baseline }) {
  const start = baselines[baseline](image),
    way = image.map((x, i) => x - start[i]);
  const first = (await run(network, start)).logits[target],
    last = (await run(network, image)).logits[target];
  const { nodes, weights } = gaussLegendre(steps),
    sum = new Float64Array(3 * PIXELS),
    path = [[0, first]];
  for (let n = 0; n < steps; n++) {
    const point = start.map((x, i) => x + nodes[n] * way[i]);
    const { logits, gradient: slope } = await run(network, point, { target });
    for (let i = 0; i < sum.length; i++) sum[i] += weights[n] * slope[i];
    path.push([nodes[n], logits[target]]);
    const attribution = Float32Array.from(sum, (s, i) => s * way[i]);
    const shares = attribution.reduce((a, b) => a + b, 0);
    const ends = n + 1 === steps ? [[1, last]] : [];
    yield { attribution, path: [...path, ...ends], shares, gain: last - first, done: n + 1, total: steps };
  }
}

/** Channels weighted by their mean slope, summed; the page keeps the positive part unless asked (lesson 05). */
async function* gradCam(network, image, { target, layer }) {
  const { A, dA, shape } = await run(network, image, { target, layer });
  const [, channels, height, width] = shape,
    places = height * width,
    cells = new Float32Array(places);
  for (let k = 0; k < channels; k++) {
    const alpha = dA.subarray(k * places, (k + 1) * places).reduce((a, b) => a + b, 0) / places;
    for (let i = 0; i < places; i++) cells[i] += alpha * A[k * places + i];
  }
  yield { cells, height, width, done: 1, total: 1 };
}

/** The linear layer's own weights. Above the last layer dS/dA = w / (h w), so w is the slope times the places. */
async function* cam(network, image, { target }) {
  const layer = network.facts.layers[0].name;
  for await (const { cells, ...rest } of gradCam(network, image, { target, layer })) {
    yield { cells: cells.map((value) => value * cells.length), ...rest };
  }
}

/** The backward pass in which every ReLU lets only positive signals through (lesson 06). */
async function* guided(network, image, { target }) {
  const { gradient: attribution } = await run(network, image, { target, guided: true });
  yield { attribution, done: 1, total: 1 };
}

/** Guided backpropagation where Grad-CAM found evidence (lesson 07). */
async function* guidedGradCam(network, image, { target, layer }) {
  const { gradient: lines } = await run(network, image, { target, guided: true });
  for await (const { cells, height, width } of gradCam(network, image, { target, layer })) {
    const where = enlarge(
      cells.map((value) => Math.max(value, 0)),
      height,
      width,
    );
    yield { attribution: lines.map((value, i) => value * where[i % PIXELS]), done: 1, total: 1 };
  }
}
