// Draws the live figures of a page: marks whose data lie in tables, one row for
// every position of the controls. The Python side is `ddpm_lit.book.widgets`.
import { scaleLinear, scaleLog } from 'd3-scale';
import { load, onceAFrame, readJson, siteUrl } from '../page/dom';
import type { Begin } from './cloud-client';

/** A channel of a mark: the controls it depends on, and its packed numbers. */
interface Table {
  over: string[];
  shape: number[];
  low: number;
  step: number;
  data: string;
}

interface Mark {
  kind: 'curve' | 'bell' | 'dots' | 'bars' | 'pixels';
  label: string;
  color: number | 'ink';
  style: Record<string, any>;
  channels: Record<string, Table>;
  palette?: string[];
}

interface Axis {
  label: string;
  low: number;
  high: number;
  log: boolean;
  ticks: Record<string, string> | null;
}

interface Panel {
  marks: Mark[];
  x: Axis | null;
  y: Axis | null;
  width: number;
  height: number;
}

export interface Control {
  name: string;
  kind: 'slider' | 'choice';
  texts: string[];
  start: number;
}

interface Figure {
  alt: string;
  play: string;
  controls: Control[];
  rows: Panel[][];
  says: { over: string[]; texts: string[] };
}

type Scale = ((value: number) => number) & { ticks: (count: number) => number[] };
type Place = (over: string[]) => number;
type Data = Record<string, number[]>;

const GAP = 4095;
const INCH = 96;
const NARROW = 560;

/** The packed bytes of a table, decoded once. */
const decoded = new WeakMap<Table, Uint8Array>();

function bytesOf(table: Table): Uint8Array {
  let bytes = decoded.get(table);
  if (!bytes) {
    bytes = Uint8Array.from(atob(table.data), (letter) => letter.charCodeAt(0));
    decoded.set(table, bytes);
  }
  return bytes;
}

/**
 * One row of a table. The numbers were stored as differences along the last axis,
 * all low bytes first, then all high bytes.
 */
function readRow(table: Table, place: number, isLog: boolean): number[] {
  const bytes = bytesOf(table);
  const half = bytes.length / 2;
  const size = table.shape.reduce((a, b) => a * b, 1);
  const last = table.shape.at(-1) ?? 1;
  const values: number[] = [];
  let number = 0;
  for (let i = 0; i < size; i += 1) {
    const at = place * size + i;
    const difference = ((bytes[at] | (bytes[half + at] << 8)) << 16) >> 16;
    number = (i % last ? number : 0) + difference;
    const value = table.low + table.step * number;
    values.push(number === GAP ? NaN : isLog ? 10 ** value : value);
  }
  return values;
}

const escape = (text: string) =>
  text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** `$z_{t-1}$` as SVG text: italic, with the index set low. Nothing more is needed. */
function label(text: string): string {
  return text.split('$').map((part, i) => {
    if (i % 2 === 0) return escape(part);
    const maths = part.replaceAll('\\beta', 'β').replaceAll('-', '−');
    const [base, index] = maths.split('_');
    const low = index?.replace(/[{}]/g, '');
    return `<tspan font-style="italic">${escape(base)}</tspan>` + (low
      ? `<tspan dy=".3em" font-size=".75em">${escape(low)}</tspan><tspan dy="-.3em"> </tspan>`
      : '');
  }).join('');
}

const ink = (color: Mark['color']) => (color === 'ink' ? 'var(--live-ink)' : `var(--live-${color})`);

const px = (value: number) => value.toFixed(1);

function path(xs: number[], ys: number[], x: Scale, y: Scale): string {
  let pen = 'M';
  let d = '';
  xs.forEach((value, i) => {
    const [left, top] = [x(value), y(ys[i])];
    if (!Number.isFinite(left) || !Number.isFinite(top)) {
      pen = 'M';
      return;
    }
    d += `${pen}${px(left)},${px(top)}`;
    pen = 'L';
  });
  return d;
}

function drawLines(mark: Mark, data: Data, x: Scale, y: Scale, base: number): string {
  const count = data.x.length;
  const lines = data.y.length / count;
  const color = ink(mark.color);
  if (mark.style.fill) {
    const d = path(data.x, data.y, x, y);
    const [first, last] = [x(data.x[0]), x(data.x[count - 1])];
    return `<path d="${d}L${px(last)},${px(base)}L${px(first)},${px(base)}Z"` +
      ` fill="${color}" fill-opacity=".32"/>`;
  }
  const look = lines > 1 ? 'stroke-width="1" stroke-opacity=".5"' : 'stroke-width="2"';
  const dashes = mark.style.dashed ? ' stroke-dasharray="6 4"' : '';
  return Array.from({ length: lines }, (_, i) => {
    const d = path(data.x, data.y.slice(i * count, (i + 1) * count), x, y);
    return `<path d="${d}" fill="none" stroke="${color}" stroke-linejoin="round" ${look}${dashes}/>`;
  }).join('');
}

