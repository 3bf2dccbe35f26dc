// The reader's cloud: drawn by hand, kept from chapter to chapter, and shown as the
// chapter shows it. What is computed is in cloud-maths.ts.
import { arrow, between, element, pixels, recall, remember } from '../page/dom';
import type { Control } from './controls';
import { alphaBarOf, Cloud, samplers } from './cloud-maths';
import { listen, say } from './live-client';
import { chain, dice, posterior as posteriorOf, roots, type Values } from './samplers';

type Place = [number, number];
type Numbers = Record<string, number | string>;
interface Figure {
  alt: string;
  view: string;
  says: string;
  field: boolean;
  clouds: Record<string, number[][]>;
  bell: number;
  beta: number[];
  walkers: number;
  grids: Record<string, number[]>;
  handles: Record<string, Place>;
  controls: Control[];
}

const REACH = 3; // the plane shows -3..3 both ways
const MOST = 80; // points of a cloud
const CROSS = '+';
const CLOSE = 0.15; // points of a line that is drawn are this far apart

/** A canvas on which places of the plane are drawn, in the colours of the legend. */
class Pen {
  readonly canvas = element('canvas');
  readonly context = this.canvas.getContext('2d')!;
  scale = 1;
  colors: string[] = [];
  constructor(readonly swatches: HTMLElement[], alt: string) {
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', alt);
  }

  clear(): void {
    const size = Math.round(this.canvas.clientWidth * devicePixelRatio);
    this.canvas.width = this.canvas.height = size;
    this.scale = size / (2 * REACH);
    this.colors = this.swatches.map((each) => getComputedStyle(each).color);
    this.context.setTransform(this.scale, 0, 0, -this.scale, size / 2, size / 2);
  }

  private begin(color: number, alpha: number, width = 1): void {
    this.context.fillStyle = this.context.strokeStyle = this.colors[color];
    this.context.globalAlpha = alpha;
    this.context.lineWidth = (width * devicePixelRatio) / this.scale;
    this.context.beginPath();
  }

  dots(places: ArrayLike<number>, color: number, radius: number, alpha = 1): void {
    for (let i = 0; i < places.length; i += 2) {
      this.begin(color, alpha);
      this.context.arc(places[i], places[i + 1], radius, 0, 7);
      this.context.fill();
    }
  }

  /** One and two deviations about the middle. */
  bell(middle: number[], deviation: number, color: number): void {
    this.dots(middle, color, deviation, 0.25);
    this.dots(middle, color, 2 * deviation, 0.12);
  }

  line(places: ArrayLike<number>, color: number, alpha = 1, width = 1): void {
    this.begin(color, alpha, width);
    for (let i = 0; i < places.length; i += 2) this.context.lineTo(places[i], places[i + 1]);
    this.context.stroke();
  }

  arrow(x: number, y: number, dx: number, dy: number): void {
    const [a, b, u, v] = [x + dx, y + dy, 0.3 * dx, 0.3 * dy];
    this.line([x, y, a, b, a - u - v, b - v + u, a, b, a - u + v, b - v - u], 0, 0.6);
  }

  /** The ways of the first walkers through some states. */
  ways(states: Values[], count: number): void {
    for (let i = 0; i < 2 * count; i += 2) this.line(states.flatMap((z) => [z[i], z[i + 1]]), 0, 0.7);
  }

  /** A density on the whole plane, as a wash of colour. */
  wash(density: (x: number, y: number) => number, count = 64): void {
    const middle = (k: number) => ((2 * k + 1) / count - 1) * REACH;
    const found = Float64Array.from({ length: count * count }, (_, i) =>
      density(middle(i % count), middle(Math.floor(i / count))));
    const most = Math.max(...found);
    const ink = this.colors[0].match(/\d+/g)!.map(Number);
    const small = pixels(count, count, (i) => [...ink, (220 * found[i]) / most]);
    this.begin(0, 1);
    this.context.drawImage(small, -REACH, -REACH, 2 * REACH, 2 * REACH);
  }
}

interface Scene {
  pen: Pen;
  cloud: Cloud;
  t: number;
  figure: Figure;
  handles: Record<string, Place>;
  chosen: (name: string) => string;
  /** What was computed for this cloud. */
  kept: Map<string, { states: Values[]; calls: number }>;
}

/** The score on a grid; the longest arrows are cut. */
function field({ pen, cloud }: Scene, t: number): void {
  for (let x = -2.8; x < 2.9; x += 0.4) {
    for (let y = -2.8; y < 2.9; y += 0.4) {
      const [dx, dy] = cloud.ask(x, y, t).score;
      const size = 0.36 / (1 + Math.hypot(dx, dy));
      pen.arrow(x, y, size * dx, size * dy);
    }
  }
}

