// Plain arithmetic: pictures to tensors, reductions, quadrature, noise. No network and no page in here.

export const SIZE = 224;
export const PIXELS = SIZE * SIZE;
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

// Pixels <-> tensors

/** RGBA bytes of 224 x 224 pixels -> Float32Array of 3 x 224 x 224, normalised with ImageNet's mean and deviation. */
export function toTensor(rgba) {
  const tensor = new Float32Array(3 * PIXELS);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < PIXELS; i++) tensor[c * PIXELS + i] = (rgba[4 * i + c] / 255 - MEAN[c]) / STD[c];
  }
  return tensor;
}

/** One colour, given as RGB in [0, 1], as a picture; the mean colour is all zeros. */
export function plainTensor(rgb) {
  const tensor = new Float32Array(3 * PIXELS);
  for (let c = 0; c < 3; c++) tensor.fill((rgb[c] - MEAN[c]) / STD[c], c * PIXELS, (c + 1) * PIXELS);
  return tensor;
}

/** A tensor of 3 x 224 x 224 -> RGBA bytes. */
export function toPixels(tensor) {
  const rgba = new Uint8ClampedArray(4 * PIXELS).fill(255);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < PIXELS; i++) rgba[4 * i + c] = 255 * (tensor[c * PIXELS + i] * STD[c] + MEAN[c]);
  }
  return rgba;
}

// Resizing as Pillow does it: a triangle filter as wide as the scale, rows first, rounded to bytes after each pass.
// A browser's own drawImage uses other filters, and the maps would differ from the lessons'.

function taps(from, to) {
  const scale = from / to,
    support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, k) => {
    const centre = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs((i - centre + 0.5) / support)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** RGBA bytes, width x height -> RGBA bytes, newWidth x newHeight. */
export function resize(rgba, width, height, newWidth, newHeight) {
  const rows = new Uint8ClampedArray(4 * newWidth * height);
  taps(width, newWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * rgba[4 * (y * width + first + k) + c];
        rows[4 * (y * newWidth + x) + c] = sum;
      }
    }
  });
  const result = new Uint8ClampedArray(4 * newWidth * newHeight);
  taps(height, newHeight).forEach(({ first, weights }, y) => {
    for (let i = 0; i < 4 * newWidth; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * rows[4 * newWidth * (first + k) + i];
      result[4 * newWidth * y + i] = sum;
    }
  });
  return result;
}

/** RGBA bytes of any size -> those of the 224 x 224 pixels that the network sees: shorter side to 256, the centre. */
export function centreCrop(rgba, width, height) {
  const shorter = Math.min(width, height);
  const newWidth = Math.trunc((256 * width) / shorter),
    newHeight = Math.trunc((256 * height) / shorter);
  const small = resize(rgba, width, height, newWidth, newHeight);
  const left = roundHalfEven((newWidth - SIZE) / 2),
    top = roundHalfEven((newHeight - SIZE) / 2);
  const crop = new Uint8ClampedArray(4 * PIXELS);
  for (let y = 0; y < SIZE; y++) {
    const start = 4 * ((top + y) * newWidth + left);
    crop.set(small.subarray(start, start + 4 * SIZE), 4 * SIZE * y);
  }
  return crop;
}

