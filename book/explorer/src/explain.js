// One or two maps side by side: choosing, computing, drawing, reading values, saving.

import { colourScale, paintBar, paintCurves, paintMap, showPixels } from './draw.js';
import { blockSums, enlarge, overColours, SIZE } from './numbers.js';
import { LIMITS } from './state.js';
import { BASELINES, METHODS, OPTIONS, percent, short } from './texts.js';
import { bookPage, write } from './words.js';

/** A result of the worker -> a map of 224 x 224, signed or of strengths only. */
export function mapOf({ attribution, cells, height, width }, signed) {
  if (attribution) return overColours(attribution, signed);
  return enlarge(signed ? cells : cells.map((value) => Math.max(value, 0)), height, width);
}

export class Panel {
  constructor(app, index) {
    this.app = app;
    this.index = index;
    this.element = document.querySelector('#panel').content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.element.querySelector(selector);
    this.canvas = this.find('.map');
    this.result = null;
    this.found = null; // settles when the map is there, or has failed
    this.fill();
    this.listen();
  }

  get choice() {
    return this.app.state.maps[this.index];
  }

  get target() {
    return this.choice.target ?? this.app.top[0];
  }

  get title() {
    return `${METHODS[this.choice.method].title}, ${this.app.classes[this.target]}`;
  }

  fill() {
    for (const [key, { title, group }] of Object.entries(METHODS)) {
      const select = this.find('.method');
      if (select.lastElementChild?.label !== group) {
        select.append(Object.assign(document.createElement('optgroup'), { label: group }));
      }
      select.lastElementChild.append(new Option(title, key));
    }
    this.element.setAttribute('aria-label', `Map ${this.index + 1}`);
  }

  listen() {
    this.find('.method').addEventListener('change', (event) => {
      this.choice.method = event.target.value;
      this.changed();
    });
    const field = this.find('.class');
    field.addEventListener('focus', () => field.select());
    field.addEventListener('change', () => this.typed(field.value));
    this.find('.progress button').addEventListener('click', () => this.app.client.stop(this.job));
    this.canvas.addEventListener('pointermove', (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.app.point(
        Math.floor(((event.clientX - box.left) / box.width) * SIZE),
        Math.floor(((event.clientY - box.top) / box.height) * SIZE),
      );
    });
    this.canvas.addEventListener('pointerleave', () => this.app.point(null));
    this.canvas.addEventListener('keydown', (event) => this.pressed(event));
  }

  pressed(event) {
    const step = event.shiftKey ? 16 : 4,
      moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const { x, y } = this.app.pointed ?? { x: SIZE / 2, y: SIZE / 2 };
    this.app.point(x + move[0], y + move[1]);
  }

  typed(text) {
    try {
      this.choice.target = this.app.findClass(text);
      this.app.say('');
      this.changed();
    } catch (error) {
      this.app.say(error.message);
      this.showChoice();
    }
  }

  changed() {
    this.app.remember();
    this.showChoice();
    this.compute();
  }

  showChoice() {
    const { method } = this.choice,
      { about, watch, unit, lesson } = METHODS[method];
    this.find('.method').value = method;
    this.find('.class').value = this.app.top ? this.app.classes[this.target] : '';
    write(this.find('.about'), about);
    write(this.find('.watch'), `Watch for: ${watch}`);
    write(this.find('.unit'), `The numbers at the colours: ${unit}.`);
    const page = bookPage(`${lesson}.html`);
    this.find('.lesson').parentElement.hidden = !page;
    if (page) this.find('.lesson').href = page;
    this.find('.options').replaceChildren(...(METHODS[method].options ?? []).map((key) => this.option(key)));
  }

  /** The field for one option of the method, with what it does. */
  option(key) {
    const label = document.createElement('label'),
      [words, why] = OPTIONS[key],
      field = key === 'layer' || key === 'baseline' ? this.choiceField(key) : this.numberField(key, words),
      hint = Object.assign(document.createElement('small'), { textContent: why, id: `why-${key}-${this.index}` });
    field.setAttribute('aria-describedby', hint.id);
    label.append(words, field, hint);
    return label;
  }

  set(key, value) {
    this.choice[key] = value;
    this.changed();
  }

  choiceField(key) {
    const { layers } = this.app.facts,
      order = (k) => (k === 0 ? 'last' : k === layers.length - 1 ? 'early' : 'middle'),
      names = layers.map(({ name, shape }, k) => [k ? name : null, `${order(k)}: ${shape[2]} × ${shape[3]} places`]);
    const select = document.createElement('select');
    const entries = key === 'layer' ? names : Object.entries(BASELINES);
    select.append(...entries.map(([value, text]) => new Option(text, value ?? '')));
    select.value = this.choice[key] ?? '';
    select.addEventListener('change', () => this.set(key, select.value || null));
    return select;
  }

