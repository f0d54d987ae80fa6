// Take pixels away: the probability while those that a map ranks first vanish, against as many at random.

import { paintCurves, showPixels } from './draw.js';
import { normals, PIXELS, SIZE, randomStream, ranking, toPixels, without } from './numbers.js';
import { mapOf } from './explain.js';
import { percent } from './texts.js';

const PATCH = 16;
const SHARES = Array.from({ length: 21 }, (_, k) => k / 20);
/** Random numbers for all pixels: one for each, or one for each patch. */
function noise(rival) {
  const draws = normals(PIXELS, randomStream(7)),
    patch = (i) => Math.floor(i / SIZE / PATCH) * SIZE + Math.floor((i % SIZE) / PATCH);
  return rival === 'pixels' ? draws : draws.map((_, i) => draws[patch(i)]);
}

/** What two probabilities say, in one sentence. */
function verdict(byMap, byChance) {
  if (Math.abs(byMap - byChance) < 0.05) return 'No difference to speak of between the map and chance here.';
  return byMap < byChance
    ? 'The map beats chance here: its pixels mattered more.'
    : 'Chance does better here: the map missed pixels that matter, or the holes themselves do the harm.';
}

const find = (selector) => document.querySelector(selector);

export class Removal {
  constructor(app) {
    this.app = app;
    this.curves = [[], []];
    find('#share').addEventListener('input', () => this.show());
    find('#remove-progress button').addEventListener('click', () => app.client.stop(this.job));
  }

  /** The picture or its map is another one: what was under way for the old one ends. */
  clear() {
    if (this.job) this.app.client.stop(this.job);
    this.job = null;
    this.asked = null;
    this.orders = null;
    this.curves = [[], []];
    find('#remove-progress').hidden = true;
  }

  /** Start anew with the map at hand; both orders go through the network at every twentieth. */
  async start() {
    const panel = this.app.panels[0],
      { app } = this;
    this.clear();
    const asked = (this.asked = {});
    await panel.found;
    if (this.asked !== asked || !panel.result) return;
    this.orders = [ranking(mapOf(panel.result, false)), ranking(noise(app.state.rival))];
    this.title = panel.title;
    const request = {
      name: app.state.network,
      image: app.picture.tensor,
      target: panel.target,
      orders: this.orders,
      shares: SHARES,
    };
    const { id, done } = app.client.ask('deletion', request, (partial) => {
      if (this.job !== id) return;
      this.curves = partial.curves;
      const bar = find('#remove-progress');
      bar.hidden = false;
      Object.assign(bar.querySelector('progress'), { max: partial.total, value: partial.done });
      bar.querySelector('span').textContent = `${partial.done} of ${partial.total} pictures through the network`;
      this.show();
    });
    this.job = id;
    this.show();
    try {
      await done;
    } catch (error) {
      app.say(app.explainError(error));
    }
    if (this.job === id) {
      find('#remove-progress').hidden = true;
      this.job = null;
    }
  }

  show() {
    if (!this.orders) return;
    const share = Number(find('#share').value) / 100,
      step = Math.round(20 * share);
    find('#share').nextElementSibling.textContent = `${Math.round(100 * share)} %`;
    ['map', 'noise'].forEach((name, k) => {
      const canvas = find(`#removed-${name}`),
        p = this.curves[k][step];
      showPixels(canvas, toPixels(without(this.app.picture.tensor, this.orders[k], Math.round(share * PIXELS))));
      find(`#p-${name}`).textContent = p === undefined ? '…' : percent(p);
      canvas.setAttribute(
        'aria-label',
        `${Math.round(100 * share)} % of the pixels taken away by ${name === 'map' ? 'the map' : 'chance'}`,
      );
    });
    const [byMap, byChance] = this.curves.map((curve) => curve[step]),
      known = byMap !== undefined && byChance !== undefined;
    const said = !share ? 'Now move the slider.' : known ? verdict(byMap, byChance) : '';
    if (find('#verdict').textContent !== said) find('#verdict').textContent = said; // read aloud once
    this.draw(share);
  }

  draw(share) {
    const target = this.app.classes[this.app.panels[0].target];
    const seen = this.curves.map((curve) => curve.slice(0, Math.round(20 * this.reached(share)) + 1));
    const curves = seen.map((curve, k) => ({ points: curve.map((p, i) => [SHARES[i], p]), style: k ? 'two' : 'one' }));
    const marks = { low: '0 %', high: '100 %', first: 'nothing', last: 'everything', title: 'taken away' };
    paintCurves(find('#curves'), curves, { range: [0, 1], marks, at: share });
    find('#curves').setAttribute('aria-label', `Probability of ${target} while pixels vanish`);
    find('#curves-text').textContent = `Probability of ${target}. Line: by the map (${this.title}). Dashes: by chance.`;
  }

  /** The curve is drawn as far as the slider has been, so that it does not give the answer away. */
  reached(share) {
    if (this.curves[0].length < 2) this.furthest = 0;
    this.furthest = Math.max(this.furthest ?? 0, share);
    return this.furthest;
  }
}
