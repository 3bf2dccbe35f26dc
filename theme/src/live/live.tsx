import type { ReactNode } from 'react';
import { usePage } from '../site/context';
import { rowOf, type Control } from './controls';

export const LIVE = 'application/vnd.ddpm-lit.live+json';

export function Slider({ control, isPlayable }: { control: Control; isPlayable: boolean }) {
  const { label, texts, start } = control;
  return (
    <div className="live-slider">
      <label>
        <span className="live-label">{label}</span>
        <input
          type="range"
          data-control={control.name}
          min={0}
          max={texts.length - 1}
          step={1}
          defaultValue={start}
          aria-valuetext={texts[start]}
        />
      </label>
      <output>{texts[start]}</output>
      {isPlayable && (
        <button type="button" className="live-play" data-play={control.name}>
          Play
        </button>
      )}
    </div>
  );
}

export function Choice({ control, group }: { control: Control; group: string }) {
  return (
    <fieldset className="live-choice choice">
      <legend className="live-label">{control.label}</legend>
      {control.texts.map((text, i) => (
        <label key={text}>
          <input
            type="radio"
            name={`${group}-${control.name}`}
            data-control={control.name}
            value={i}
            defaultChecked={i === control.start}
          />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

interface ControlsProps {
  controls: Control[];
  group: string;
  isPlayable: (control: Control) => boolean;
}

export function Controls({ controls, group, isPlayable }: ControlsProps) {
  return (
    <div className="live-controls">
      {controls.map((control) =>
        control.kind === 'slider' ? (
          <Slider control={control} isPlayable={isPlayable(control)} key={control.name} />
        ) : (
          <Choice control={control} group={group} key={control.name} />
        ),
      )}
    </div>
  );
}

/** What the figure says before anything is moved. */
function firstWords({ says: { over, texts }, controls }: any): string {
  const starts = controls.map(({ name, start }: Control) => [name, start]);
  return texts[rowOf(over, controls, Object.fromEntries(starts))];
}

/**
 * A figure with controls. Without scripts only the still and its words are seen;
 * live-client.ts fetches the tables and draws.
 */
export function LiveFigure({ json, still }: { json: string; still: ReactNode }) {
  const { site } = usePage();
  const figure = JSON.parse(json);
  const { src } = site.publishContent(json, '.json');
  const group = src.split('/').at(-1)!.replace('.json', '');
  return (
    <div className="live" data-live={src} data-alt={figure.alt}>
      <Controls
        controls={figure.controls}
        group={group}
        isPlayable={({ name }) => figure.play === name}
      />
      <p className="live-says" role="status">
        {firstWords(figure)}
      </p>
      <div className="live-view">{still}</div>
    </div>
  );
}
