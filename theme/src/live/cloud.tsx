import type { ReactNode } from 'react';
import { usePage } from '../site/context';
import type { Control } from './controls';
import { Controls } from './live';

export const CLOUD = 'application/vnd.ddpm-lit.cloud+json';

/** A cloud that a hand can draw. Without scripts the still, its words and the meaning of
 * its colours are seen; cloud-client.ts does the rest. */
export function CloudFigure({ json, still }: { json: string; still: ReactNode }) {
  const { site } = usePage();
  const figure = JSON.parse(json);
  const { src } = site.publishContent(json, '.json');
  const given: Control[] = figure.controls;
  const controls = given.filter(({ texts }) => texts.length > 1);
  controls[0] = { ...controls[0], texts: [...controls[0].texts, 'your own'] };
  return (
    <div className="cloud" data-live={src}>
      <Controls controls={controls} play={figure.play} />
      <p className="live-says" role="status">
        {figure.first}
      </p>
      <ul className="live-legend">
        {figure.legend.map((words: string, i: number) => (
          <li key={words}>
            <span className="swatch dot" style={{ color: `var(--live-${i})` }} />
            <span>{words}</span>
          </li>
        ))}
      </ul>
      <div className="live-view">{still}</div>
      <p className="cloud-help">
        <button type="button" className="live-play" data-clear>
          Clear
        </button>{' '}
        Press in the picture, or draw a line, for points of your own. By keys: the arrows
        move the cross, Space puts a point, Backspace takes one back, Delete clears.
      </p>
    </div>
  );
}
