// Brings the live figures of a page to life: their controls, and when they are fetched.
import { load, once, onceAFrame, readJson, siteUrl, whenNear } from '../page/dom';
import type { Begin } from './cloud-client';
import { rowOf, type Control, type Positions } from './controls';
import { draw, legend, type Figure } from './drawing';

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
  const request = onceAFrame(() => {
    for (const input of inputs) {
      if (input.type === 'radio' && !input.checked) continue;
      const { texts } = controls.find(({ name }) => name === input.dataset.control)!;
      positions[input.dataset.control!] = Number(input.value);
      if (input.type === 'range') tell(input, texts[Number(input.value)]);
    }
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

/** Lets a dot be dragged: its control takes the position where the dot is nearest to the
 * pointer. The view holds the pointer, since each frame has dots of its own. */
function dragDots(box: HTMLElement, view: HTMLElement): void {
  let slider: HTMLInputElement;
  let places: number[][];
  const dotAt = ({ target }: Event) => (target as Element).closest<SVGElement>('[data-handle]');
  // The dot on which a finger lies is soon another one: `touch-action` is not enough.
  const keepStill = (event: Event) => dotAt(event) && event.preventDefault();
  view.addEventListener('touchstart', keepStill, { passive: false });
  view.addEventListener('pointerdown', (event) => {
    const dot = dotAt(event);
    if (!dot || event.button) return;
    slider = box.querySelector(`[data-control="${dot.dataset.handle}"]`)!;
    places = dot.dataset.places!.split(' ').map((place) => place.split(',').map(Number));
    view.setPointerCapture(event.pointerId);
    event.preventDefault(); // no words are selected on the way
  });
  view.addEventListener('pointermove', (event) => {
    if (!view.hasPointerCapture(event.pointerId)) return;
    const { left, top } = view.querySelector('svg')!.getBoundingClientRect();
    const far = places.map(([x, y]) => Math.hypot(x + left - event.clientX, y + top - event.clientY));
    const nearest = String(far.indexOf(Math.min(...far)));
    if (slider.value === nearest) return;
    slider.value = nearest;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  });
}

/** Puts the drawing where the still was, and lets the controls move it. */
function bringToLife(box: HTMLElement, figure: Figure): void {
  const view = box.querySelector<HTMLElement>('.live-view')!;
  const { controls, says } = figure;
  const names = legend(figure);
  dragDots(box, view);
  listen(box, controls, (positions) => {
    view.innerHTML = names + draw(figure, positions, Math.round(view.clientWidth));
    say(box, says.texts[rowOf(says.over, controls, positions)]);
  });
}

/** Numbers are fetched when a figure comes near the window, or is about to be used. */
function figures(kind: string, begin: (box: HTMLElement, figure: any) => unknown): void {
  whenNear(document.querySelectorAll<HTMLElement>(kind), async (box) => {
    try {
      await begin(box, await readJson(box.dataset.live!));
    } catch {
      say(box, 'The numbers of this figure could not be loaded; load the page again.');
    }
  });
}

export function liveFigures(): void {
  figures('.live:not(.model)', bringToLife);
  const script = once(() => load<Begin>(siteUrl('assets/cloud.js')));
  figures('.cloud', async (box, figure) => (await script())(box, figure));
}
