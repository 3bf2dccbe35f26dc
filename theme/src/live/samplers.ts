// The samplers and their chain, under the names of the package and with arrays for
// tensors. Walkers in a plane and pictures out of a network go through the same ones;
// tests compare both with Python.

import { randomLcg, randomNormal } from 'd3-random';

export type Values = Float64Array;
export interface Prediction {
  x: Values;
  noise: Values;
}
/** A denoiser; one that takes long may answer later. */
export type Predict = (z: Values, t: number) => Prediction | Promise<Prediction>;
export type Noise = () => Values;
/** From z_t to z_s, where t and s are places in the table of alpha bar. */
export type Sampler = (
  predict: Predict,
  z: Values,
  t: number,
  s: number,
  alphaBar: number[],
  noise: Noise,
) => Promise<Values>;

/** Standard normal numbers that are the same for the same seed. */
export function dice(seed: number): (length: number) => Values {
  const draw = randomNormal.source(randomLcg(seed))(0, 1);
  return (length) => Float64Array.from({ length }, draw);
}

/** a x + b y, element by element. */
export const mix = (a: number, x: Values, b: number, y: Values): Values =>
  x.map((each, i) => a * each + b * y[i]);

/** How much is left of the signal, and how much noise there is. */
export const roots = (alphaBar: number): [signal: number, spread: number] => [
  Math.sqrt(alphaBar),
  Math.sqrt(1 - alphaBar),
];

/** q(z_s | z_t, x): weight of x, weight of z_t, variance; and the variance of the step
 * from s to t. */
export function posterior(alphaBar: number[], t: number, s: number) {
  const [a, b] = [alphaBar[t], alphaBar[s]];
  const beta = 1 - a / b;
  return {
    ofX: (Math.sqrt(b) * beta) / (1 - a),
    ofZ: (Math.sqrt(1 - beta) * (1 - b)) / (1 - a),
    variance: (beta * (1 - b)) / (1 - a),
    beta,
  };
}

export const ancestral: Sampler = async (predict, z, t, s, alphaBar, noise) => {
  const { ofX, ofZ, beta } = posterior(alphaBar, t, s);
  const { x } = await predict(z, t);
  const mean = mix(ofX, x, ofZ, z);
  return s ? mix(1, mean, Math.sqrt(beta), noise()) : mean;
};

export const ddim =
  (eta: number): Sampler =>
  async (predict, z, t, s, alphaBar, noise) => {
    const found = await predict(z, t);
    const b = alphaBar[s];
    const v = eta ** 2 * posterior(alphaBar, t, s).variance;
    const moved = mix(Math.sqrt(b), found.x, Math.sqrt(1 - b - v), found.noise);
    return v ? mix(1, moved, Math.sqrt(v), noise()) : moved;
  };

/** In the angle between signal and noise; the last step is a plain rotation. */
export const heun: Sampler = async (predict, z, t, s, alphaBar) => {
  const velocity = async (at: Values, u: number) => {
    const [signal, spread] = roots(alphaBar[u]);
    const { x, noise } = await predict(at, u);
    return mix(signal, noise, -spread, x);
  };
  const h = Math.acos(roots(alphaBar[t])[0]) - Math.acos(roots(alphaBar[s])[0]);
  const v = await velocity(z, t);
  if (s === 0) return mix(Math.cos(h), z, -Math.sin(h), v);
  return mix(1, z, -h / 2, mix(1, v, 1, await velocity(mix(1, z, -h, v), s)));
};

/** Every state on the way from z along a grid of times. */
export async function* chain(
  predict: Predict,
  alphaBar: number[],
  z: Values,
  sampler: Sampler,
  grid: number[],
  noise: Noise,
): AsyncGenerator<Values> {
  for (let k = 1; k < grid.length; k += 1) {
    z = await sampler(predict, z, grid[k - 1], grid[k], alphaBar, noise);
    yield z;
  }
}