function jump({ pen, cloud, t, handles }: Scene): Numbers {
  const [signal, spread] = roots(cloud.alphaBar[t]);
  const mean = handles.x.map((each) => signal * each);
  pen.wash((x, y) => Math.exp(cloud.ask(x, y, t).logProb));
  pen.dots(cloud.points, 1, 0.05);
  pen.bell(mean, spread, 2);
  pen.line([...handles.x, ...mean], 2, 1, 2);
  return { mean_1: mean[0], mean_2: mean[1], spread };
}

function posterior({ pen, cloud, t, handles: { x, z } }: Scene): Numbers {
  const { ofX, ofZ, variance, beta } = posteriorOf(cloud.alphaBar, t, t - 1);
  const [signal, spread] = roots(cloud.alphaBar[t - 1]);
  const keep = Math.sqrt(1 - beta);
  const mean = x.map((each, k) => ofX * each + ofZ * z[k]);
  pen.dots(cloud.points, 1, 0.05, 0.4);
  pen.bell(z.map((each) => each / keep), Math.sqrt(beta) / keep, 0);
  pen.bell(x.map((each) => signal * each), spread, 1);
  pen.bell(mean, Math.sqrt(variance), 2);
  return { mean_1: mean[0], mean_2: mean[1], deviation: Math.sqrt(variance) };
}

function denoiser(scene: Scene): Numbers {
  const { pen, cloud, t, handles: { z } } = scene;
  field(scene, t);
  const { guess, shares, points, count } = cloud.ask(...z, t);
  const sorted = shares.slice().sort().reverse();
  shares.forEach((share, i) => {
    const place = points.subarray(2 * i, 2 * i + 2);
    pen.line([...z, ...place], 1, (0.6 * share) / sorted[0]);
    pen.dots(place, 1, 0.04 + (0.07 * share) / sorted[0]);
  });
  pen.line([...z, ...guess], 2, 1, 3);
  pen.dots(guess, 2, 0.1);
  let sum = 0;
  const held = sorted.findIndex((share) => (sum += share) >= 0.9) + 1;
  return { x_1: guess[0], x_2: guess[1], count: held, all: count };
}

/** Walkers on their way, by a method: into the noise, or back from it. */
async function run(scene: Scene): Promise<Numbers> {
  const { pen, cloud, figure, chosen, kept } = scene;
  const { points, bell, alphaBar, predict } = cloud;
  const [method, steps] = [chosen('method') ?? 'forward', chosen('steps') ?? 'forward'];
  const grid = figure.grids[steps];
  if (!kept.has(method + steps)) {
    const draw = dice(1);
    const noise = () => draw(2 * figure.walkers);
    const begun = (each: number, i: number) => points[i % points.length] + bell * each;
    const states = [grid[0] ? noise() : noise().map(begun)];
    const before = cloud.asked;
    const way = chain(predict, alphaBar, states[0], samplers[method], grid, noise);
    for await (const z of way) states.push(z);
    kept.set(method + steps, { states, calls: (cloud.asked - before) / figure.walkers });
  }
  const { states, calls } = kept.get(method + steps)!;
  const seen = grid.filter((s) => Math.abs(s - grid[0]) <= scene.t);
  const [t, z] = [seen.at(-1)!, states[seen.length - 1]];
  if (figure.field) field(scene, Math.max(t, 1));
  pen.ways(states.slice(0, seen.length), 12);
  pen.dots(points, 1, 0.05);
  pen.dots(z, 0, 0.035, 0.7);
  let near = 0;
  for (let i = 0; i < z.length; i += 2) near += nearest(points, z[i], z[i + 1])[1];
  const [signal, spread] = roots(alphaBar[t]);
  near /= figure.walkers;
  return { method, steps, calls, t, near, signal, spread };
}

const views: Record<string, (scene: Scene) => Numbers> = { jump, posterior, denoiser };

/** Where in the list the point lies that is nearest to a place, and how far off it is. */
function nearest(points: Values, x: number, y: number): [number, number] {
  let found = 0;
  let least = Infinity;
  for (let i = 0; i < points.length; i += 2) {
    const far = (points[i] - x) ** 2 + (points[i + 1] - y) ** 2;
    if (far < least) [found, least] = [i, far];
  }
  return [found, Math.sqrt(least)];
}

/** Words with their gaps filled, as Python's `format` fills them. */
const filled = (words: string, numbers: Numbers) =>
  words.replace(/\{(\w+)(?::\.(\d)f)?\}/g, (_, name, digits) =>
    digits ? Number(numbers[name]).toFixed(digits) : String(numbers[name]));

const inside = (value: number) => between(-REACH, value, REACH);

/** What was drawn, and which cloud was looked at; storage may hold anything. */
function remembered(): { name: string; own: number[] } {
  try {
    const { name, own } = JSON.parse(recall('cloud')!);
    return { name, own: own.slice(0, 2 * MOST).map((each: unknown) => inside(Number(each) || 0)) };
  } catch {
    return { name: '', own: [] };
  }
}

export type Begin = typeof begin;

