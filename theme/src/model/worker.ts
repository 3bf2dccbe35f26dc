// Runs a model of ONNX beside the page, which stays free. It is told one job at a time
// and answers with every step of it; a newer job ends the one before.
import * as ort from 'onnxruntime-web/wasm';
import runtime from 'onnxruntime-web/ort-wasm-simd-threaded.wasm';
import { chain, ddim, dice, heun, type Noise, type Predict, type Values } from '../live/samplers';
import { clipped, filled, guided, keptSteps, MEANINGS, slerp } from './chain';
import type { SAMPLERS } from './choices';

export interface About {
  objective: string;
  size: number[];
  alpha_bar: number[];
  clip: boolean;
  label_names: string[];
  null_label: number | null;
}

export interface Job {
  id: number;
  model: string;
  about: About;
  /** One for each picture; the null label is one that is not told. */
  labels: number[];
  scale: number;
  steps: number;
  sampler: (typeof SAMPLERS)[number];
  seed: number;
  /** The pictures lie between the first noise and the last. */
  isBlend?: boolean;
  /** Pixels that are kept, of one picture, and where. */
  known?: { x: Values; mask: Uint8Array };
  /** Instead of what follows from the seed, in the order in which it is asked for. */
  noises?: ArrayLike<number>[];
}

/** The state after so many steps. */
export type Step = { id: number; step: number; z: Values };
export type Answer = Step | { id: number; error: string };

const WAYS = { DDIM: ddim(0), ancestral: ddim(1), Heun: heun };
// Four at a time are fastest: what a layer makes of more leaves the processor's cache.
const TOGETHER = 4;

const scope = self as unknown as Worker;
const runtimeUrl = new URL(runtime, import.meta.url).href;
// Of this copy of the book alone: others may share the host.
const own = `model ${new URL('..', import.meta.url)}`;
const cacheName = `${own} ${runtime}`;
const sessions = new Map<string, Promise<ort.InferenceSession>>();
let latest = 0;

/** A file of the site, which the browser keeps until there is another runtime. */
async function kept(url: string): Promise<Uint8Array> {
  const cache = await openCache();
  const found = await cache?.match(url);
  if (found) return new Uint8Array(await found.arrayBuffer());
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  await cache?.put(url, answer.clone()).catch(() => undefined); // no room: not kept
  return new Uint8Array(await answer.arrayBuffer());
}

async function openCache(): Promise<Cache | undefined> {
  try {
    const old = (await caches.keys()).filter((name) => name !== cacheName);
    for (const name of old) if (name.startsWith(`${own} `)) await caches.delete(name);
    return await caches.open(cacheName);
  } catch {
    return undefined; // an old browser, or one that keeps nothing
  }
}

async function open(model: string): Promise<ort.InferenceSession> {
  ort.env.wasm.numThreads = 1; // more need headers that few hosts send
  ort.env.wasm.wasmBinary ??= (await kept(runtimeUrl)).buffer as ArrayBuffer;
  return ort.InferenceSession.create(await kept(model), { executionProviders: ['wasm'] });
}

function session(model: string): Promise<ort.InferenceSession> {
  const opened = sessions.get(model) ?? open(model);
  sessions.set(model, opened);
  opened.catch(() => sessions.delete(model)); // the next job tries again
  return opened;
}

/** Numbers in one picture. */
const areaOf = ({ size }: About) => size.reduce((all, side) => all * side, 1);

class Superseded extends Error {}

/** The denoiser as a function of z and t. Raises when the job is not wanted any more. */
async function denoiser({ id, model, about, labels, scale }: Job): Promise<Predict> {
  const net = await session(model);
  const area = areaOf(about);

  async function ask(z: Values, t: number, told: number[]): Promise<Values> {
    const answer = new Float64Array(z.length);
    await new Promise((resolve) => setTimeout(resolve)); // lets a newer job in
    if (id !== latest) throw new Superseded();
    for (let at = 0; at < told.length; at += TOGETHER) {
      const some = told.slice(at, at + TOGETHER);
      const whole = (value: number[]) =>
        new ort.Tensor('int64', BigInt64Array.from(value, BigInt), [some.length]);
      const pictures = Float32Array.from(z.subarray(at * area, (at + some.length) * area));
      const asked: Record<string, ort.Tensor> = {
        z: new ort.Tensor('float32', pictures, [some.length, ...about.size]),
        t: whole(some.map(() => t)),
      };
      if (net.inputNames.includes('label')) asked.label = whole(some);
      const said = await net.run(asked);
      answer.set(said.answer.data as Float32Array, at * area);
    }
    return answer;
  }

  return async (z, t) => {
    const a = about.alpha_bar[t];
    const read = (answer: Values) => MEANINGS[about.objective](answer, z, a);
    let found = read(await ask(z, t, labels));
    const none = about.null_label;
    if (scale !== 1 && none !== null && labels.some((label) => label !== none)) {
      const not = await ask(z, t, labels.map(() => none));
      found = guided(found, read(not), scale);
    }
    return about.clip ? clipped(found, z, a) : found;
  };
}

/** n pictures' noise at a call. Pictures of a blend differ by where they begin alone. */
function source({ seed, noises, isBlend }: Job, count: number, area: number): Noise {
  const draw = dice(seed);
  if (noises) return () => Float64Array.from(noises.shift() ?? new Float64Array(count * area));
  if (!isBlend) return () => draw(count * area);
  return () => repeated(draw(area), count);
}

const repeated = (one: ArrayLike<number>, count: number): Values =>
  Float64Array.from({ length: one.length * count }, (_, i) => one[i % one.length]);

async function work(job: Job): Promise<void> {
  const count = job.labels.length;
  const area = areaOf(job.about);
  const predict = await denoiser(job);
  const noise = source(job, count, area);
  let z = noise();
  if (job.isBlend) {
    const [first, last] = [z.slice(0, area), noise().slice(0, area)];
    const shares = job.labels.map((_, i) => i / (count - 1));
    z = Float64Array.from(shares.flatMap((w) => [...slerp(first, last, w)]));
  }
  const { known, about: { alpha_bar: alphaBar } } = job;
  const plain = WAYS[job.sampler];
  const sampler = known
    ? filled(plain, repeated(known.x, count), repeated(known.mask, count))
    : plain;
  const grid = keptSteps(alphaBar.length - 1, job.steps);
  let step = 0;
  scope.postMessage({ id: job.id, step, z } satisfies Answer);
  for await (z of chain(predict, alphaBar, z, sampler, grid, noise)) {
    scope.postMessage({ id: job.id, step: ++step, z } satisfies Answer);
  }
}

let queue = Promise.resolve();
scope.addEventListener('message', ({ data: job }: MessageEvent<Job>) => {
  latest = job.id;
  queue = queue.then(() => work(job)).catch((error: Error) => {
    if (error instanceof Superseded) return;
    scope.postMessage({ id: job.id, error: error.message } satisfies Answer);
  });
});
