// What the page says of each method, in one line, and what to watch for.

export const METHODS = {
  gradient: {
    title: 'Vanilla gradient',
    about: 'How fast the score changes when a pixel changes a little: its slope.',
    watch: 'It is noisy, and it speaks of small changes only. A pixel that matters can have no slope.',
    unit: 'change of the score per unit of the input',
  },
  smoothGrad: {
    title: 'SmoothGrad',
    about: 'The mean slope of many noisy copies of the picture. See how the noise averages out.',
    watch: 'Smoother is not truer. It explains the noisy copies, and with much noise the network sees something else.',
    options: ['samples', 'noise'],
    unit: 'change of the score per unit of the input',
  },
  timesInput: {
    title: 'Gradient × input',
    about: 'Slope times value: what each pixel would give to the score, if the network only added.',
    watch: 'A pixel of the mean colour gets nothing, whatever it shows. The shares need not add up to the score.',
    unit: 'share of the score',
  },
  integratedGradients: {
    title: 'Integrated Gradients',
    about: 'It walks from an empty picture to yours and books every rise of the score to the pixels that caused it.',
    watch: 'What counts as "empty" is your choice. Change the baseline, and see how much of the map was that choice.',
    options: ['baseline', 'steps'],
    unit: 'share of the score',
  },
  gradCam: {
    title: 'Grad-CAM',
    about: 'Where did a layer hold evidence for this class? Coarse, but it answers to the class.',
    watch: 'A blob is as wide as a cell of the layer, so its edge is not the edge of the animal. Try another layer.',
    options: ['layer'],
    unit: 'score per place',
  },
  cam: {
    title: 'CAM',
    about: "The last layer's channels, weighted as the network itself weights them for this class.",
    watch: 'It needs a network that ends in an average and one linear layer. It keeps to the last, coarsest layer.',
    unit: 'score at each place',
  },
  guided: {
    title: 'Guided backpropagation',
    about: 'A backward pass that lets only positive signals through. It draws the sharpest lines.',
    watch: 'Choose a class that is not in the picture: the drawing hardly changes. Sharp lines are no evidence.',
    unit: 'signal, no slope of anything',
  },
  guidedGradCam: {
    title: 'Guided Grad-CAM',
    about: 'The lines of guided backpropagation, kept where Grad-CAM found evidence.',
    watch: 'Where it draws depends on the class. What it draws there does not.',
    options: ['layer'],
    unit: 'product of two maps, no unit of its own',
  },
};

export const BASELINES = { mean: 'mean colour', black: 'black', white: 'white', blur: 'blurred picture' };

/** A probability as people read it. */
export function percent(p) {
  if (p > 0.995 && p < 1) return '> 99 %';
  return p < 0.005 ? '< 1 %' : `${Math.round(100 * p)} %`;
}

/** A number with three digits that count. */
export function short(x) {
  return x === 0 ? '0' : Math.abs(x) >= 0.001 && Math.abs(x) < 1e5 ? String(+x.toPrecision(3)) : x.toExponential(1);
}
