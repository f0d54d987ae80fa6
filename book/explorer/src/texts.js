// What the page says of each method and setting, in plain words. A word in [brackets] can be asked for its meaning:
// [score], or [slope|its slope] where the text needs another form of it.

const SHARES = [
  'Bright: this pixel holds a large [share] of the [score], for or against the class.',
  'Red: this pixel speaks for the class. Blue: it speaks against it.',
];
const SLOPES = [
  'Bright: a small change of this pixel moves the [score] a lot. Dark: it hardly moves it.',
  'Red: the [score] rises if this pixel gets brighter. Blue: it falls. So blue is not "against the class".',
];
const LINES = [
  'Bright: a line that was let through. How bright says little about how much it counts.',
  'Red and blue: the sign of what was let through. It is not "for" and "against".',
];
const REGIONS = [
  'Bright: in this region the [layer] held evidence for the class.',
  'Red: evidence for the class. Blue: evidence against it.',
];

/** group: its heading in the list; read: how to read the map of strengths, and the one of both signs. */
export const METHODS = {
  gradient: {
    title: 'Vanilla gradient',
    group: 'Which pixels?',
    lesson: '01_vanilla_gradient_saliency',
    about: 'How fast does the [score] change when a pixel changes a little? That is [slope|its slope].',
    read: SLOPES,
    watch: 'It is noisy, and it speaks of small changes only. A pixel that matters can have no slope.',
    unit: 'change of the [score] per unit of the [input]',
  },
  smoothGrad: {
    title: 'SmoothGrad',
    group: 'Which pixels?',
    lesson: '03_smoothgrad',
    about: 'The mean [slope] of many noisy copies of the picture. See how the dust averages out.',
    read: SLOPES,
    watch: 'Smoother is not truer. It explains the noisy copies, and with much noise the network sees something else.',
    options: ['samples', 'noise'],
    unit: 'change of the [score] per unit of the [input]',
  },
  timesInput: {
    title: 'Gradient × input',
    group: 'Which pixels?',
    lesson: '02_gradient_input_saliency',
    about: '[slope|Slope] times value: what each pixel would give to the [score], if the network only added.',
    read: SHARES,
    watch: 'A pixel of the [mean colour] gets nothing, whatever it shows. The shares need not add up to the score.',
    unit: 'share of the [score]',
  },
  integratedGradients: {
    title: 'Integrated Gradients',
    group: 'Which pixels?',
    lesson: '04_integrated_gradients',
    about:
      'It walks from an [baseline|empty picture] to yours, and books each rise of the [score] to the pixels that ' +
      'caused it.',
    read: SHARES,
    watch: 'What counts as "empty" is your choice. Change it, and see how much of the map was that choice.',
    options: ['baseline', 'steps'],
    unit: 'share of the [score]',
  },
  gradCam: {
    title: 'Grad-CAM',
    group: 'Which region?',
    lesson: '05_gradcam',
    about: 'Where did a [layer] of the network hold evidence for this class? Coarse, but it depends on the class.',
    read: REGIONS,
    watch: 'A blob is as wide as a [place] of the layer, so its edge is not the edge of the animal. Try another layer.',
    options: ['layer'],
    unit: '[score] per [place]',
  },
  cam: {
    title: 'CAM',
    group: 'Which region?',
    lesson: '05_gradcam',
    about: "What the last [layer] found, weighted as the network itself weights it for this class.",
    read: REGIONS,
    watch: 'It needs a network that ends in an average and one linear layer. It keeps to the last, coarsest layer.',
    unit: '[score] at each [place]',
  },
  guided: {
    title: 'Guided backpropagation',
    group: 'Which lines?',
    lesson: '06_guided_backpropagation',
    about: 'A [backward pass] that lets only positive signals through. It draws the sharpest lines.',
    read: LINES,
    watch: 'Choose a class that is not in the picture: the drawing hardly changes. Sharp lines are no evidence.',
    unit: 'signal, no [slope] of anything',
  },
  guidedGradCam: {
    title: 'Guided Grad-CAM',
    group: 'Which lines?',
    lesson: '07_guided_gradcam',
    about: 'The lines of guided backpropagation, kept where Grad-CAM found evidence for the class.',
    read: LINES,
    watch: 'Where it draws depends on the class. What it draws there does not.',
    options: ['layer'],
    unit: 'product of two maps, no unit of its own',
  },
};

/** The settings of a method: what each is called, and what it does. */
export const OPTIONS = {
  samples: ['Noisy copies', 'More copies: a smoother map, a longer wait.'],
  noise: ['Noise level', '0: no noise. 0.15: some grain. 0.5: the picture is hardly there.'],
  steps: ['Steps', 'More steps: a more exact sum, a longer wait.'],
  baseline: ['Empty picture (baseline)', 'What stands for "nothing is here".'],
  layer: ['Layer', 'Early: many small places. Last: few large ones.'],
};

