// The page: what is chosen, what the network says, and the four things to do.

import { Cover } from './cover.js';
import { showPixels } from './draw.js';
import { Panel, paintAll, savePicture } from './explain.js';
import { Fake } from './fake.js';
import { SIZE, topOf } from './numbers.js';
import { Client } from './parts.js';
import { embedded, ownPicture } from './pictures.js';
import { Removal } from './remove.js';
import { fromAddress, toAddress, usualDetail } from './state.js';
import * as texts from './texts.js';
import { percent, short } from './texts.js';
import { Walk } from './walk.js';
import { bookPage, listenToWords } from './words.js';

const find = (selector) => document.querySelector(selector);
const { networks, photographs, classes } = self.explorerParts;

const app = {
  texts,
  networks,
  photographs,
  classes,
  state: fromAddress(location.hash, networks, photographs),
  picture: null,
  probabilities: null,
  top: null,
  pointed: null,
  panels: [],

  get facts() {
    return networks[app.state.network];
  },

  /** One sentence at the top of the page; an empty one takes it away. */
  say(sentence) {
    find('#alert').textContent = sentence;
    find('#alert').hidden = !sentence;
  },

  explainError({ message }) {
    if (/memory|allocat|Array buffer|bad_alloc|Aborted/i.test(message)) {
      return 'The browser has no memory left. Close other tabs, or choose SqueezeNet, which needs little.';
    }
    return /explorer\//.test(message)
      ? message
      : `The computation failed (${message}). Choose a picture to start it anew, or reload the page.`;
  },

  remember() {
    history.replaceState(null, '', toAddress(app.state));
  },

  findClass(text) {
    const wanted = text.trim().toLowerCase();
    if (/^\d+$/.test(wanted) && Number(wanted) < 1000) return Number(wanted);
    const exact = classes.indexOf(text.trim()),
      same = classes.findIndex((name) => name.toLowerCase() === wanted);
    if (exact >= 0 || same >= 0) return exact >= 0 ? exact : same;
    const near = wanted ? [...classes.keys()].filter((k) => classes[k].toLowerCase().includes(wanted)) : [];
    if (near.length === 1) return near[0];
    const hint = near.length
      ? ` It could be ${near
          .slice(0, 6)
          .map((k) => classes[k])
          .join(', ')}.`
      : ' Type a part of a name, and choose.';
    throw new Error(`"${text}" is not one of the network's 1000 classes.${hint}`);
  },

  /** What an address says, without opening the page anew. */
  go(address) {
    app.state = fromAddress(address, networks, photographs);
    showSettings();
    find('#share').value = 0;
    return choosePicture(embedded(photographs.find(({ name }) => name === app.state.photo)), true);
  },

  shown() {
    return app.panels.slice(0, app.state.two ? 2 : 1);
  },

  paint() {
    if (app.picture) paintAll(app.shown(), app.state);
  },

  mapped(panel) {
    app.paint();
    if (panel.index === 0 && app.state.tab === 'remove') app.removal.start();
  },

  chooseAnyPhotograph() {
    const others = photographs.filter(({ name }) => name !== app.picture.name);
    choosePhotograph(others[Math.floor(Math.random() * others.length)].name);
  },

  point(x, y) {
    app.pointed = x === null ? null : { x: Math.min(SIZE - 1, Math.max(0, x)), y: Math.min(SIZE - 1, Math.max(0, y)) };
    const point = app.pointed,
      values = [];
    for (const panel of app.shown()) {
      panel.cross(point);
      if (!point || !panel.result || !panel.drawn) continue;
      const value = panel.drawn.map[point.y * SIZE + point.x];
      const share = Math.round((100 * Math.abs(value)) / panel.drawn.scale.limit);
      values.push(`map ${panel.index + 1}: ${short(value)}, ${share} % of the scale`);
    }
    if (point) find('#pointer').textContent = `Column ${point.x}, row ${point.y}. ${values.join('; ')}.`;
  },
};

// The picture and what the network says

async function choosePhotograph(name) {
  await choosePicture(embedded(photographs.find((photo) => photo.name === name)));
}

/** A promise of a picture becomes the picture at hand; null targets mean its top class. */
async function choosePicture(promise, keepTargets = false) {
  const asked = (choosePicture.asked = {});
  try {
    const picture = await promise;
    if (choosePicture.asked !== asked) return;
    app.say('');
    app.picture = picture;
    app.state.photo = picture.name;
    if (!keepTargets)
      app.state.maps.forEach((map) => {
        map.target = null;
      });
    showPicture();
    await predict();
  } catch (error) {
    app.say(error.message);
  }
}

