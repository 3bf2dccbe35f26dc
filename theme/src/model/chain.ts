// What the worker does with a network beside running it: values of the package under
// their own names, with arrays for tensors. A test compares the pictures with Python's.
import { mix, roots, type Prediction, type Sampler, type Values } from '../live/samplers';

const withNoise = (x: Values, z: Values, signal: number, spread: number): Prediction => ({
  x,
  noise: mix(1 / spread, z, -signal / spread, x),
});

/** What a network's answer says of z, by its objective. */
export const MEANINGS: Record<
  string,
  (answer: Values, z: Values, alphaBar: number) => Prediction
> = {
  v(answer, z, alphaBar) {
    const [signal, spread] = roots(alphaBar);
    return { x: mix(signal, z, -spread, answer), noise: mix(spread, z, signal, answer) };
  },
  noise(answer, z, alphaBar) {
    const [signal, spread] = roots(alphaBar);
    return { x: mix(1 / signal, z, -spread / signal, answer), noise: answer };
  },
  x: (answer, z, alphaBar) => withNoise(answer, z, ...roots(alphaBar)),
};

/** Predictions moved away from those without the condition. */
export const guided = (told: Prediction, not: Prediction, scale: number): Prediction => ({
  x: mix(scale, told.x, 1 - scale, not.x),
  noise: mix(scale, told.noise, 1 - scale, not.noise),
});

export const clipped = ({ x }: Prediction, z: Values, alphaBar: number): Prediction =>
  withNoise(
    x.map((each) => Math.min(1, Math.max(-1, each))),
    z,
    ...roots(alphaBar),
  );

/** The same sampler, whose known pixels are put back after every step. */
export const filled =
  (sampler: Sampler, known: Values, mask: ArrayLike<number>): Sampler =>
  async (predict, z, t, s, alphaBar, noise) => {
    const moved = await sampler(predict, z, t, s, alphaBar, noise);
    const [signal, spread] = roots(alphaBar[s]);
    const here = s ? mix(signal, known, spread, noise()) : known;
    return moved.map((each, i) => (mask[i] ? here[i] : each));
  };

/** To the nearest whole number, halves to the even one, as Python rounds. */
const round = (value: number) =>
  value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);

/** The steps that a chain visits, evenly spaced from T down to 0. */
export const keptSteps = (T: number, count: number): number[] => [
  ...Array.from({ length: count }, (_, k) => round(T - k * (T / count))),
  0,
];

/** The share w of the way from a to b along the sphere. */
export function slerp(a: Values, b: Values, w: number): Values {
  const dot = (x: Values, y: Values) => x.reduce((sum, each, i) => sum + each * y[i], 0);
  const angle = Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
  const share = (part: number) => Math.sin(part * angle) / Math.sin(angle);
  return mix(share(1 - w), a, share(w), b);
}