export const NETWORKS = { squeezenet1_1: 'small, quick', resnet50: 'right more often, 63 MB' };

export const BASELINES = { mean: 'mean colour', black: 'black', white: 'white', blur: 'blurred picture' };

/** Words of the field: what each means here, and under which name the book's glossary has it. */
export const WORDS = {
  score: {
    means: 'The number that the network gives to a class before it makes a probability of it. Higher: more for the class.',
    glossary: 'logit',
  },
  slope: {
    means: 'How much the score would change if one pixel changed by a little, divided by that little: the gradient.',
    glossary: 'gradient',
  },
  share: {
    means: 'The part of the score that a method books to one pixel. Below zero it counts against the class.',
    glossary: 'attribution',
  },
  layer: {
    means: 'Networks work in steps, called layers. Early ones find edges, late ones find parts such as ears and noses.',
    glossary: 'target layer',
  },
  place: {
    means: 'A layer sees the picture as a coarse grid, for instance of 13 × 13 places. Each stands for a patch of pixels.',
    glossary: 'feature map',
  },
  input: {
    means:
      'What the network reads: the colours of the pixels, shifted and scaled so that the mean colour is 0. From black ' +
      'to white it is about 4.4 units.',
    glossary: 'sensitivity',
  },
  'mean colour': {
    means: 'The average of all the photographs in training, a greyish brown. To the network it is 0, so it says nothing.',
    glossary: 'baseline',
  },
  baseline: {
    means: 'The picture that stands for "nothing is here". The map explains how the score rises from it to your picture.',
    glossary: 'baseline',
  },
  'completeness gap': {
    means: 'All shares together should be the rise of the score. What is missing is the gap. More steps make it smaller.',
    glossary: 'completeness gap',
  },
  'backward pass': {
    means: 'From the score back to the pixels, layer by layer: the way in which slopes are computed.',
    glossary: 'gradient',
  },
  'saliency map': {
    means: 'A picture of numbers: for each pixel, how much it has to do with the score of one class.',
    glossary: 'saliency map',
  },
  class: {
    means: 'One of the 1000 answers that the network can give. It knows no other, and must choose among them.',
    glossary: 'target',
  },
  probability: {
    means: 'The scores of all 1000 classes, made positive and scaled so that together they are 100 %.',
    glossary: 'softmax',
  },
  'random weights': {
    means: 'The numbers inside the network, drawn by lot as before its training. Such a network has learnt nothing.',
    glossary: 'sanity check',
  },
  'edge filter': {
    means: 'A few lines of arithmetic that mark where the brightness changes. There is no network in it.',
    glossary: 'control',
  },
};

/** A first walk: what each step sets, as in an address, and what to look at. */
export const WALK = [
  {
    title: 'A map of one answer',
    settings: 'photo=dog&method1=gradCam',
    look:
      'The network says "German shepherd". Bright is where it found evidence for that. Is it the whole dog? Now click ' +
      'another answer under 2, and see the map move.',
  },
  {
    title: 'From regions to pixels',
    settings: 'photo=dog&two=1&method1=gradient&method2=smoothGrad',
    look:
      'The same question, pixel by pixel. The left map is dust. The right one is the mean of many such maps of noisy ' +
      'copies: watch it form. Which one would you rather believe, and why?',
  },
  {
    title: 'Is the clearest map the best one?',
    settings: 'photo=dog&two=1&method1=guided&method2=guided&class2=340',
    look:
      'Left: why "German shepherd"? Right: why "zebra"? There is no zebra, and still the drawing is much the same. ' +
      'A map can be pretty and not answer your question.',
  },
  {
    title: 'Put a map to the test',
    settings: 'photo=dog&tab=remove&method1=gradCam&rival=patches',
    look: 'If the map is right, taking its pixels away should hurt. Guess how much, then move the slider.',
  },
  {
    title: 'Your own guess',
    settings: 'photo=dog&tab=cover',
    look: 'Paint over the part that you think matters most. Guess, and look. Then cover as much of the grass.',
  },
  {
    title: 'Can you tell a fake?',
    settings: 'photo=dog&tab=fake',
    look: 'Two of the four maps know nothing. This is why maps are tested, and not only looked at.',
  },
];

/** A probability as people read it. */
export function percent(p) {
  if (p > 0.995 && p < 1) return '> 99 %';
  return p < 0.005 ? '< 1 %' : `${Math.round(100 * p)} %`;
}

/** A number with three digits that count. */
export function short(x) {
  return x === 0 ? '0' : Math.abs(x) >= 0.001 && Math.abs(x) < 1e5 ? String(+x.toPrecision(3)) : x.toExponential(1);
}
