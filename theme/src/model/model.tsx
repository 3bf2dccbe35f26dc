import type { ReactNode } from 'react';
import type { Control } from '../live/controls';
import { Controls } from '../live/live';
import { usePage } from '../site/context';
import { kinds, SAMPLERS, SCALES, STEPS } from './choices';

export const ONNX = 'application/vnd.ddpm-lit.onnx+json';

const TASKS: Record<string, string> = {
  new: 'New pictures',
  blend: 'From one to another',
  finish: 'Finish my drawing',
};

const CONTROLS: Control[] = [
  { name: 'steps', label: 'steps', kind: 'choice', texts: STEPS.map(String), start: 1 },
  { name: 'sampler', label: 'sampler', kind: 'choice', texts: [...SAMPLERS], start: 0 },
  { name: 'scale', label: 'guidance', kind: 'slider', texts: SCALES.map(String), start: 2 },
];

/** What can be drawn on: strokes make the part of a picture that is kept. */
function Pad({ size }: { size: number[] }) {
  const [, height, width] = size;
  return (
    <div className="model-pad">
      <canvas
        width={width}
        height={height}
        tabIndex={0}
        role="application"
        aria-label="Drawing pad"
        aria-describedby="pad-words"
      />
      <p className="live-label" id="pad-words">
        Draw with a finger or a mouse, or with the arrow keys while the space bar is on. Only
        the part above the line is kept.
      </p>
      <button type="button" className="live-play" data-clear>
        Clear
      </button>
    </div>
  );
}

/**
 * A model that runs in the reader's browser, once it is asked to. Without scripts only
 * the still and its words are seen; model-client.ts does the rest.
 */
export function Model({ json, still }: { json: string; still: ReactNode }) {
  const { site, page } = usePage();
  const { about, onnx, says, alt, tasks } = JSON.parse(json);
  const model = site.publishContent(Buffer.from(onnx, 'base64'), '.onnx').src;
  const things = ['one of each', ...kinds(about)];
  return (
    <div
      className="live model"
      data-model={model}
      data-about={site.publishContent(JSON.stringify(about), '.json').src}
      data-alt={alt}
      data-start={page.slug === site.index ? 'once' : undefined}
    >
      <p className="live-says" role="status">
        {says}
      </p>
      <div className="live-view">{still}</div>
      <progress className="model-progress" max={1} value={0} hidden aria-label="Progress" />
      <div className="live-controls model-tasks">
        {tasks.map((task: string) => (
          <button type="button" className="live-play" data-task={task} key={task}>
            {TASKS[task]}
          </button>
        ))}
      </div>
      <details className="live-controls model-settings">
        <summary>Choose how</summary>
        <Controls controls={CONTROLS}>
          <label className="model-field">
            <span className="live-label">of what</span>
            <select data-control="kind">
              {things.map((kind, i) => (
                <option value={i} key={kind}>
                  {kind}
                </option>
              ))}
            </select>
          </label>
          <label className="model-field">
            <span className="live-label">seed</span>
            <input type="number" data-control="seed" min={0} max={999999} defaultValue={0} />
          </label>
        </Controls>
      </details>
      {tasks.includes('finish') && <Pad size={about.size} />}
    </div>
  );
}
