// Words that can be asked for their meaning: a button in the text, and one small box that opens beside it.

import { WORDS } from './texts.js';

const find = (selector) => document.querySelector(selector);

/** The address of a page of the book, or null where the explorer stands alone. */
export const bookPage = (path) => (self.explorerParts.book ? path : null);

/** A text with [words] or [words|as they stand there] into an element. */
export function write(element, text) {
  const pieces = text.split(/\[([^\]]+)\]/);
  element.replaceChildren(
    ...pieces.map((piece, k) => {
      if (k % 2 === 0) return document.createTextNode(piece);
      const [word, shown = word] = piece.split('|');
      return wordButton(word, shown);
    }),
  );
}

function wordButton(word, shown) {
  if (!WORDS[word]) throw new Error(`no meaning for "${word}"`);
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', className: 'word', textContent: shown });
  button.dataset.word = word;
  return named(button);
}

function named(button) {
  button.setAttribute('aria-label', `${button.textContent.trim()}: what does it mean?`);
  button.setAttribute('aria-expanded', 'false');
  return button;
}

/** One box for all words. Enter, space or a click opens it; Escape, or a click elsewhere, closes it. */
export function listenToWords() {
  const box = find('#word');
  document.querySelectorAll('.word').forEach(named);
  document.addEventListener('click', ({ target }) => {
    if (box.contains(target)) return;
    const button = target.closest('.word'),
      again = !box.hidden && box.asked === button;
    close(box);
    if (button && !again) open(box, button);
  });
  document.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || box.hidden) return;
    close(box);
    box.asked.focus();
  });
}

function close(box) {
  box.hidden = true;
  box.asked?.setAttribute('aria-expanded', 'false');
}

function open(box, button) {
  const { word } = button.dataset,
    { means, glossary } = WORDS[word],
    [name, meaning, more] = box.children,
    place = button.getBoundingClientRect();
  box.asked = button;
  button.setAttribute('aria-expanded', 'true');
  button.after(box); // so that the next Tab leads into it
  name.textContent = `${word}: `;
  meaning.textContent = means;
  const page = bookPage(`glossary.html#term-${glossary.replaceAll(' ', '-')}`);
  more.hidden = !page;
  if (page) more.href = page;
  box.hidden = false;
  const right = document.documentElement.clientWidth - box.offsetWidth - 8;
  box.style.left = `${Math.max(8, Math.min(place.left, right)) + scrollX}px`;
  box.style.top = `${place.bottom + 6 + scrollY}px`;
}
