// What chapters 1 to 14 compute, for a cloud of points in the plane: the data law is
// a narrow bell at each point. The Python side is `ddpm_lit.book.cloud`, and a test
// holds the numbers of the two together. Places lie in arrays as x1, y1, x2, y2, ...
import { ancestral, ddim, heun, mix, roots, type Predict, type Sampler, type Values } from './samplers';

/** The table of alpha bar, for t = 0..T. */
export function alphaBarOf(beta: number[]): number[] {
  let kept = 1;
  return beta.map((each) => (kept *= 1 - each));
}

/** The law of a cloud. `ask` leaves its answers in the fields: nothing is allocated. */
export class Cloud {
  readonly count: number;
  readonly shares: Values;
  guess = [0, 0];
  noise = [0, 0];
  score = [0, 0];
  logProb = 0;
  asked = 0;
  constructor(readonly points: Values, readonly bell: number, readonly alphaBar: number[]) {
    this.count = points.length / 2;
    this.shares = new Float64Array(this.count);
  }

  /** All about z_t at one place: shares of the points, score, best guess, density. */
  ask(z1: number, z2: number, t: number): this {
    const { points, shares, count } = this;
    const [signal, spread] = roots(this.alphaBar[t]);
    const variance = (signal * this.bell) ** 2 + spread ** 2;
    let nearest = Infinity;
    for (let i = 0; i < count; i += 1) {
      const d1 = z1 - signal * points[2 * i];
      const d2 = z2 - signal * points[2 * i + 1];
      const far = d1 * d1 + d2 * d2;
      shares[i] = far;
      if (far < nearest) nearest = far;
    }
    // The largest term is 1, so that no sum is lost however far away z is.
    let sum = 0;
    let m1 = 0;
    let m2 = 0;
    for (let i = 0; i < count; i += 1) {
      const less = (nearest - shares[i]) / (2 * variance);
      const share = less < -40 ? 0 : Math.exp(less); // what no digit would show is spared
      shares[i] = share;
      sum += share;
      m1 += share * points[2 * i];
      m2 += share * points[2 * i + 1];
    }
    for (let i = 0; i < count; i += 1) shares[i] /= sum;
    this.score[0] = ((signal * m1) / sum - z1) / variance;
    this.score[1] = ((signal * m2) / sum - z2) / variance;
    for (let k = 0; k < 2; k += 1) {
      this.noise[k] = -spread * this.score[k];
      this.guess[k] = ((k ? z2 : z1) + spread ** 2 * this.score[k]) / signal;
    }
    this.logProb = Math.log(sum / (2 * Math.PI * variance * count)) - nearest / (2 * variance);
    this.asked += 1;
    return this;
  }

  /** The best denoiser there is, for any number of walkers. */
  readonly predict: Predict = (z, t) => {
    const found = { x: z.slice(), noise: z.slice() };
    for (let i = 0; i < z.length; i += 2) {
      const { guess, noise } = this.ask(z[i], z[i + 1], t);
      found.x.set(guess, i);
      found.noise.set(noise, i);
    }
    return found;
  };
}

/** The step of chapter 1, into the noise. */
const forward: Sampler = async (_, z, t, s, alphaBar, noise) => {
  const [keep, spread] = roots(alphaBar[s] / alphaBar[t]);
  return mix(keep, z, spread, noise());
};

/** Annealed Langevin dynamics (chapter 14): rescale, then four rounds at the level. */
const langevin: Sampler = async (predict, z, t, s, alphaBar, noise) => {
  if (s === 0) return (await predict(z, t)).x;
  const [signal, spread] = roots(alphaBar[s]);
  const size = 0.5 * spread ** 2;
  z = z.map((each) => (each * signal) / Math.sqrt(alphaBar[t]));
  for (let round = 0; round < 4; round += 1) {
    const found = await predict(z, s);
    const moved = mix(1, z, -size / (2 * spread), found.noise); // along the score
    z = mix(1, moved, Math.sqrt(size), noise());
  }
  return z;
};

export const samplers: Record<string, Sampler> = {
  forward, ancestral, DDIM: ddim(0), Heun: heun, Langevin: langevin,
};