  numberField(key, words) {
    const input = document.createElement('input'),
      [min, max] = LIMITS[key],
      step = key === 'noise' ? 0.05 : 1;
    Object.assign(input, { type: 'number', min, max, step, value: this.choice[key], className: 'class' });
    input.addEventListener('change', () => {
      const value = Number(input.value);
      if (Number.isFinite(value) && input.value !== '' && value >= min && value <= max)
        return this.set(key, key === 'noise' ? value : Math.round(value));
      this.app.say(`${words} must lie between ${min} and ${max}.`);
      input.value = this.choice[key];
    });
    return input;
  }

  /** The picture has changed: no map of another one stays over it. */
  clear() {
    if (this.job) this.app.client.stop(this.job);
    this.job = null;
    this.result = null;
    this.canvas.dataset.state = 'waiting';
    this.find('.facts').textContent = '';
    showPixels(this.canvas, this.app.picture.rgba);
  }

  /** Ask the worker anew; what it was doing for this panel ends. */
  compute() {
    if (this.job) this.app.client.stop(this.job);
    if (!this.app.picture || !this.app.top) return;
    this.result = null;
    this.stopped = false;
    this.found = this.wait();
  }

  async wait() {
    const { method, ...settings } = this.choice,
      { app } = this;
    this.find('.path').hidden = true;
    this.find('.facts').textContent = '';
    if (method === 'cam' && !app.facts.cam) {
      this.job = null;
      return this.refuse(
        `${app.facts.title} has a ReLU between its last sum and the average, so CAM does not fit. ` +
          'Choose ResNet-50 above, or Grad-CAM.',
      );
    }
    const request = {
      name: app.state.network,
      image: app.picture.tensor,
      method,
      settings: { ...settings, target: this.target, layer: settings.layer ?? app.facts.layers[0].name },
    };
    const { id, done } = app.client.ask('map', request, (partial) => {
      if (this.job === id) this.show(partial);
    });
    this.job = id;
    this.progress(0, 1);
    try {
      const { stopped, seconds } = await done;
      if (this.job !== id) return;
      this.job = null;
      this.find('.progress').hidden = true;
      this.seconds = seconds;
      this.canvas.dataset.state = stopped ? 'stopped' : 'done';
      this.stopped = stopped;
      this.report();
      app.mapped(this);
    } catch (error) {
      if (this.job === id) this.refuse(app.explainError(error));
    }
  }

  refuse(sentence) {
    this.find('.progress').hidden = true;
    this.find('.facts').textContent = sentence;
    this.find('.facts').setAttribute('aria-busy', 'false');
    this.canvas.dataset.state = 'refused';
    showPixels(this.canvas, this.app.picture.rgba);
    this.app.mapped(this);
  }

  progress(done, total) {
    const bar = this.find('.progress');
    bar.hidden = false;
    this.find('.facts').setAttribute('aria-busy', 'true'); // a screen reader need not read every step
    this.canvas.dataset.state = 'busy';
    const progress = bar.querySelector('progress');
    if (total > 1) Object.assign(progress, { max: total, value: done });
    else progress.removeAttribute('value');
    bar.querySelector('span').textContent = total > 1 ? `${done} of ${total}` : 'computing';
    bar.querySelector('button').hidden = total < 2;
  }

