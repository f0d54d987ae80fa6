// First steps: each sets the page up, and says what to look at.

import { WALK } from './texts.js';

const find = (selector) => document.querySelector(selector);

export class Walk {
  constructor(app) {
    this.app = app;
    this.at = -1;
    find('#walk-next').addEventListener('click', () => this.to(this.at + 1));
    find('#walk-back').addEventListener('click', () => this.to(this.at - 1));
    find('#walk-end').addEventListener('click', () => {
      find('#walk').hidden = true;
    });
  }

  to(step) {
    if (step === WALK.length) return void (find('#walk').hidden = true);
    const { title, settings, look } = WALK[step],
      strong = document.createElement('strong');
    this.at = step;
    strong.textContent = `${step + 1} of ${WALK.length}: ${title}`;
    find('#walk-text').replaceChildren(strong, document.createElement('br'), look);
    find('#walk-next').textContent = step + 1 < WALK.length ? 'Next' : 'Done';
    find('#walk-back').hidden = step === 0;
    find('#walk-end').textContent = 'Leave the walk';
    this.app.go(settings);
  }
}
