// Draws a live figure as SVG: marks whose data lie in tables, one row for every
// position of the controls. The Python side is `ddpm_lit.book.widgets`.
import { scaleLinear, type ScaleLinear } from 'd3-scale';
import { area, line } from 'd3-shape';
import { pixels } from '../page/dom';
import { rowOf, type Control, type Positions } from './controls';

/** A channel of a mark: the controls it depends on, and its packed numbers. */
interface Table {
  over: string[];
  shape: number[];
  low: number;
  step: number;
  data: string;
  /** The same, decoded when it is first needed. */
  bytes?: Uint8Array;
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

export interface Figure {
  alt: string;
  play: string;
  controls: Control[];
  rows: Panel[][];
  says: { over: string[]; texts: string[] };
}

type Scale = ScaleLinear<number, number>;
type Data = Record<string, number[]>;
/** The row of a table now, or with some control at another position. */
type RowAt = (over: string[], moved?: Positions) => number;

const GAP = 4095;
const INCH = 96;
const NARROW = 560;

/**
 * One row of a table. The numbers were stored as differences along the last axis,
 * all low bytes first, then all high bytes.
 */
function readRow(table: Table, row: number): number[] {
  const bytes = (table.bytes ??= Uint8Array.from(atob(table.data), (each) => each.charCodeAt(0)));
  const half = bytes.length / 2;
  const size = table.shape.reduce((a, b) => a * b, 1);
  const last = table.shape.at(-1) ?? 1;
  let number = 0;
  return Array.from({ length: size }, (_, i) => {
    const at = row * size + i;
    const difference = ((bytes[at] | (bytes[half + at] << 8)) << 16) >> 16;
    number = (i % last ? number : 0) + difference;
    return number === GAP ? NaN : table.low + table.step * number;
  });
}

const escape = (text: string) =>
  text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

type Set = (text: string) => string;

/** `$z_{t-1}$`: italic, with the index set low. Nothing more is needed. */
function label(text: string, italic: Set, low: Set): string {
  const pieces = text.split('$').map((part, i) => {
    if (i % 2 === 0) return escape(part);
    const maths = part.replaceAll('\\beta', 'β').replaceAll('-', '−');
    const [base, index] = maths.split('_');
    return italic(escape(base)) + (index ? low(escape(index.replace(/[{}]/g, ''))) : '');
  });
  return pieces.join('');
}

const svgLabel = (text: string) =>
  label(
    text,
    (base) => `<tspan font-style="italic">${base}</tspan>`,
    (low) => `<tspan dy=".3em" font-size=".75em">${low}</tspan><tspan dy="-.3em"> </tspan>`,
  );

const htmlLabel = (text: string) =>
  label(
    text,
    (base) => `<i>${base}</i>`,
    (low) => `<sub>${low}</sub>`,
  );

const ink = (color: Mark['color']) => (color === 'ink' ? 'var(--live-ink)' : `var(--live-${color})`);

/** More digits of a place than this are not seen. */
const px = (value: number) => Math.round(10 * value) / 10;

const box = (left: number, top: number, width: number, height: number) =>
  `x="${px(left)}" y="${px(top)}" width="${px(width)}" height="${px(height)}"`;

function drawLines(mark: Mark, { x: xs, y: ys }: Data, x: Scale, y: Scale): string {
  const color = ink(mark.color);
  if (mark.style.fill) {
    const [bottom] = y.range();
    const d = area<number>((at) => x(at), bottom, (_, i) => y(ys[i]))(xs);
    return `<path d="${d}" fill="${color}" fill-opacity=".32"/>`;
  }
  const count = xs.length;
  const lines = ys.length / count;
  const look = lines > 1 ? 'stroke-width="1" stroke-opacity=".5"' : 'stroke-width="2"';
  const dashes = mark.style.dashed ? ' stroke-dasharray="6 4"' : '';
  return Array.from({ length: lines }, (_, k) => {
    const height = (i: number) => ys[k * count + i];
    const d = line<number>((at) => x(at), (_, i) => y(height(i)))
      .defined((at, i) => !Number.isNaN(at + height(i)))(xs);
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
    const [left, top] = [x(value), y(data.y[i])];
    return mark.style.tick
      ? `<path d="M${left},${px(top - 6)}v12" stroke="${color}" stroke-width="1.4"/>`
      : `<circle cx="${left}" cy="${top}" r="5" fill="${color}"/>`;
  }).join('');
}

/** A dot that can be dragged, with its places at all positions of the control that it
 * follows. */
function drawHandle(mark: Mark, figure: Figure, rowAt: RowAt, x: Scale, y: Scale): string {
  const { handle } = mark.style;
  const places = figure.controls
    .find(({ name }) => name === handle)!
    .texts.map((_, at) => {
      const value = (table: Table) => readRow(table, rowAt(table.over, { [handle]: at }))[0];
      return [x(value(mark.channels.x)), y(value(mark.channels.y))];
    });
  const [left, top] = places[rowAt([handle])];
  const data = `data-handle="${handle}" data-places="${places.join(' ')}"`;
  return `<circle ${data} cx="${left}" cy="${top}" r="8" fill="${ink(mark.color)}"/>`;
}

function drawBars(mark: Mark, { edges, heights }: Data, x: Scale, y: Scale): string {
  const [along, across] = mark.style.horizontal ? [y, x] : [x, y];
  const rectangles = heights.map((height, i) => {
    const [a, b] = [along(edges[i]), along(edges[i + 1])].sort((p, q) => p - q);
    const [c, d] = [across(0), across(height)].sort((p, q) => p - q);
    const place = mark.style.horizontal ? box(c, a, d - c, b - a) : box(a, c, b - a, d - c);
    return `<rect ${place}/>`;
  });
  return `<g fill="${ink(mark.color)}" fill-opacity=".6">${rectangles.join('')}</g>`;
}

/** An image as the address of a small PNG, one pixel for each number. */
function pixelSource(mark: Mark, values: number[]): string {
  const [rows, columns] = mark.channels.values.shape;
  const { low, high } = mark.style;
  const color = scaleLinear<string>()
    .domain(mark.palette!.map((_, i, all) => low + ((high - low) * i) / (all.length - 1)))
    .range(mark.palette!)
    .clamp(true);
  const seen = (value: number) => [...color(value).match(/\d+/g)!.map(Number), 255];
  const gap = [0, 0, 0, 0];
  return pixels(columns, rows, (i) => (Number.isNaN(values[i]) ? gap : seen(values[i]))).toDataURL();
}

/** Where a number stands on an axis: on one with powers of ten, by its exponent. */
const placeOn = ({ log }: Axis, value: number) => (log ? Math.log10(value) : value);

const scaleOf = (axis: Axis, from: number, to: number): Scale =>
  scaleLinear([placeOn(axis, axis.low), placeOn(axis, axis.high)], [from, to])
    .interpolate((a, b) => (share) => px(a + (b - a) * share));

const power = (exponent: number) =>
  `10${[...String(exponent)].map((d) => (d === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(d)])).join('')}`;

function ticksOf(axis: Axis, scale: Scale, count: number): [number, string][] {
  if (axis.ticks) {
    return Object.entries(axis.ticks).map(([at, text]) => [placeOn(axis, Number(at)), text]);
  }
  if (!axis.log) {
    const text = scale.tickFormat(count, 'f');
    return scale.ticks(count).map((at) => [at, text(at)]);
  }
  const [low, high] = scale.domain();
  const [first, last] = [Math.ceil(low), Math.floor(high)];
  const every = Math.ceil((last - first + 1) / count);
  const ticks: [number, string][] = [];
  for (let n = last; n >= first; n -= every) ticks.push([n, power(n)]);
  return ticks;
}

interface Frame {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The grid, numbers and name of an axis: below the frame, or beside it. */
function drawAxis(name: 'x' | 'y', axis: Axis, scale: Scale, frame: Frame): string {
  const { left, top, right, bottom } = frame;
  const isX = name === 'x';
  const ticks = ticksOf(axis, scale, isX ? (right - left) / 80 : (bottom - top) / 45);
  const drawn = ticks.map(([at, text]) => {
    const place = scale(at);
    const across = isX ? `M${place},${top}V${bottom}` : `M${left},${place}H${right}`;
    const where = isX
      ? `x="${place}" y="${bottom + 16}" text-anchor="middle"`
      : `x="${left - 8}" y="${place}" dy=".35em" text-anchor="end"`;
    const grid = axis.ticks ? '' : `<path class="grid" d="${across}"/>`;
    return `${grid}<text ${where}>${escape(text)}</text>`;
  });
  const edge = isX ? `M${left},${bottom}H${right}` : `M${left},${top}V${bottom}`;
  const where = isX
    ? `x="${px((left + right) / 2)}" y="${bottom + 35}"`
    : `transform="translate(${px(left - 42)},${px((top + bottom) / 2)}) rotate(-90)"`;
  return (
    drawn.join('') +
    (isX && axis.ticks ? '' : `<path class="axis" d="${edge}"/>`) +
    (axis.label && `<text ${where} text-anchor="middle">${svgLabel(axis.label)}</text>`)
  );
}

function drawMark(mark: Mark, data: Data, x: Scale, y: Scale): string {
  if (mark.kind === 'curve') return drawLines(mark, data, x, y);
  if (mark.kind === 'bell') return drawLines(mark, bellData(data), x, y);
  return mark.kind === 'dots' ? drawDots(mark, data, x, y) : drawBars(mark, data, x, y);
}

/** Where the marks of a panel go. An image has square pixels: it is as wide as the panel
 * and no taller than it asks for. */
function frameOf(panel: Panel, left: number, top: number, width: number): Frame {
  const words = panel.y?.ticks ? 118 : panel.y?.label ? 56 : 40;
  const frame = {
    left: left + (panel.y ? words : 0),
    top: top + 8,
    right: left + width - (panel.y ? 12 : 0),
    bottom: top + 8 + panel.height * INCH - footer(panel),
  };
  const image = panel.marks.find((mark) => mark.kind === 'pixels');
  if (!image) return frame;
  const [rows, columns] = image.channels.values.shape;
  const whole = frame.right - frame.left;
  const tall = Math.min(panel.height * INCH, (whole * rows) / columns);
  const side = (whole - (tall * columns) / rows) / 2;
  const { right } = frame;
  return { ...frame, left: frame.left + side, right: right - side, bottom: frame.top + tall };
}

const footer = ({ x }: Panel) => (x ? (x.label ? 46 : 24) : 0);

let clips = 0;

function drawPanel(panel: Panel, frame: Frame, figure: Figure, rowAt: RowAt): string {
  const { left, top, right, bottom } = frame;
  const inside = box(left, top, right - left, bottom - top);
  const x = panel.x && scaleOf(panel.x, left, right);
  const y = panel.y && scaleOf(panel.y, bottom, top);
  const isHandle = (mark: Mark) => Boolean(mark.style.handle && x && y);
  const handles = panel.marks.filter(isHandle);
  const marks = panel.marks.filter((mark) => !isHandle(mark)).map((mark) => {
    const channels = Object.entries(mark.channels);
    const data: Data = Object.fromEntries(
      channels.map(([name, table]) => [name, readRow(table, rowAt(table.over))]),
    );
    if (mark.kind !== 'pixels') return x && y ? drawMark(mark, data, x, y) : '';
    const source = pixelSource(mark, data.values);
    return `<image ${inside} class="pixels" preserveAspectRatio="none" href="${source}"/>`;
  });
  clips += 1;
  return (
    `<clipPath id="clip-${clips}"><rect ${inside}/></clipPath>` +
    (y ? drawAxis('y', panel.y!, y, frame) : '') +
    (x ? drawAxis('x', panel.x!, x, frame) : '') +
    `<g clip-path="url(#clip-${clips})">${marks.join('')}</g>` +
    handles.map((mark) => drawHandle(mark, figure, rowAt, x!, y!)).join('')
  );
}

/** All panels, one under another where the page is narrow. */
export function draw(figure: Figure, positions: Positions, width: number): string {
  const rowAt: RowAt = (over, moved) => rowOf(over, figure.controls, { ...positions, ...moved });
  const rows = width < NARROW ? figure.rows.flat().map((panel) => [panel]) : figure.rows;
  let top = 0;
  const parts: string[] = [];
  for (const panels of rows) {
    const total = panels.reduce((sum, panel) => sum + panel.width, 0);
    let left = 0;
    let bottom = top;
    for (const panel of panels) {
      const wide = (width * panel.width) / total;
      const frame = frameOf(panel, left, top, wide);
      parts.push(drawPanel(panel, frame, figure, rowAt));
      bottom = Math.max(bottom, frame.bottom + footer(panel));
      left += wide;
    }
    top = bottom + 4;
  }
  return `<svg viewBox="0 0 ${width} ${px(top)}" width="${width}" height="${px(top)}" role="img"` +
    ` aria-label="${escape(figure.alt)}">${parts.join('')}</svg>`;
}

export function legend(figure: Figure): string {
  const marks = figure.rows.flat().flatMap((panel) => panel.marks).filter((mark) => mark.label);
  const items = marks.map((mark) => {
    const isArea = mark.kind === 'bars' || mark.style.fill;
    const kind = isArea ? 'area' : mark.style.dashed ? 'dashed' : 'line';
    const swatch = `<span class="swatch ${kind}" style="color:${ink(mark.color)}"></span>`;
    return `<li>${swatch}<span>${htmlLabel(mark.label)}</span></li>`;
  });
  return items.length ? `<ul class="live-legend">${items.join('')}</ul>` : '';
}