  show(partial) {
    this.result = partial;
    this.progress(partial.done, partial.total);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.app.paint();
      this.report();
    });
  }

  /** Numbers beneath the map, each with what it is to be compared with. */
  report() {
    if (!this.result) return;
    const { method } = this.choice,
      { done, total, shares, gain, path, height, width } = this.result,
      facts = [];
    if (method === 'smoothGrad') facts.push(`Mean of ${done} noisy cop${done === 1 ? 'y' : 'ies'} of ${total}.`);
    if (method === 'integratedGradients') {
      const complete = done === total;
      facts.push(
        `The shares add up to ${short(shares)}; the score rises by ${short(gain)} from the empty picture to yours.`,
      );
      facts.push(
        complete
          ? `[completeness gap|Completeness gap]: ${(100 * Math.abs((shares - gain) / gain)).toFixed(2)} % (0 is exact).`
          : `Step ${done} of ${total}.`,
      );
      this.drawPath(path, done / total);
    }
    if (method === 'gradCam' || method === 'cam')
      facts.push(`The layer has ${height} × ${width} [place|places], enlarged to 224 × 224 pixels.`);
    if (this.stopped) facts.push('Stopped.');
    else if (this.seconds && done === total && !this.job) facts.push(`It took ${this.seconds.toFixed(1)} s.`);
    write(this.find('.facts'), facts.join(' '));
    if (!this.job) this.find('.facts').setAttribute('aria-busy', 'false');
  }

  drawPath(path) {
    const svg = this.find('.path'),
      scores = path.map(([, score]) => score);
    svg.hidden = false;
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    const words = `The score on the way: from ${short(scores[0])} to ${short(scores.at(-1))}`;
    svg.setAttribute('aria-label', words);
    const marks = {
      low: short(low),
      high: short(high),
      first: 'empty picture',
      last: 'your picture',
      title: 'the score on the way',
    };
    paintCurves(svg, [{ points: path, style: 'one' }], { range: [low, high], marks });
  }

  /** The map as it is drawn, or null. */
  map() {
    const { sign, detail } = this.app.state,
      map = this.result && mapOf(this.result, sign === 'signed');
    return map && detail === 'blocks' && this.result.attribution ? blockSums(map) : map;
  }

  paint(map, scale) {
    const { behind, opacity, sign } = this.app.state;
    showPixels(this.canvas, paintMap(map, scale, behind === 'photo' ? this.app.picture.rgba : null, opacity / 100));
    paintBar(this.find('.bar'), scale);
    this.find('.low').textContent = short(scale.low);
    this.find('.high').textContent = short(scale.limit);
    write(this.find('.read'), METHODS[this.choice.method].read[sign === 'signed' ? 1 : 0]);
    this.canvas.setAttribute('aria-label', `${this.title}: ${this.inWords(map)}`);
  }

  /** Where the strongest part lies, for those who do not see it. */
  inWords(map) {
    const names = [
      'the upper left',
      'the top',
      'the upper right',
      'the left',
      'the middle',
      'the right',
      'the lower left',
      'the bottom',
      'the lower right',
    ];
    const sums = new Array(9).fill(0);
    map.forEach((value, i) => {
      const column = Math.floor((3 * (i % SIZE)) / SIZE),
        row = Math.floor((3 * Math.floor(i / SIZE)) / SIZE);
      sums[3 * row + column] += Math.abs(value);
    });
    const all = sums.reduce((a, b) => a + b, 0);
    if (!all) return 'the map is zero everywhere';
    const order = [...sums.keys()].sort((a, b) => sums[b] - sums[a]).slice(0, 2);
    const places = order.map((k) => `${names[k]} (${percent(sums[k] / all)})`);
    return `of nine parts the strongest are ${places.join(' and ')}; an even map would have 11 % in each`;
  }

  cross(point) {
    const cross = this.find('.cross');
    cross.hidden = !point || !this.result;
    if (point)
      Object.assign(cross.style, {
        left: `${(100 * (point.x + 0.5)) / SIZE}%`,
        top: `${(100 * (point.y + 0.5)) / SIZE}%`,
      });
  }
}

/** Scales of the shown panels, one for both if asked. */
export function paintAll(panels, { sign, scale }) {
  const shown = panels.map((panel) => [panel, panel.map()]).filter(([, map]) => map);
  const signed = sign === 'signed';
  const shared =
    scale === 'one' && shown.length > 1
      ? colourScale(
          shown.map(([, map]) => map),
          signed,
        )
      : null;
  for (const [panel, map] of shown) {
    panel.drawn = { map, scale: shared ?? colourScale([map], signed) };
    panel.paint(map, panel.drawn.scale);
  }
}

/** The maps with their titles and scales as one picture, saved by the browser. */
export async function savePicture(panels, picture) {
  const side = 448,
    gap = 24,
    head = 56,
    foot = 62,
    canvas = document.createElement('canvas');
  canvas.width = gap + panels.length * (side + gap);
  canvas.height = head + side + foot;
  const pen = canvas.getContext('2d');
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  panels.forEach((panel, k) => {
    const x = gap + k * (side + gap),
      bar = panel.find('.bar'),
      y = head + side + 14;
    pen.fillStyle = '#222';
    pen.font = '600 17px system-ui, sans-serif';
    pen.fillText(panel.title, x, 36, side);
    pen.drawImage(panel.canvas, x, head, side, side);
    pen.drawImage(bar, x, y, side, 12);
    pen.font = '13px system-ui, sans-serif';
    pen.fillText(panel.find('.low').textContent, x, y + 30);
    pen.textAlign = 'right';
    pen.fillText(panel.find('.high').textContent, x + side, y + 30);
    pen.textAlign = 'left';
  });
  const blob = await new Promise((resolve) => {
    canvas.toBlob(resolve);
  });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${picture.name ?? 'picture'}_${panels.map(({ choice }) => choice.method).join('_')}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
