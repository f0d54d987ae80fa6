// What the reader has chosen, and the same in the page's address, so that a link opens what its sender saw.

import { BASELINES, METHODS } from './texts.js';

const TABS = ['explain', 'remove', 'cover', 'fake'];
export const LIMITS = { samples: [1, 200], noise: [0, 0.5], steps: [2, 200] };

/** Single pixels of both signs look like red and blue dust; sums of blocks can be read. */
export const usualDetail = (sign) => (sign === 'signed' ? 'blocks' : 'pixels');

export function defaults() {
  const map = { target: null, layer: null, samples: 50, noise: 0.15, steps: 30, baseline: 'mean' };
  return {
    photo: 'dog',
    network: 'squeezenet1_1',
    tab: 'explain',
    two: false,
    sign: 'absolute',
    scale: 'own',
    detail: 'pixels',
    behind: 'photo',
    opacity: 85,
    rival: 'pixels',
    maps: [
      { method: 'gradient', ...map },
      { method: 'gradCam', ...map },
    ],
  };
}

const one = (value, known, otherwise) => (known.includes(value) ? value : otherwise);

function number(text, [low, high], otherwise) {
  const value = Number(text);
  return text !== null && text !== '' && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
}

/** The text after # -> a state; what is missing, unknown or out of range is as in defaults(). */
export function fromAddress(text, facts, photographs) {
  const given = new URLSearchParams(text.replace(/^#/, '')),
    state = defaults();
  state.photo = one(
    given.get('photo'),
    photographs.map(({ name }) => name),
    state.photo,
  );
  state.network = one(given.get('network'), Object.keys(facts), state.network);
  state.tab = one(given.get('tab'), TABS, state.tab);
  state.two = given.get('two') === '1';
  state.sign = one(given.get('sign'), ['absolute', 'signed'], state.sign);
  state.scale = one(given.get('scale'), ['own', 'one'], state.scale);
  state.detail = one(given.get('detail'), ['pixels', 'blocks'], usualDetail(state.sign));
  state.behind = one(given.get('behind'), ['photo', 'none'], state.behind);
  state.rival = one(given.get('rival'), ['pixels', 'patches'], state.rival);
  state.opacity = number(given.get('opacity'), [0, 100], state.opacity);
  state.maps.forEach((map, k) => {
    const get = (key) => given.get(`${key}${k + 1}`);
    map.method = one(get('method'), Object.keys(METHODS), map.method);
    map.layer = one(
      get('layer'),
      facts[state.network].layers.map(({ name }) => name),
      null,
    );
    const target = number(get('class'), [0, 999], null);
    map.target = target === null ? null : Math.round(target);
    map.samples = Math.round(number(get('samples'), LIMITS.samples, map.samples));
    map.noise = number(get('noise'), LIMITS.noise, map.noise);
    map.steps = Math.round(number(get('steps'), LIMITS.steps, map.steps));
    map.baseline = one(get('baseline'), Object.keys(BASELINES), map.baseline);
  });
  return state;
}

/** What differs from defaults(), as the text after #. */
export function toAddress(state) {
  const usual = { ...defaults(), detail: usualDetail(state.sign) },
    given = new URLSearchParams();
  for (const key of ['photo', 'network', 'tab', 'sign', 'scale', 'detail', 'behind', 'opacity', 'rival']) {
    if (state[key] !== usual[key] && state[key] !== null) given.set(key, state[key]);
  }
  if (state.two) given.set('two', '1');
  state.maps.slice(0, state.two ? 2 : 1).forEach((map, k) => {
    given.set(`method${k + 1}`, map.method);
    if (map.target !== null) given.set(`class${k + 1}`, map.target);
    for (const key of METHODS[map.method].options ?? []) {
      if (map[key] !== usual.maps[k][key]) given.set(`${key}${k + 1}`, map[key]);
    }
  });
  return `#${given}`;
}
