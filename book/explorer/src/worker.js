// The worker: networks and methods, away from the page, which stays quick. One job at a time; a job can be stopped
// between two runs of the network.
//
// in:  { id, job, ...settings } or { stop: id }        out: { id, partial }, { id, result } or { id, error }

import { forget, open, prepare, run } from './network.js';
import { methods, noiseOf } from './methods.js';
import { softmax, without } from './numbers.js';

const networks = {},
  files = {},
  stopped = new Set();
let last = Promise.resolve();

self.onmessage = ({ data }) => {
  if (data.stop !== undefined) stopped.add(data.stop);
  else last = last.then(() => work(data));
};

async function work({ id, job, ...settings }) {
  try {
    const started = performance.now();
    let result = null;
    for await (const partial of jobs[job](settings)) {
      result = partial;
      self.postMessage({ id, partial });
      await new Promise((resume) => {
        setTimeout(resume, 0);
      }); // lets a stop come in
      if (stopped.has(id)) break;
    }
    self.postMessage({ id, result, stopped: stopped.has(id), seconds: (performance.now() - started) / 1000 });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
  stopped.delete(id);
}

const jobs = {
  async *start({ wasm }) {
    prepare(wasm);
    yield {};
  },

  async *open({ name, facts, graph, weights }) {
    files[name] = { facts, graph, weights };
    networks[name] = await open(facts, graph, weights);
    yield {};
  },

  /** Probabilities of all classes. */
  async *predict({ name, image }) {
    yield { probabilities: softmax((await run(networks[name], image)).logits) };
  },

  async *map({ name, image, method, settings }) {
    yield* methods[method](networks[name], image, settings);
  },

  /** The same method on a network with random weights, of which one is kept. */
  async *randomMap({ name, image, method, settings, seed }) {
    const { facts, graph, weights } = files[name],
      key = `${name}, random`;
    if (networks[key]) await networks[key].session.release();
    networks[key] = await open(facts, graph, forget(facts, weights, seed));
    yield* methods[method](networks[key], image, settings);
  },

  /** The class's probability while places vanish in each of several orders; shares: parts of all places. */
  async *deletion({ name, image, target, orders, shares }) {
    const curves = orders.map(() => []),
      total = shares.length * orders.length;
    for (const share of shares) {
      for (let k = 0; k < orders.length; k++) {
        const picture = without(image, orders[k], Math.round(share * orders[k].length));
        curves[k].push(softmax((await run(networks[name], picture)).logits)[target]);
        yield { curves: curves.map((curve) => [...curve]), done: curves.flat().length, total };
      }
    }
  },

  /** For the tests: the noise of SmoothGrad's n-th copy. */
  async *noise({ n }) {
    yield { noise: noiseOf(n) };
  },
};