function showPicture() {
  const { title, truth, own, rgba, name } = app.picture;
  app.panels.forEach((panel) => panel.clear());
  showPixels(find('#photo'), rgba);
  const shows = own ? `Your picture ${title}.` : `A photograph of a ${title}.`;
  const known = own
    ? 'A link to this page cannot hold it.'
    : truth
      ? `The right class is ${truth}.`
      : 'ImageNet has no class for it, so no answer can be right.';
  find('#caption').textContent = `${shows} ${known}`;
  find('#photo').setAttribute('aria-label', `${shows} The network sees these 224 by 224 pixels.`);
  for (const button of find('#strip').children) {
    const chosen = button.dataset.name === name;
    button.setAttribute('aria-checked', chosen);
    button.tabIndex = chosen || (!name && button === find('#strip').firstElementChild) ? 0 : -1;
    if (chosen) find('#strip').scrollLeft = button.offsetLeft - find('#strip').offsetLeft - 120;
  }
}

async function predict() {
  const { network } = app.state,
    { picture } = app,
    large = network === 'resnet50' && !app.client.opened.has(network);
  app.top = null;
  app.removal.clear();
  find('#says').textContent = large
    ? 'Loading ResNet-50, 63 MB. This takes a few seconds …'
    : 'The network is looking …';
  find('#top').setAttribute('aria-busy', 'true');
  try {
    await app.client.open(network);
    const { probabilities } = await app.client.ask('predict', { name: network, image: picture.tensor }).done;
    if (app.picture !== picture || app.state.network !== network) return;
    app.probabilities = probabilities;
    app.top = topOf(probabilities, 5);
  } catch (error) {
    find('#says').textContent = '';
    return app.say(app.explainError(error));
  }
  app.remember();
  showTop();
  app.shown().forEach((panel) => {
    panel.showChoice();
    panel.compute();
  });
  openTab();
}

function showTop() {
  const active = Number(find('[name="active"]:checked').value),
    asked = app.panels[app.state.two ? active : 0].target;
  const rows = app.top.includes(asked) ? app.top : [...app.top, asked];
  find('#top').removeAttribute('aria-busy');
  find('#top').replaceChildren(
    ...rows.map((index) => {
      const item = document.createElement('li'),
        button = document.createElement('button'),
        p = app.probabilities[index];
      button.type = 'button';
      button.dataset.index = index;
      button.dataset.p = p;
      button.setAttribute('aria-pressed', index === asked);
      button.innerHTML = '<i></i><span></span><span class="number"></span>';
      button.querySelector('i').style.width = `${100 * p}%`;
      button.querySelector('span').textContent = classes[index];
      button.querySelector('.number').textContent = percent(p);
      button.addEventListener('click', () => chooseClass(index));
      item.append(button);
      return item;
    }),
  );
  const sure = app.probabilities[app.top[0]] < 0.5 ? 'It is not sure. ' : '';
  find('#says').textContent = `${sure}Click one to ask: which pixels speak for it?`;
}

function chooseClass(index) {
  const panel = app.panels[app.state.two ? Number(find('[name="active"]:checked').value) : 0];
  panel.choice.target = index;
  panel.changed();
  showTop();
  find(`#top [data-index="${index}"]`).focus();
  if (panel.index === 0 && app.state.tab !== 'explain') openTab();
}

// Tabs

const openers = {
  explain: () => app.paint(),
  remove: () => app.removal.start(),
  cover: () => app.cover.start(),
  fake: () => app.fake.open(),
};

function openTab() {
  for (const name of Object.keys(openers)) {
    const chosen = name === app.state.tab,
      tab = find(`#tab-${name}`);
    tab.setAttribute('aria-selected', chosen);
    tab.tabIndex = chosen ? 0 : -1;
    find(`#${name}`).hidden = !chosen;
  }
  if (app.top) openers[app.state.tab]();
}

function chooseTab(name) {
  app.state.tab = name;
  app.remember();
  openTab();
}

/** Arrow keys move through the buttons of a group, as they do in a list of tabs. */
function arrows(group, choose) {
  group.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key],
      buttons = [...group.querySelectorAll('button')];
    if (!step) return;
    event.preventDefault();
    const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
    next.focus();
    choose(next);
  });
}

// Putting the page together

function fillStrip() {
  find('#strip').replaceChildren(
    ...photographs.map(({ name, title, picture }) => {
      const button = document.createElement('button'),
        image = new Image(58, 58);
      Object.assign(image, { src: picture, alt: title });
      Object.assign(button, { type: 'button', title });
      button.dataset.name = name;
      button.setAttribute('role', 'radio');
      button.append(image);
      button.addEventListener('click', () => choosePhotograph(name));
      return button;
    }),
  );
  arrows(find('#strip'), ({ dataset }) => choosePhotograph(dataset.name));
}

