// What chapters 1 to 14 compute, for a cloud of points in the plane: the data law is
// a narrow bell at each point. The Python side is `ddpm_lit.book.cloud`, and a test
// holds the numbers of the two together. Places lie in arrays as x1, y1, x2, y2, ...
export type Places = Float64Array;
type Draw = () => number;

/** The tables of chapter 1, indexed by t = 0..T. */
export class Schedule {
  alphaBar: number[];
  signal: number[];
  spread: number[];
  constructor(readonly beta: number[]) {
    let kept = 1;
    this.alphaBar = beta.map((each) => (kept *= 1 - each));
    this.signal = this.alphaBar.map(Math.sqrt);
    this.spread = this.alphaBar.map((each) => Math.sqrt(1 - each));
  }

  /** q(z_s | z_t, x): weight of x, weight of z_t, variance; and the variance of the step
   * from s to t (chapters 3 and 9). */
  posterior(t: number, s: number): [number, number, number, number] {
    const [a, b] = [this.alphaBar[t], this.alphaBar[s]];
    const beta = 1 - a / b;
    const ofZ = (Math.sqrt(1 - beta) * (1 - b)) / (1 - a);
    return [(Math.sqrt(b) * beta) / (1 - a), ofZ, (beta * (1 - b)) / (1 - a), beta];
  }
}

/** The law of a cloud. `ask` leaves its answers in the fields: nothing is allocated. */
export class Cloud {
  readonly count: number;
  readonly shares: Float64Array;
  guess = [0, 0];
  noise = [0, 0];
  score = [0, 0];
  logProb = 0;
  asked = 0;
  constructor(readonly points: Places, readonly bell: number, readonly schedule: Schedule) {
    this.count = points.length / 2;
    this.shares = new Float64Array(this.count);
  }

  /** All about z_t at one place: shares of the points, score, best guess, density. */
  ask(z1: number, z2: number, t: number): this {
    const { points, shares, count } = this;
    const signal = this.schedule.signal[t];
    const spread = this.schedule.spread[t];
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
}

/** A way from z_t to z_s, in place, for the walker who stands at `i` of the list. */
type Sampler = (cloud: Cloud, z: Places, i: number, t: number, s: number, draw: Draw) => void;

/** The step of chapter 1, to s = t + 1. */
const forward: Sampler = ({ schedule: { beta } }, z, i, _, s, draw) => {
  const [keep, spread] = [Math.sqrt(1 - beta[s]), Math.sqrt(beta[s])];
  for (let k = 0; k < 2; k += 1) z[i + k] = keep * z[i + k] + spread * draw();
};

/** Algorithm 2 (chapter 9). */
const ancestral: Sampler = (cloud, z, i, t, s, draw) => {
  const [ofX, ofZ, , beta] = cloud.schedule.posterior(t, s);
  const { guess } = cloud.ask(z[i], z[i + 1], t);
  const spread = s ? Math.sqrt(beta) : 0;
  for (let k = 0; k < 2; k += 1) z[i + k] = ofX * guess[k] + ofZ * z[i + k] + spread * draw();
};

/** Chapter 12: keep the guessed picture and the guessed noise, in other shares. */
const ddim: Sampler = (cloud, z, i, t, s) => {
  const { signal, spread } = cloud.schedule;
  const { guess, noise } = cloud.ask(z[i], z[i + 1], t);
  for (let k = 0; k < 2; k += 1) z[i + k] = signal[s] * guess[k] + spread[s] * noise[k];
};

/** Heun's method in the angle (chapter 13); the last step is a plain rotation. */
const heun: Sampler = (cloud, z, i, t, s, draw) => {
  if (s === 0) return ddim(cloud, z, i, t, s, draw);
  const { signal, spread } = cloud.schedule;
  const h = Math.asin(spread[t]) - Math.asin(spread[s]);
  cloud.ask(z[i], z[i + 1], t);
  const v1 = signal[t] * cloud.noise[0] - spread[t] * cloud.guess[0];
  const v2 = signal[t] * cloud.noise[1] - spread[t] * cloud.guess[1];
  cloud.ask(z[i] - h * v1, z[i + 1] - h * v2, s);
  z[i] -= (h / 2) * (v1 + signal[s] * cloud.noise[0] - spread[s] * cloud.guess[0]);
  z[i + 1] -= (h / 2) * (v2 + signal[s] * cloud.noise[1] - spread[s] * cloud.guess[1]);
};

/** Annealed Langevin dynamics (chapter 14): rescale, then four rounds at the level. */
const langevin: Sampler = (cloud, z, i, t, s, draw) => {
  const { signal, alphaBar } = cloud.schedule;
  if (s === 0) return z.set(cloud.ask(z[i], z[i + 1], t).guess, i);
  for (let k = 0; k < 2; k += 1) z[i + k] *= signal[s] / signal[t];
  const size = 0.5 * (1 - alphaBar[s]);
  for (let round = 0; round < 4; round += 1) {
    const { score } = cloud.ask(z[i], z[i + 1], s);
    for (let k = 0; k < 2; k += 1) z[i + k] += (size / 2) * score[k] + Math.sqrt(size) * draw();
  }
};

export const samplers: Record<string, Sampler> = {
  forward, ancestral, DDIM: ddim, Heun: heun, Langevin: langevin,
};

/** Every state on the way from z along a grid of times: the one loop. */
export function chain(cloud: Cloud, sampler: Sampler, grid: number[], z: Places, draw: Draw) {
  return grid.map((s, k) => {
    for (let i = 0; k && i < z.length; i += 2) sampler(cloud, z, i, grid[k - 1], s, draw);
    return z.slice();
  });
}

/** Standard normal numbers that are the same for the same seed (Box and Muller). */
export function dice(seed: number): Draw {
  let state = seed;
  const even = () => {
    state = (state + 0x6d2b79f5) | 0;
    let n = Math.imul(state ^ (state >>> 15), 1 | state);
    n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n;
    return ((n ^ (n >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - even())) * Math.cos(2 * Math.PI * even());
}
