// Maps and pictures on canvases, curves in SVG.

import { limitOf, PIXELS, SIZE } from './numbers.js';

/** RGBA bytes of 224 x 224 pixels onto a canvas. */
export function showPixels(canvas, rgba) {
  canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(rgba), SIZE, SIZE), 0, 0);
}

/** The colour of each value: a table of 256 RGB triples, and where the scale starts and ends. */
export function colourScale(maps, signed) {
  const values = new Float32Array(maps.length * PIXELS);
  maps.forEach((map, k) => values.set(map, k * PIXELS));
  const limit = limitOf(values);
  const table = self.explorerParts.colours[signed ? 'signed' : 'plain'];
  return { limit, low: signed ? -limit : 0, table };
}

function colourOf(value, { limit, low, table }) {
  const at = (value - low) / (limit - low);
  return table[Math.max(0, Math.min(255, Math.floor(256 * at)))];
}

/** A map in colour, over the grey photograph or nothing. Strong values cover more, by a root, as in the lessons. */
export function paintMap(map, scale, photo, opacity) {
  const rgba = new Uint8ClampedArray(4 * PIXELS).fill(255);
  for (let i = 0; i < PIXELS; i++) {
    const colour = colourOf(map[i], scale);
    const share = Math.sqrt(Math.min(1, Math.abs(map[i]) / scale.limit)),
      alpha = photo ? opacity * share : 1;
    const grey = photo ? (photo[4 * i] + photo[4 * i + 1] + photo[4 * i + 2]) / 3 : 0;
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = (1 - alpha) * grey + alpha * colour[c];
  }
  return rgba;
}

export function paintBar(canvas, { table }) {
  const pen = canvas.getContext('2d');
  table.forEach(([r, g, b], i) => {
    pen.fillStyle = `rgb(${r} ${g} ${b})`;
    pen.fillRect(i, 0, 1, 1);
  });
}

/**
 * Curves with axes. curves: [{ points: [[x, y]], style }], range: [lowest y, highest y], marks: texts of the axes,
 * at: an x with a vertical line.
 */
export function paintCurves(svg, curves, { range: [low, high], marks, at = null }) {
  const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  const left = 40,
    bottom = height - 34,
    right = width - 8,
    top = 10;
  const x = (v) => left + v * (right - left),
    y = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - top);
  const text = (px, py, anchor, words) => `<text x="${px}" y="${py}" text-anchor="${anchor}">${words}</text>`;
  const place = ([u, v]) => `${x(u).toFixed(1)},${y(v).toFixed(1)}`;
  const lines = curves.map(
    ({ points, style }) => `<polyline class="${style}" points="${points.map(place).join(' ')}"/>`,
  );
  const ends = curves
    .flatMap(({ points, style }) => (style === 'one' && points.length ? [points.at(-1)] : []))
    .map(([u, v]) => `<circle class="dot" r="3.5" cx="${x(u)}" cy="${y(v)}"/>`);
  svg.innerHTML = [
    `<path class="axis" d="M${left} ${top}V${bottom}H${right}"/>`,
    text(left - 6, y(high) + 4, 'end', marks.high),
    text(left - 6, y(low) + 4, 'end', marks.low),
    text(left, bottom + 14, 'start', marks.first),
    text(right, bottom + 14, 'end', marks.last),
    text((left + right) / 2, bottom + 29, 'middle', marks.title),
    at === null ? '' : `<path class="at" d="M${x(at)} ${top}V${bottom}"/>`,
    ...lines,
    ...ends,
  ].join('');
}
