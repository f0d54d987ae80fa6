// Spot the fake: two maps of the trained network, one of a network with random weights, one of an edge filter.

import { colourScale, paintMap, showPixels } from './draw.js';
import { correlation, edges, topOf } from './numbers.js';
import { mapOf } from './explain.js';
import { METHODS } from './texts.js';

const find = (selector) => document.querySelector(selector);
const QUESTIONS = [
  ['edges', 'First: which one is the edge filter, which knows no network?'],
  ['random', 'Second: which one explains the network with random weights?'],
];

export class Fake {
  constructor(app) {
    this.app = app;
    this.cards = [];
    this.score = [0, 0, 0]; // right, asked, what blind guessing would get
    find('#again').addEventListener('click', () => app.chooseAnyPhotograph());
  }

  /** A round with the picture at hand, unless one with it is under way. */
  open() {
    if (this.picture !== this.app.picture) this.start();
  }

  async start() {
    const { app } = this,
      round = (this.round = (this.round ?? 0) + 1);
    this.cards = [];
    this.question = 0;
    find('#again').disabled = true;
    find('#fake-maps').replaceChildren();
    find('#fake-answer').textContent = '';
    find('#fake-question').textContent = '';
    try {
      const cards = await this.draw(round);
      if (this.round !== round) return;
      this.cards = cards.sort(() => Math.random() - 0.5);
      this.deal();
    } catch (error) {
      app.say(app.explainError(error));
    }
    find('#fake-progress').hidden = true;
    find('#again').disabled = false;
  }

  /** The four maps of the picture, with SqueezeNet, which is always at hand. */
  async draw(round) {
    const { app } = this,
      name = 'squeezenet1_1';
    this.picture = app.picture;
    await app.client.open(name);
    const image = this.picture.tensor,
      bar = find('#fake-progress');
    bar.hidden = false;
    const { probabilities } = await app.client.ask('predict', { name, image }).done;
    const [target] = topOf(probabilities, 1),
      layer = self.explorerParts.networks[name].layers[0].name;
    const settings = { target, layer, samples: 12, noise: 0.15, steps: 12, baseline: 'mean' };
    const jobs = [
      ['map', 'guided', 'trained'],
      ['map', Math.random() < 0.5 ? 'smoothGrad' : 'guidedGradCam', 'trained'],
      ['randomMap', Math.random() < 0.7 ? 'guided' : 'smoothGrad', 'random'],
    ];
    const cards = [{ kind: 'edges', title: 'Edge filter: knows no network', map: edges(image) }];
    for (const [k, [job, method, kind]] of jobs.entries()) {
      Object.assign(bar.querySelector('progress'), { max: 4, value: k + 1 });
      bar.querySelector('span').textContent = 'drawing four maps';
      const seed = Math.floor(1e9 * Math.random());
      const result = await app.client.ask(job, { name, image, method, settings, seed }).done;
      const words = kind === 'trained' ? `trained network, ${app.classes[target]}` : 'random weights';
      cards.push({ kind, title: `${METHODS[method].title}: ${words}`, map: mapOf(result, false) });
      if (this.round !== round) return cards;
    }
    return cards;
  }

  deal() {
    const buttons = this.cards.map((card, k) => {
      const button = document.createElement('button'),
        canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [224, 224];
      const label = document.createElement('span'),
        note = document.createElement('small');
      label.textContent = `Map ${k + 1}`;
      button.type = 'button';
      button.append(canvas, label, note);
      button.addEventListener('click', () => this.choose(card));
      return Object.assign(card, { button, canvas, note });
    });
    find('#fake-maps').replaceChildren(...buttons.map(({ button }) => button));
    find('#fake-question').textContent = QUESTIONS[0][1];
    this.paint();
  }

  paint() {
    for (const { canvas, map } of this.cards) {
      showPixels(canvas, paintMap(map, colourScale([map], false), null, 1));
    }
  }

  choose(card) {
    const [kind] = QUESTIONS[this.question],
      right = card.kind === kind;
    const fake = this.cards.find((other) => other.kind === kind),
      chance = this.question ? 1 / 3 : 1 / 4;
    this.score = [this.score[0] + right, this.score[1] + 1, this.score[2] + chance];
    card.button.classList.add(right ? 'right' : 'wrong');
    this.name(fake);
    fake.button.classList.add('right');
    fake.button.disabled = true;
    const number = this.cards.indexOf(fake) + 1;
    find('#fake-answer').textContent = right ? 'Right.' : `No, it is map ${number}.`;
    this.question += 1;
    if (this.question < QUESTIONS.length) find('#fake-question').textContent = QUESTIONS[this.question][1];
    else this.finish();
    find('#fake-score').textContent =
      `${this.score[0]} of ${this.score[1]} right. Blind guessing would get ${this.score[2].toFixed(1)}.`;
  }

  name(card) {
    const filter = this.cards.find(({ kind }) => kind === 'edges');
    const r = card === filter ? '' : `. Likeness to the edges: r = ${correlation(card.map, filter.map).toFixed(2)}`;
    card.note.textContent = card.title + r;
  }

  finish() {
    for (const card of this.cards) {
      this.name(card);
      card.button.disabled = true;
    }
    find('#fake-question').textContent = '';
    find('#fake-answer').textContent += ' A map of a network that has learnt nothing can look as good as the others.';
  }
}
