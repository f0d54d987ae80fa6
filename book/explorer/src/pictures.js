// From a file or an embedded photograph to what the network sees: 224 x 224 pixels and a tensor.

import { centreCrop, SIZE, toTensor } from './numbers.js';

export const MOST_PIXELS = 50e6;
const MOST_BYTES = 100e6;

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** RGBA bytes of an image of the page, on white. */
function pixelsOf(image, width, height) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  if (!pen) throw new Error('The browser has no memory left for this picture. Make it smaller, or close other tabs.');
  pen.fillStyle = 'white';
  pen.fillRect(0, 0, width, height);
  pen.drawImage(image, 0, 0, width, height);
  return pen.getImageData(0, 0, width, height).data;
}

/** One of the photographs, which are stored as the network sees them. */
export async function embedded(photograph) {
  const rgba = pixelsOf(await load(photograph.picture), SIZE, SIZE);
  return { ...photograph, rgba, tensor: toTensor(rgba), own: false };
}

/** A file of the reader's, cut as the lessons cut theirs. Errors say what is wrong in one sentence. */
export async function ownPicture(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(`"${file.name}" has ${Math.round(file.size / 1e6)} MB. Pictures up to 100 MB can be used here.`);
  }
  const address = URL.createObjectURL(file);
  let image;
  try {
    image = await load(address);
  } catch {
    throw new Error(`"${file.name}" is not a picture that this browser can read. Try a JPEG, PNG or WebP file.`);
  } finally {
    URL.revokeObjectURL(address);
  }
  let { naturalWidth: width, naturalHeight: height } = image;
  if (!width || !height) throw new Error(`"${file.name}" has no size in pixels. Save it as PNG first.`);
  if (width * height > MOST_PIXELS) {
    const millions = Math.round((width * height) / 1e6);
    throw new Error(`"${file.name}" has ${millions} million pixels. Make it smaller: 50 million are the most.`);
  }
  const longest = 4 * Math.min(width, height);
  if (Math.max(width, height) > longest) {
    throw new Error(`"${file.name}" is more than four times as long as wide. Cut out the part that matters.`);
  }
  const rgba = centreCrop(pixelsOf(image, width, height), width, height);
  return { name: null, title: file.name, truth: null, rgba, tensor: toTensor(rgba), own: true };
}