function roundHalfEven(x) {
  // Python's round, which torchvision uses
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

// Scores

export function softmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float64Array.from(logits, (z) => Math.exp(z - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

/** Indices of the k largest values, the largest first. */
export function topOf(values, k) {
  return [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, k);
}

// Attribution -> map

/** 3 x 224 x 224 -> 224 x 224: the sum over colours, which keeps the sign, or the largest |.| of them. */
export function overColours(attribution, signed) {
  const map = new Float32Array(PIXELS);
  for (let i = 0; i < PIXELS; i++) {
    const [r, g, b] = [attribution[i], attribution[PIXELS + i], attribution[2 * PIXELS + i]];
    map[i] = signed ? r + g + b : Math.max(Math.abs(r), Math.abs(g), Math.abs(b));
  }
  return map;
}

/** h x w -> 224 x 224, bilinear between the cells' centres, as the lessons do it. */
export function enlarge(map, height, width) {
  const place = (k, cells) => {
    const at = Math.max(0, ((k + 0.5) * cells) / SIZE - 0.5),
      low = Math.min(Math.trunc(at), cells - 1);
    return [low, Math.min(low + 1, cells - 1), at - low];
  };
  const large = new Float32Array(PIXELS);
  for (let y = 0; y < SIZE; y++) {
    const [top, below, v] = place(y, height);
    for (let x = 0; x < SIZE; x++) {
      const [left, right, u] = place(x, width);
      const upper = (1 - u) * map[top * width + left] + u * map[top * width + right];
      const lower = (1 - u) * map[below * width + left] + u * map[below * width + right];
      large[y * SIZE + x] = (1 - v) * upper + v * lower;
    }
  }
  return large;
}

/** Sums over blocks of 8 x 8 pixels, each shown at all its pixels: signed fuzz becomes readable. */
export function blockSums(map, side = 8) {
  const across = SIZE / side,
    sums = new Float32Array(across * across),
    large = new Float32Array(PIXELS);
  const block = (i) => Math.floor(i / SIZE / side) * across + Math.floor((i % SIZE) / side);
  for (let i = 0; i < PIXELS; i++) sums[block(i)] += map[i];
  return large.map((_, i) => sums[block(i)]);
}

/** Where a colour scale ends: the given percentile of |map|, so that a few extreme pixels do not blank the rest. */
export function limitOf(map, percentile = 99.5) {
  const sizes = Float32Array.from(map, Math.abs).sort();
  const at = (percentile / 100) * (sizes.length - 1),
    low = Math.floor(at);
  const value = sizes[low] + (at - low) * (sizes[Math.min(low + 1, sizes.length - 1)] - sizes[low]);
  return value || sizes[sizes.length - 1] || 1;
}

export function correlation(a, b) {
  const mean = (v) => v.reduce((s, x) => s + x, 0) / v.length;
  const [p, q] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - p) * (b[i] - q);
    aa += (a[i] - p) ** 2;
    bb += (b[i] - q) ** 2;
  }
  return aa && bb ? ab / Math.sqrt(aa * bb) : 0;
}

/** Edges of the grey photograph (Sobel): how fast the brightness changes. It knows no network. */
export function edges(tensor) {
  const rgba = toPixels(tensor),
    grey = new Float32Array(PIXELS),
    map = new Float32Array(PIXELS);
  for (let i = 0; i < PIXELS; i++) grey[i] = (rgba[4 * i] + rgba[4 * i + 1] + rgba[4 * i + 2]) / 765;
  const at = (x, y) => grey[clamp(y) * SIZE + clamp(x)];
  for (let y = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++) {
      const [l, r, t, b] = [x - 1, x + 1, y - 1, y + 1];
      const across = at(r, t) + 2 * at(r, y) + at(r, b) - at(l, t) - 2 * at(l, y) - at(l, b);
      const down = at(l, b) + 2 * at(x, b) + at(r, b) - at(l, t) - 2 * at(x, t) - at(r, t);
      map[y * SIZE + x] = Math.hypot(across, down);
    }
  }
  return map;
}

const clamp = (k) => Math.min(SIZE - 1, Math.max(0, k));

/** A Gaussian blur, sigma a tenth of the side, cut off at two sigma, the border reflected. */
export function blurred(tensor) {
  const sigma = SIZE / 10,
    radius = Math.trunc(2 * sigma);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, k) => Math.exp(-((k - radius) ** 2) / (2 * sigma ** 2)));
  const sum = kernel.reduce((a, b) => a + b, 0);
  const reflect = (k) => (k < 0 ? -k : k >= SIZE ? 2 * (SIZE - 1) - k : k);
  const pass = (from, step, across) => {
    const to = new Float32Array(from.length);
    for (let c = 0; c < 3; c++) {
      for (let line = 0; line < SIZE; line++) {
        const start = c * PIXELS + line * across;
        for (let k = 0; k < SIZE; k++) {
          let total = 0;
          for (let j = -radius; j <= radius; j++) total += kernel[j + radius] * from[start + reflect(k + j) * step];
          to[start + k * step] = total / sum;
        }
      }
    }
    return to;
  };
  return pass(pass(tensor, 1, SIZE), SIZE, 1);
}

// Quadrature and noise

/** Nodes in [0, 1] and weights that sum to 1 of Gauss and Legendre's rule with n nodes. */
export function gaussLegendre(n) {
  const nodes = [],
    weights = [];
  for (let k = n; k >= 1; k--) {
    let x = Math.cos((Math.PI * (k - 0.25)) / (n + 0.5)),
      slope = 0; // close to the k-th root; Newton does the rest
    for (let round = 0; round < 100; round++) {
      let [before, value] = [1, x];
      for (let j = 2; j <= n; j++) [before, value] = [value, ((2 * j - 1) * x * value - (j - 1) * before) / j];
      slope = (n * (before - x * value)) / (1 - x * x);
      const step = value / slope;
      x -= step;
      if (Math.abs(step) < 1e-15) break;
    }
    nodes.push((x + 1) / 2);
    weights.push(1 / ((1 - x * x) * slope * slope));
  }
  return { nodes, weights };
}

/** A stream of random numbers in [0, 1) that a seed decides (Tommy Ettinger's mulberry32). */
export function randomStream(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers from a stream (Box and Muller). */
export function normals(count, random) {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - random())),
      angle = 2 * Math.PI * random();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

/** Places of a map from the largest value down; equal ones row by row. */
export function ranking(map) {
  return Uint32Array.from(map.keys()).sort((a, b) => map[b] - map[a] || a - b);
}

/** A copy of a picture whose first `count` places of an order show the mean colour. */
export function without(tensor, order, count) {
  const copy = tensor.slice();
  for (let k = 0; k < count; k++) {
    for (let c = 0; c < 3; c++) copy[c * PIXELS + order[k]] = 0;
  }
  return copy;
}