/** A normal density out to four deviations. */
function bellData({ mean, deviation }: Data): Data {
  const places = Array.from({ length: 161 }, (_, i) => -4 + i / 20);
  const height = 1 / (deviation[0] * Math.sqrt(2 * Math.PI));
  return {
    x: places.map((place) => mean[0] + deviation[0] * place),
    y: places.map((place) => height * Math.exp(-(place ** 2) / 2)),
  };
}

function drawDots(mark: Mark, data: Data, x: Scale, y: Scale): string {
  const color = ink(mark.color);
  return data.x.map((value, i) => {
    const [left, top] = [px(x(value)), y(data.y[i])];
    return mark.style.tick
      ? `<path d="M${left},${px(top - 6)}V${px(top + 6)}" stroke="${color}" stroke-width="1.4"/>`
      : `<circle cx="${left}" cy="${px(top)}" r="5" fill="${color}"/>`;
  }).join('');
}

function drawBars(mark: Mark, data: Data, x: Scale, y: Scale): string {
  const { edges, heights } = data;
  const rectangles = heights.map((height, i) => {
    const along = mark.style.horizontal ? y : x;
    const across = mark.style.horizontal ? x : y;
    const [a, b] = [along(edges[i]), along(edges[i + 1])].sort((p, q) => p - q);
    const [c, d] = [across(0), across(height)].sort((p, q) => p - q);
    const box = mark.style.horizontal ? [c, a, d - c, b - a] : [a, c, b - a, d - c];
    const [left, top, width, tall] = box.map(px);
    return `<rect x="${left}" y="${top}" width="${width}" height="${tall}"/>`;
  });
  return `<g fill="${ink(mark.color)}" fill-opacity=".6">${rectangles.join('')}</g>`;
}

