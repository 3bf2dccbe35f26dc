import { Children, Fragment, type ReactNode } from 'react';

/** Things in a row, with something between them. */
export function Joined({ by = ', ', children }: { by?: string; children: ReactNode }) {
  return Children.toArray(children).map((child, i) => (
    <Fragment key={i}>
      {i > 0 && by}
      {child}
    </Fragment>
  ));
}
