// Models at work in the page: what is asked of the worker, and what it answers, drawn.
import { say, tell } from '../live/live-client';
import { arrow, between, element, isFile, pixels, readJson, siteUrl, whenNear } from '../page/dom';
import { kinds, SAMPLERS, SCALES, STEPS } from './choices';
import type { About, Answer, Job, Step } from './worker';

const COUNT = 10;
const COLUMNS = 5;
const GAP = 2;

/** One worker for all models of a page; made when the first is asked. */
let worker: Worker | undefined;
let jobs = 0;
let endOfLatest = () => {};

/** Sends a job; each of its steps is heard, and its end. A newer one ends it, too. */
function ask(job: Job, hear: (answer: Step) => void): Promise<void> {
  endOfLatest();
  const served = (worker ??= new Worker(siteUrl('assets/worker.js'), { type: 'module' }));
  return new Promise((resolve, reject) => {
    endOfLatest = resolve;
    served.onmessage = ({ data }: MessageEvent<Answer>) => {
      if (data.id !== job.id) return;
      if ('error' in data) return reject(new Error(data.error));
      hear(data);
      if (data.step === job.steps) resolve();
    };
    served.onerror = () => {
      served.terminate();
      worker = undefined; // the next press makes another
      reject(new Error('no worker'));
    };
    served.postMessage(job);
  });
}

/** Grey pictures with values in [-1, 1], in rows, on a canvas of their own size. */
function paint(canvas: HTMLCanvasElement, z: Float64Array, [, height, width]: number[]): void {
  const pen = canvas.getContext('2d')!;
  const area = height * width;
  for (let i = 0; i < z.length / area; i++) {
    const [row, column] = [Math.floor(i / COLUMNS), i % COLUMNS];
    const picture = pixels(width, height, (at) => {
      const shade = (between(-1, z[i * area + at], 1) + 1) * 127.5;
      return [shade, shade, shade, 255];
    });
    pen.drawImage(picture, column * (width + GAP), row * (height + GAP));
  }
}

function sheet([, height, width]: number[]): HTMLCanvasElement {
  const rows = COUNT / COLUMNS;
  return element('canvas', {
    width: String(COLUMNS * (width + GAP) - GAP),
    height: String(rows * (height + GAP) - GAP),
    role: 'img',
    class: 'pixels',
  });
}

/** The drawing pad: ink where the pointer or the keys have been. */
class Pad {
  readonly ink: Float64Array;
  private readonly pen: CanvasRenderingContext2D;
  private place: [number, number];
  private isDown = false;

  constructor(private readonly canvas: HTMLCanvasElement) {
    const { width, height } = canvas;
    this.ink = new Float64Array(width * height).fill(-1);
    this.pen = canvas.getContext('2d')!;
    this.place = [Math.round(width / 2), Math.round(height / 4)];
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.touch(event);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons) this.touch(event);
    });
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => this.show());
    canvas.addEventListener('blur', () => this.show());
    this.show();
  }

  clear(): void {
    this.ink.fill(-1);
    this.show();
  }

  private touch(event: PointerEvent): void {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = this.inside(
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    );
    // Pointers jump: the line between is drawn too.
    const [fromX, fromY] = event.type === 'pointerdown' ? [x, y] : this.place;
    const steps = Math.ceil(Math.hypot(x - fromX, y - fromY)) || 1;
    for (let k = 1; k <= steps; k++) {
      this.dab(fromX + ((x - fromX) * k) / steps, fromY + ((y - fromY) * k) / steps);
    }
    this.place = [x, y];
    this.show();
  }

  private key(event: KeyboardEvent): void {
    const way = arrow(event);
    if (event.key === ' ') this.isDown = !this.isDown;
    else if (way) this.place = this.inside(this.place[0] + way[0], this.place[1] - way[1]);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (this.isDown) this.dab(...this.place);
    this.show();
  }

  private inside(x: number, y: number): [number, number] {
    const { width, height } = this.canvas;
    return [between(0, x, width - 1), between(0, y, height - 1)];
  }

  /** A soft round spot, as wide as the strokes of the data. */
  private dab(x: number, y: number): void {
    const { width, height } = this.canvas;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const away = Math.hypot(column + 0.5 - x, row + 0.5 - y);
        const at = row * width + column;
        this.ink[at] = between(this.ink[at], 2 * (2.2 - away) - 1, 1);
      }
    }
  }

  private show(): void {
    const { width, height } = this.canvas;
    paint(this.canvas, this.ink, [1, height, width]);
    this.pen.fillStyle = 'rgb(230 160 60 / 80%)';
    this.pen.fillRect(0, height / 2, width, 0.5);
    if (document.activeElement !== this.canvas) return;
    this.pen.fillStyle = 'rgb(60 160 220)';
    this.pen.fillRect(Math.floor(this.place[0]), Math.floor(this.place[1]), 1, 1);
  }
}

