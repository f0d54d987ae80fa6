// Cover a part by hand, guess what happens, and then see.

import { showPixels } from './draw.js';
import { PIXELS, SIZE, toPixels, topOf } from './numbers.js';
import { percent } from './texts.js';

const find = (selector) => document.querySelector(selector);
const KINDS = {
  falls: 'fall by more than half',
  little: 'fall by less than half',
  stays: 'stay about the same, or rise',
};

export class Cover {
  constructor(app) {
    this.app = app;
    this.score = [0, 0];
    this.at = { x: SIZE / 2, y: SIZE / 2 };
    this.canvas = find('#brush');
    this.listen();
  }

  start() {
    this.strokes = [];
    this.covered = new Uint8Array(PIXELS);
    find('#cover-class').textContent = this.app.classes[this.app.panels[0].target];
    this.again();
  }

  again() {
    find('#cover-result').replaceChildren();
    find('#reveal').disabled = true;
    document.querySelectorAll('[name="guess"]').forEach((input) => {
      input.checked = false;
    });
    this.show();
  }

  listen() {
    const { canvas } = this,
      place = (event) => {
        const box = canvas.getBoundingClientRect();
        this.at = {
          x: ((event.clientX - box.left) / box.width) * SIZE,
          y: ((event.clientY - box.top) / box.height) * SIZE,
        };
      };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      place(event);
      this.begin();
      this.dab();
    });
    canvas.addEventListener('pointermove', (event) => {
      place(event);
      if (event.buttons) this.dab();
      else this.show();
    });
    canvas.addEventListener('keydown', (event) => this.pressed(event));
    find('#radius').addEventListener('input', () => this.show());
    find('#undo').addEventListener('click', () => this.undo());
    find('#wipe').addEventListener('click', () => this.start());
    find('#guess').addEventListener('change', () => {
      find('#reveal').disabled = !this.covered.includes(1);
    });
    find('#reveal').addEventListener('click', () => this.reveal());
  }

  pressed(event) {
    const moves = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, -6], ArrowDown: [0, 6] },
      move = moves[event.key];
    if (!move && event.key !== ' ' && event.key.toLowerCase() !== 'z') return;
    event.preventDefault();
    if (move)
      this.at = {
        x: Math.min(SIZE, Math.max(0, this.at.x + move[0])),
        y: Math.min(SIZE, Math.max(0, this.at.y + move[1])),
      };
    else if (event.key === ' ') {
      this.begin();
      this.dab();
    } else this.undo();
    this.show();
  }

  begin() {
    this.strokes.push(this.covered.slice());
    if (find('#cover-result').hasChildNodes()) this.again();
  }

  undo() {
    this.covered = this.strokes.pop() ?? new Uint8Array(PIXELS);
    this.again();
  }

  dab() {
    const radius = Number(find('#radius').value);
    for (let i = 0; i < PIXELS; i++) {
      if (Math.hypot((i % SIZE) + 0.5 - this.at.x, Math.floor(i / SIZE) + 0.5 - this.at.y) <= radius)
        this.covered[i] = 1;
    }
    find('#reveal').disabled = !find('[name="guess"]:checked');
    this.show();
  }

  tensor() {
    const copy = this.app.picture.tensor.slice();
    copy.forEach((_, i) => {
      if (this.covered[i % PIXELS]) copy[i] = 0;
    });
    return copy;
  }

  show() {
    if (!this.covered || !this.app.picture) return;
    const radius = Number(find('#radius').value);
    find('#radius').nextElementSibling.textContent = `${2 * radius} px`;
    showPixels(this.canvas, toPixels(this.tensor()));
    const pen = this.canvas.getContext('2d');
    pen.lineWidth = 1.5;
    pen.strokeStyle = '#fff';
    pen.beginPath();
    pen.arc(this.at.x, this.at.y, radius, 0, 7);
    pen.stroke();
    pen.strokeStyle = '#0008';
    pen.setLineDash([3, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }

  async reveal() {
    const { app } = this,
      target = app.panels[0].target,
      guessed = find('[name="guess"]:checked').value;
    find('#reveal').disabled = true;
    const { probabilities } = await app.client.ask('predict', { name: app.state.network, image: this.tensor() }).done;
    const before = app.probabilities[target],
      after = probabilities[target];
    const kind = after < before / 2 ? 'falls' : after < 0.98 * before ? 'little' : 'stays';
    this.score = [this.score[0] + (kind === guessed), this.score[1] + 1];
    const share = this.covered.reduce((a, b) => a + b, 0) / PIXELS;
    const verdict = document.createElement('p');
    const strong = (text) => Object.assign(document.createElement('strong'), { textContent: text });
    const words = ` You covered ${percent(share)} of the picture. The probability went from ${percent(before)} to `;
    verdict.append(strong(kind === guessed ? 'You were right.' : 'Surprise.'), words, strong(percent(after)), '.');
    find('#cover-result').replaceChildren(verdict, this.table(probabilities));
    find('#cover-score').textContent =
      `${this.score[0]} of ${this.score[1]} guesses right. You guessed "${KINDS[guessed]}". Paint on for another.`;
  }

  table(probabilities) {
    const table = document.createElement('table'),
      row = (index) => `<tr><th>${this.app.classes[index]}</th>
      <td>${percent(this.app.probabilities[index])}</td><td>${percent(probabilities[index])}</td></tr>`;
    table.innerHTML = `<thead><tr><th>now says</th><th>before</th><th>covered</th></tr></thead>
      <tbody>${topOf(probabilities, 4).map(row).join('')}</tbody>`;
    return table;
  }
}