/** An image as the address of a small PNG, one pixel for each number. */
function pixelSource(mark: Mark, values: number[]): string {
  const [rows, columns] = mark.channels.values.shape;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext('2d');
  if (!context) return '';
  const image = context.createImageData(columns, rows);
  const { low, high } = mark.style;
  const color = scaleLinear<string>()
    .domain(mark.palette!.map((_, i, all) => low + ((high - low) * i) / (all.length - 1)))
    .range(mark.palette!)
    .clamp(true);
  values.forEach((value, i) => {
    if (Number.isNaN(value)) return;
    const rgb = color(value).match(/\d+/g)!.map(Number);
    image.data.set([...rgb.slice(0, 3), 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const power = (value: number) => {
  const digits = String(Math.round(Math.log10(value)));
  return `10${[...digits].map((d) => (d === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(d)])).join('')}`;
};

function ticksOf(axis: Axis, scale: Scale, count: number): [number, string][] {
  if (axis.ticks) return Object.entries(axis.ticks).map(([at, text]) => [Number(at), text]);
  if (!axis.log) {
    const places = scale.ticks(count);
    const digits = Math.max(0, -Math.floor(Math.log10(Math.abs(places[1] - places[0])) + 1e-9));
    return places.map((at) => [at, at.toFixed(digits).replace('-', '−')]);
  }
  const [low, high] = [Math.ceil(Math.log10(axis.low)), Math.floor(Math.log10(axis.high))];
  const every = Math.ceil((high - low + 1) / count);
  const places = [];
  for (let n = high; n >= low; n -= every) places.push(10 ** n);
  return places.map((at) => [at, power(at)]);
}

interface Frame {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

function drawX(axis: Axis, scale: Scale, frame: Frame): string {
  const ticks = ticksOf(axis, scale, (frame.right - frame.left) / 80).map(([at, text]) => {
    const left = px(scale(at));
    const line = axis.ticks ? '' : `<path class="grid" d="M${left},${frame.top}V${frame.bottom}"/>`;
    return `${line}<text x="${left}" y="${frame.bottom + 16}" text-anchor="middle">${escape(text)}</text>`;
  });
  const middle = px((frame.left + frame.right) / 2);
  const name = axis.label
    ? `<text x="${middle}" y="${frame.bottom + 35}" text-anchor="middle">${label(axis.label)}</text>`
    : '';
  const line = axis.ticks ? '' : `<path class="axis" d="M${frame.left},${frame.bottom}H${frame.right}"/>`;
  return ticks.join('') + line + name;
}

function drawY(axis: Axis, scale: Scale, frame: Frame): string {
  const ticks = ticksOf(axis, scale, (frame.bottom - frame.top) / 45).map(([at, text]) => {
    const top = px(scale(at));
    const line = axis.ticks ? '' : `<path class="grid" d="M${frame.left},${top}H${frame.right}"/>`;
    return `${line}<text x="${frame.left - 8}" y="${top}" dy=".35em" text-anchor="end">${escape(text)}</text>`;
  });
  const line = `<path class="axis" d="M${frame.left},${frame.top}V${frame.bottom}"/>`;
  const middle = px((frame.top + frame.bottom) / 2);
  const name = axis.label
    ? `<text transform="translate(${px(frame.left - 42)},${middle}) rotate(-90)" text-anchor="middle">${label(axis.label)}</text>`
    : '';
  return ticks.join('') + line + name;
}

function scaleOf(axis: Axis, from: number, to: number): Scale {
  const scale = axis.log ? scaleLog() : scaleLinear();
  return scale.domain([axis.low, axis.high]).range([from, to]) as unknown as Scale;
}

let clips = 0;

function drawPanel(panel: Panel, place: Place, left: number, top: number, width: number) {
  const image = panel.marks.find((mark) => mark.kind === 'pixels');
  const words = panel.y?.ticks ? 118 : panel.y?.label ? 56 : 40;
  const frame = {
    left: left + (panel.y ? words : 0),
    top: top + 8,
    right: left + width - (panel.y ? 12 : 0),
    bottom: 0,
  };
  const footer = panel.x ? (panel.x.label ? 46 : 24) : 0;
  if (image) {
    // Square pixels, as wide as the panel and no taller than it asks for.
    const [rows, columns] = image.channels.values.shape;
    const tall = Math.min(panel.height * INCH, ((frame.right - frame.left) * rows) / columns);
    const wide = (tall * columns) / rows;
    frame.left += (frame.right - frame.left - wide) / 2;
    frame.right = frame.left + wide;
    frame.bottom = frame.top + tall;
  } else {
    frame.bottom = frame.top + panel.height * INCH - footer;
  }
  const x = panel.x && scaleOf(panel.x, frame.left, frame.right);
  const y = panel.y && scaleOf(panel.y, frame.bottom, frame.top);
  const isLog = (name: string) => Boolean((name === 'x' ? panel.x : name === 'y' ? panel.y : null)?.log);
  const marks = panel.marks.map((mark) => {
    const data: Data = {};
    for (const [name, table] of Object.entries(mark.channels)) {
      data[name] = readRow(table, place(table.over), isLog(name));
    }
    if (mark.kind === 'pixels') {
      const size = `width="${px(frame.right - frame.left)}" height="${px(frame.bottom - frame.top)}"`;
      return `<image x="${px(frame.left)}" y="${px(frame.top)}" ${size} class="pixels"` +
        ` preserveAspectRatio="none" href="${pixelSource(mark, data.values)}"/>`;
    }
    if (!x || !y) return '';
    if (mark.kind === 'curve') return drawLines(mark, data, x, y, frame.bottom);
    if (mark.kind === 'bell') return drawLines(mark, bellData(data), x, y, frame.bottom);
    return mark.kind === 'dots' ? drawDots(mark, data, x, y) : drawBars(mark, data, x, y);
  });
  clips += 1;
  const box = `x="${px(frame.left)}" y="${px(frame.top)}" width="${px(frame.right - frame.left)}" height="${px(frame.bottom - frame.top)}"`;
  const svg =
    `<clipPath id="clip-${clips}"><rect ${box}/></clipPath>` +
    (panel.y && y ? drawY(panel.y, y, frame) : '') +
    (panel.x && x ? drawX(panel.x, x, frame) : '') +
    `<g clip-path="url(#clip-${clips})">${marks.join('')}</g>`;
  return { svg, bottom: frame.bottom + footer };
}

/** All panels, one under another where the page is narrow. */
function draw(figure: Figure, place: Place, width: number): string {
  let top = 0;
  const parts: string[] = [];
  for (const row of figure.rows) {
    const rows = width < NARROW ? row.map((panel) => [panel]) : [row];
    for (const panels of rows) {
      const total = panels.reduce((sum, panel) => sum + panel.width, 0);
      let left = 0;
      let bottom = top;
      for (const panel of panels) {
        const wide = (width * panel.width) / total;
        const drawn = drawPanel(panel, place, left, top, wide);
        parts.push(drawn.svg);
        bottom = Math.max(bottom, drawn.bottom);
        left += wide;
      }
      top = bottom + 4;
    }
  }
  return `<svg viewBox="0 0 ${width} ${px(top)}" width="${width}" height="${px(top)}" role="img"` +
    ` aria-label="${escape(figure.alt)}">${parts.join('')}</svg>`;
}

function legend(figure: Figure): string {
  const marks = figure.rows.flat().flatMap((panel) => panel.marks).filter((mark) => mark.label);
  const items = marks.map((mark) => {
    const isArea = mark.kind === 'bars' || mark.style.fill;
    const kind = isArea ? 'area' : mark.style.dashed ? 'dashed' : 'line';
    const text = label(mark.label);
    const html = text.replace(/<tspan font-style="italic">(.*?)<\/tspan>/g, '<i>$1</i>')
      .replace(/<tspan dy="\.3em"[^>]*>(.*?)<\/tspan><tspan dy="-\.3em"> <\/tspan>/g, '<sub>$1</sub>');
    return `<li><span class="swatch ${kind}" style="color:${ink(mark.color)}"></span><span>${html}</span></li>`;
  });
  return items.length ? `<ul class="live-legend">${items.join('')}</ul>` : '';
}

function animate(button: HTMLButtonElement, slider: HTMLInputElement): void {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = 'Play';
  };
  const move = () => {
    slider.stepUp();
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    if (slider.value === slider.max) stop();
  };
  button.addEventListener('click', () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = slider.min;
    button.textContent = 'Pause';
    timer = window.setInterval(move, 90);
  });
}

/** Says where a slider stands, to the eye and to the ear. */
export function tell(slider: HTMLInputElement, text: string): void {
  slider.setAttribute('aria-valuetext', text);
  slider.closest('.live-slider')!.querySelector('output')!.textContent = text;
}

export type Positions = Record<string, number>;

/** Lets `show` draw whenever a control has moved, or the window, once a frame. What it
 * returns asks for that too. */
export function listen(
  box: HTMLElement,
  controls: Control[],
  show: (positions: Positions) => void,
): () => void {
  const view = box.querySelector<HTMLElement>('.live-view')!;
  const inputs = [...box.querySelectorAll<HTMLInputElement>('[data-control]')];
  const positions: Positions = {};
  const read = () => {
    for (const input of inputs) {
      if (input.type === 'radio' && !input.checked) continue;
      const name = input.dataset.control!;
      positions[name] = Number(input.value);
      if (input.type === 'radio') continue;
      const text = controls.find((each) => each.name === name)!.texts[positions[name]];
      tell(input, text);
    }
  };
  const request = onceAFrame(() => {
    read();
    show(positions);
  });
  box.addEventListener('input', request);
  for (const button of box.querySelectorAll<HTMLButtonElement>('[data-play]')) {
    animate(button, inputs.find((input) => input.dataset.control === button.dataset.play)!);
  }
  let width = 0;
  new ResizeObserver(() => {
    if (view.clientWidth === width) return;
    width = view.clientWidth;
    request();
  }).observe(view);
  box.classList.add('alive');
  return request;
}

export function say(box: HTMLElement, words: string): void {
  const says = box.querySelector<HTMLElement>('.live-says')!;
  if (says.textContent !== words) says.textContent = words;
}

/** Puts the drawing where the still was, and lets the controls move it. */
function bringToLife(box: HTMLElement, figure: Figure): void {
  const view = box.querySelector<HTMLElement>('.live-view')!;
  const counts = new Map(figure.controls.map((each) => [each.name, each.texts.length]));
  const names = legend(figure);
  listen(box, figure.controls, (positions) => {
    const place: Place = (over) =>
      over.reduce((at, name) => at * counts.get(name)! + positions[name], 0);
    view.innerHTML = names + draw(figure, place, Math.round(view.clientWidth));
    say(box, figure.says.texts[place(figure.says.over)]);
  });
}

/** Numbers are fetched when a figure comes near the window, or is about to be used. */
function whenNear(kind: string, begin: (box: HTMLElement, figure: any) => unknown): void {
  const fetched = async (box: HTMLElement) => {
    watcher.unobserve(box);
    try {
      await begin(box, await readJson(box.dataset.live!));
    } catch {
      say(box, 'The numbers of this figure could not be loaded; load the page again.');
    }
  };
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) void fetched(entry.target as HTMLElement);
      }
    },
    { rootMargin: '600px' },
  );
  for (const box of document.querySelectorAll<HTMLElement>(kind)) watcher.observe(box);
}

export function liveFigures(): void {
  whenNear('.live:not(.model)', bringToLife);
  let script: Promise<Begin> | undefined; // one for all clouds of a page
  whenNear('.cloud', async (box, figure) => {
    script ??= load(siteUrl('assets/cloud.js'));
    (await script)(box, figure);
  });
}