class Model {
  private readonly view: HTMLElement;
  private readonly bar: HTMLProgressElement;
  private readonly pad: Pad | undefined;
  private about: About | undefined;
  private canvas: HTMLCanvasElement | undefined;
  private task = '';
  /** The job that was asked of this model last. */
  private mine = 0;

  constructor(private readonly box: HTMLElement) {
    this.view = box.querySelector('.live-view')!;
    this.bar = box.querySelector('progress')!;
    const pad = box.querySelector<HTMLCanvasElement>('.model-pad canvas');
    this.pad = pad ? new Pad(pad) : undefined;
    box.querySelector('[data-clear]')?.addEventListener('click', () => this.pad!.clear());
    for (const button of box.querySelectorAll<HTMLButtonElement>('[data-task]')) {
      button.addEventListener('click', () => {
        this.task = button.dataset.task!;
        this.reseed();
        void this.run();
      });
    }
    // Once it is at work, every change is answered; before, nothing is fetched for one.
    box.addEventListener('change', () => {
      if (this.task) void this.run();
    });
    box.addEventListener('input', ({ target }) => {
      const slider = target as HTMLInputElement;
      if (slider.type === 'range') tell(slider, String(SCALES[Number(slider.value)]));
    });
    box.classList.add('alive');
  }

  /** As at the press of its first button. */
  start(): void {
    this.box.querySelector<HTMLButtonElement>('[data-task]')!.click();
  }

  private reseed(): void {
    const seed = this.box.querySelector<HTMLInputElement>('[data-control=seed]')!;
    seed.value = String(Math.floor(Math.random() * 1e6));
  }

  private setting(name: string): number {
    const chosen = `[data-control=${name}]:not([type=radio]:not(:checked))`;
    return Math.max(0, Number(this.box.querySelector<HTMLInputElement>(chosen)!.value));
  }

  private async job(): Promise<Job> {
    this.about ??= await readJson<About>(this.box.dataset.about!);
    const { about } = this;
    const kind = this.setting('kind');
    const none = about.null_label ?? 0;
    const isBlend = this.task === 'blend';
    const labels = Array.from({ length: COUNT }, (_, i) => {
      if (kind) return kind - 1;
      return isBlend || !none ? none : i % none;
    });
    const half = (_: unknown, at: number) => Number(at < this.pad!.ink.length / 2);
    return {
      id: (this.mine = ++jobs),
      model: new URL(this.box.dataset.model!, location.href).href,
      about,
      labels,
      scale: SCALES[this.setting('scale')],
      steps: STEPS[this.setting('steps')],
      sampler: SAMPLERS[this.setting('sampler')],
      seed: this.setting('seed'),
      isBlend,
      known:
        this.task === 'finish'
          ? { x: this.pad!.ink, mask: Uint8Array.from(this.pad!.ink, half) }
          : undefined,
    };
  }

  private async run(): Promise<void> {
    this.bar.hidden = false;
    this.bar.removeAttribute('value'); // unknown, until the first step
    this.box.setAttribute('aria-busy', 'true');
    try {
      const job = await this.job();
      if (!this.canvas) say(this.box, 'Fetching the model and what runs it …');
      let began = 0;
      await ask(job, ({ step, z }) => {
        if (step === 0) began = performance.now();
        this.show(z, job);
        this.bar.value = step / job.steps;
      });
      if (job.id !== this.mine) return; // a newer one is at work here
      if (job.id !== jobs) return this.rest('Stopped: another model was asked.');
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      this.rest(
        `${COUNT} pictures from seed ${job.seed}, made on your processor in ` +
          `${job.steps} steps and ${seconds} seconds.`,
      );
    } catch {
      this.rest(
        'The model could not be loaded. It needs a page that comes from a server, and ' +
          'a browser that runs WebAssembly.',
      );
    }
  }

  private rest(words: string): void {
    say(this.box, words);
    this.bar.hidden = true;
    this.box.removeAttribute('aria-busy');
  }

  private show(z: Float64Array, { about, labels }: Job): void {
    if (!this.canvas) {
      this.canvas = sheet(about.size);
      this.view.replaceChildren(this.canvas);
    }
    paint(this.canvas, z, about.size);
    const names = labels.map((label) => kinds(about)[label] ?? 'not told');
    this.canvas.setAttribute('aria-label', `Pictures, asked for: ${names.join(', ')}`);
  }
}

/** May a page begin by itself? Not where motion or data are to be spared, and not
 * without a server. */
function mayBegin(): boolean {
  const { connection: line } = navigator as {
    connection?: { saveData?: boolean; effectiveType?: string };
  };
  const isThin = line?.saveData || (line?.effectiveType ?? '4g') !== '4g';
  return !isFile && !isThin && !matchMedia('(prefers-reduced-motion: reduce)').matches;
}

export type Models = typeof models;

function models(boxes: Iterable<HTMLElement>): void {
  for (const box of boxes) {
    const model = new Model(box);
    if (box.dataset.start && mayBegin()) whenNear([box], () => model.start(), '0px');
  }
}

Object.assign(document.currentScript!, { data: models });
