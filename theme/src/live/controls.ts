// What a live figure can be set to; the page shows it, and the scripts read it.

export interface Control {
  name: string;
  label: string;
  kind: 'slider' | 'choice';
  /** What each of its positions is called. */
  texts: string[];
  /** The position that it begins at. */
  start: number;
}

/** Of each control, by its name, where it stands. */
export type Positions = Record<string, number>;

/** The row of a table that depends on some of the controls: the last one counts on. */
export const rowOf = (over: string[], controls: Control[], positions: Positions): number =>
  over.reduce((row, name) => {
    const { texts } = controls.find((each) => each.name === name)!;
    return row * texts.length + positions[name];
  }, 0);
