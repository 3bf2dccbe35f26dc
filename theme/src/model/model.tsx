import type { ReactNode } from 'react';
import { Choice, Slider } from '../live/live';
import { usePage } from '../site/context';
import { kinds, SAMPLERS, SCALES, STEPS } from './choices';

export const ONNX = 'application/vnd.ddpm-lit.onnx+json';

const TASKS: Record<string, string> = {
  new: 'New pictures',
  blend: 'From one to another',
  finish: 'Finish my drawing',
};

const choice = (name: string, label: string, values: readonly unknown[], start: number) => ({
  name,
  label,
  kind: 'choice' as const,
  texts: values.map(String),
  start,
});

/** What can be drawn on: strokes make the part of a picture that is kept. */
function Pad({ size }: { size: number[] }) {
  const [, height, width] = size;
  return (
    <div className="model-pad">
      <p className="live-label" id="pad-words">
        Draw with a finger or a mouse, or with the arrow keys while the space bar is on. Only
        the part above the line is kept.
      </p>
      <canvas
        width={width}
        height={height}
        tabIndex={0}
        role="application"
        aria-label="Drawing pad"
        aria-describedby="pad-words"
      />
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
  const group = model.split('/').at(-1)!.replace('.onnx', '');
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
        <div className="live-controls">
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
          <Choice
            control={choice('steps', 'steps', STEPS, 1)}
            group={group}
          />
          <Choice
            control={choice('sampler', 'sampler', SAMPLERS, 0)}
            group={group}
          />
          <Slider
            control={{ ...choice('scale', 'guidance', SCALES, 2), kind: 'slider' }}
            isPlayable={false}
          />
        </div>
      </details>
      {tasks.includes('finish') && <Pad size={about.size} />}
    </div>
  );
}
