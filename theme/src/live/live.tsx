import { useId, type ReactNode } from 'react';
import { usePage } from '../site/context';
import { rowOf, type Control } from './controls';

export const LIVE = 'application/vnd.ddpm-lit.live+json';

function Slider({ control, isPlayable }: { control: Control; isPlayable: boolean }) {
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

function Choice({ control }: { control: Control }) {
  const group = useId();
  return (
    <fieldset className="live-choice choice">
      <legend className="live-label">{control.label}</legend>
      {control.texts.map((text, i) => (
        <label key={text}>
          <input
            type="radio"
            name={group}
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
  /** The control that can also move by itself. */
  play?: string;
  children?: ReactNode;
}

export function Controls({ controls, play, children }: ControlsProps) {
  return (
    <div className="live-controls">
      {children}
      {controls.map((control) =>
        control.kind === 'slider' ? (
          <Slider control={control} isPlayable={control.name === play} key={control.name} />
        ) : (
          <Choice control={control} key={control.name} />
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
  return (
    <div className="live" data-live={src} data-alt={figure.alt}>
      <Controls controls={figure.controls} play={figure.play} />
      <p className="live-says" role="status">
        {firstWords(figure)}
      </p>
      <div className="live-view">{still}</div>
    </div>
  );
}