function listenToFiles() {
  const drop = find('#drop'),
    take = (file) => {
      if (file) choosePicture(ownPicture(file));
    };
  find('#own').addEventListener('click', () => find('#file').click());
  find('#file').addEventListener('change', (event) => {
    take(event.target.files[0]);
    event.target.value = '';
  });
  for (const [name, over] of [
    ['dragover', true],
    ['dragleave', false],
    ['drop', false],
  ]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle('over', over);
      if (name === 'drop') take(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener('paste', (event) => take([...event.clipboardData.files][0]));
}

function showSettings() {
  const { state } = app;
  find('#network').value = state.network;
  find('#two').checked = state.two;
  for (const key of ['sign', 'scale', 'detail', 'behind', 'opacity', 'rival']) find(`#${key}`).value = state[key];
  find('#opacity').nextElementSibling.textContent = `${state.opacity} %`;
  find('#panels').classList.toggle('two', state.two);
  find('#scale-field').hidden = !state.two;
  find('#which-map').hidden = !state.two;
  app.panels[1].element.hidden = !state.two;
}

function listenToSettings() {
  for (const key of ['sign', 'scale', 'detail', 'behind', 'opacity']) {
    find(`#${key}`).addEventListener('input', (event) => {
      app.state[key] = key === 'opacity' ? Number(event.target.value) : event.target.value;
      if (key === 'sign') app.state.detail = usualDetail(app.state.sign);
      app.remember();
      showSettings();
      app.paint();
    });
  }
  find('#rival').addEventListener('change', ({ target }) => {
    app.state.rival = target.value;
    app.remember();
    app.removal.start();
  });
  find('#two').addEventListener('change', (event) => {
    app.state.two = event.target.checked;
    app.remember();
    showSettings();
    if (app.state.two && app.top) {
      app.panels[1].showChoice();
      app.panels[1].compute();
    }
    app.paint();
    if (app.top) showTop();
  });
  find('#network').addEventListener('change', (event) => {
    app.state.network = event.target.value;
    app.state.maps.forEach((map) => {
      map.layer = null;
    });
    predict();
  });
  document.querySelectorAll('[name="active"]').forEach((input) => input.addEventListener('change', showTop));
  find('#save').addEventListener('click', () => savePicture(app.shown(), app.picture));
  find('#link').addEventListener('click', copyLink);
  find('#theme').addEventListener('click', () =>
    setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'),
  );
}

async function copyLink({ target }) {
  app.remember();
  try {
    await navigator.clipboard.writeText(location.href);
    target.textContent = 'Copied';
  } catch {
    target.textContent = 'Copy it from the address bar';
  }
  setTimeout(() => {
    target.textContent = 'Copy link';
  }, 2000);
}

/** A browser may take back the memory of all canvases, and say so; what was drawn is then drawn anew. */
function listenToLosses() {
  document.addEventListener(
    'contextlost',
    () => app.say('The browser has lost the memory of its pictures. They are drawn again when it has some.'),
    true,
  );
  document.addEventListener(
    'contextrestored',
    () => {
      app.say('');
      if (app.picture) showPixels(find('#photo'), app.picture.rgba);
      app.paint();
      app.removal.show();
      app.cover.show();
      app.fake.paint();
    },
    true,
  );
}

/** Links to pages of the book lead there if there is one, and are plain words if not. */
function linkToBook() {
  for (const link of document.querySelectorAll('[data-book]')) {
    const page = bookPage(link.dataset.book);
    if (!page) continue;
    link.href = page;
    link.hidden = false;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function build() {
  setTheme(matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  find('#network').replaceChildren(
    ...Object.entries(networks).map(([name, { title }]) => new Option(`${title}: ${texts.NETWORKS[name]}`, name)),
  );
  find('#classes').replaceChildren(...classes.map((name) => new Option(name)));
  fillStrip();
  app.panels = [0, 1].map((index) => new Panel(app, index));
  find('#panels').replaceChildren(...app.panels.map(({ element }) => element));
  app.panels.forEach((panel) => panel.showChoice());
  app.client = new Client((message) => app.say(app.explainError(new Error(message))));
  [app.removal, app.cover, app.fake] = [new Removal(app), new Cover(app), new Fake(app)];
  for (const name of Object.keys(openers)) find(`#tab-${name}`).addEventListener('click', () => chooseTab(name));
  app.walk = new Walk(app);
  listenToWords();
  linkToBook();
  listenToLosses();
  arrows(find('.tabs'), ({ id }) => chooseTab(id.slice(4)));
  listenToFiles();
  listenToSettings();
  showSettings();
  openTab();
}

build();
self.explorer = app; // for the tests, and for the curious
const keep = app.state.maps.some(({ target }) => target !== null);
requestAnimationFrame(() =>
  setTimeout(() => {
    // after the first paint
    choosePicture(embedded(photographs.find(({ name }) => name === app.state.photo)), keep);
  }),
);
addEventListener('hashchange', () => location.reload());
