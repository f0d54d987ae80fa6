// A network of the page: its graph and weights in the runtime, and one call that runs it.

import * as ort from 'onnxruntime-web/wasm';
import { normals, randomStream, SIZE } from './numbers.js';

ort.env.wasm.numThreads = 1; // more would need headers that a file has not

/** Give the runtime its WebAssembly, once, before the first network. */
export function prepare(wasm) {
  ort.env.wasm.wasmBinary = wasm;
}

/** facts: as the exporter wrote them; graph, weights: Uint8Array. */
export async function open(facts, graph, weights) {
  const options = {
    executionProviders: ['wasm'],
    externalData: [{ path: 'weights.bin', data: weights }],
  };
  return { facts, session: await ort.InferenceSession.create(graph, options) };
}

/** Weights drawn anew as for a network before training: He et al.'s initialisation, biases 0. */
export function forget(facts, weights, seed) {
  const fresh = weights.slice(),
    random = randomStream(seed);
  for (const { offset, shape } of facts.weights) {
    const [outputs, ...fanIn] = shape,
      inputs = fanIn.reduce((a, b) => a * b, 1);
    const values = new Float32Array(fresh.buffer, offset, outputs * inputs);
    if (fanIn.length === 0) values.fill(0);
    else
      normals(values.length, random).forEach((value, i) => {
        values[i] = value * Math.sqrt(2 / inputs);
      });
  }
  return fresh;
}

/**
 * One pass. Gives { logits } and, if a target class is given, gradient (of its logit, or guided), and for a named
 * layer its activations A and their gradient dA with their shape.
 */
export async function run(network, tensor, { target = null, guided = false, layer = null } = {}) {
  const seed = new Float32Array(1000);
  if (target !== null) seed[target] = 1;
  const feeds = {
    image: new ort.Tensor('float32', tensor, [1, 3, SIZE, SIZE]),
    seed: new ort.Tensor('float32', seed, [1, 1000]),
    lowest: new ort.Tensor('float32', [guided ? 0 : -3e38], [1]),
    want_gradient: new ort.Tensor('bool', [target !== null], []),
  };
  const names = ['logits'];
  if (target !== null) names.push('gradient');
  if (layer) names.push(`a_${layer}`, `d_${layer}`);
  const found = await network.session.run(feeds, names);
  const result = { logits: found.logits.data, gradient: found.gradient?.data };
  if (!layer) return result;
  const A = found[`a_${layer}`];
  return { ...result, A: A.data, dA: found[`d_${layer}`].data, shape: A.dims };
}