function begin(box: HTMLElement, figure: Figure): void {
  const pen = new Pen([...box.querySelectorAll<HTMLElement>('.swatch')], figure.alt);
  const plane = element('div', { class: 'cloud-plane' }, pen.canvas);
  box.querySelector('.live-view')!.replaceChildren(plane);
  const alphaBar = alphaBarOf(figure.beta);
  const radios = [...box.querySelectorAll<HTMLInputElement>('[data-control=cloud]')];
  const names = radios.map((each) => each.nextElementSibling!.textContent!);
  // The cross is where a key puts a point.
  const handles: Record<string, Place> = { ...figure.handles, [CROSS]: [0, 0] };
  let { name, own } = remembered();
  let cloud: Cloud;
  let kept: Scene['kept'];

  const request = listen(box, figure.controls, async (positions) => {
    pen.clear();
    const chosen = (name: string) =>
      figure.controls.find((each) => each.name === name)?.texts[positions[name] ?? 0]!;
    const t = Number(chosen('t'));
    const draw = views[figure.view] ?? run;
    const scene = { pen, cloud, t, figure, handles, chosen, kept };
    const words = 'The plane is empty: put a point.';
    say(box, cloud.count ? filled(figure.says, { t, ...(await draw(scene)) }) : words);
  });

  const place = (button: HTMLElement, to: Place) => {
    const name = button.textContent!;
    handles[name] = to;
    const at = to.map((each) => each.toFixed(1)).join(', ');
    const words = name === CROSS ? `Put a point at ${at}` : `${name} at ${at}`;
    button.setAttribute('aria-label', `${words}; arrow keys move it`);
    button.style.left = `${50 + (50 * to[0]) / REACH}%`;
    button.style.top = `${50 - (50 * to[1]) / REACH}%`;
    request();
  };
  const buttons = Object.entries(handles).map(([name, to]) => {
    const button = element('button', { type: 'button', class: 'cloud-handle' }, name);
    place(button, to);
    return button;
  });
  plane.append(...buttons);

  const look = (at: number) => {
    const points = figure.clouds[names[at]]?.flat() ?? own;
    cloud = new Cloud(Float64Array.from(points), figure.bell, alphaBar);
    kept = new Map();
    radios[at].checked = true;
    request();
  };
  const choose = (at: number) => {
    look(at);
    remember('cloud', JSON.stringify({ name: names[at], own }));
    if (!handles.x || !cloud.count) return;
    const [i] = nearest(cloud.points, ...handles.x);
    place(buttons[0], [cloud.points[i], cloud.points[i + 1]]);
  };
  const draw = (points: number[]) => {
    own = points.slice(0, 2 * MOST);
    choose(names.length - 1);
  };
  radios.forEach((radio, i) => radio.addEventListener('input', () => choose(i)));
  box.querySelector('[data-clear]')!.addEventListener('click', () => draw([]));

  const under = (event: MouseEvent): Place => {
    const { left, top, width } = pen.canvas.getBoundingClientRect();
    const across = (pixels: number) => inside(((2 * pixels) / width - 1) * REACH);
    return [across(event.clientX - left), -across(event.clientY - top)];
  };
  /** What moves with the pointer: a handle, or the canvas while a line is drawn. */
  let held: HTMLElement | null = null;
  plane.addEventListener('pointerdown', (event) => {
    if (event.button || !event.isPrimary) return;
    const target = event.target as HTMLElement;
    // The first touch may be the start of a scroll; it draws when it ends as a click.
    const isFirst = event.pointerType === 'touch' && !plane.contains(document.activeElement);
    held = target === pen.canvas && isFirst ? null : target;
    if (held) plane.setPointerCapture(event.pointerId);
    if (held === pen.canvas) draw([...own, ...under(event)]);
  });
  plane.addEventListener('pointermove', (event) => {
    if (!held || !event.buttons) return;
    const [x, y] = under(event);
    if (held !== pen.canvas) place(held, [x, y]);
    else if (Math.hypot(own.at(-2)! - x, own.at(-1)! - y) > CLOSE) draw([...own, x, y]);
  });
  plane.addEventListener('click', (event) => {
    const cross = buttons.at(-1)!;
    if (event.target === cross) draw([...own, ...handles[CROSS]]);
    else if (!held && event.target === pen.canvas) draw([...own, ...under(event)]);
    if (event.target === pen.canvas) cross.focus({ preventScroll: true });
    held = null;
  });
  plane.addEventListener('keydown', (event) => {
    const button = event.target as HTMLElement;
    const [far, way] = [event.shiftKey ? 0.5 : 0.1, arrow(event)];
    const [x, y] = handles[button.textContent!];
    if (way) place(button, [inside(x + far * way[0]), inside(y + far * way[1])]);
    else if (event.key === 'Backspace') draw(own.slice(0, -2));
    else if (event.key === 'Delete') draw([]);
    else return;
    event.preventDefault();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', request);
  new MutationObserver(request).observe(document.documentElement, { attributeFilter: ['data-theme'] });
  if (names.includes(name) && (own.length || figure.clouds[name])) choose(names.indexOf(name));
  else look(0);
}

Object.assign(document.currentScript!, { data: begin });
