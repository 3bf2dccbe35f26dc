import type { ReactNode } from 'react';
import type { Depth } from './depth';

interface FoldProps {
  kind: string;
  /** Who has chosen this depth, or a greater one, finds it open. */
  depth?: Depth;
  id?: string;
  summary: ReactNode;
  /** What the summary says to who rests on it. */
  title?: string;
  children: ReactNode;
}

/** Something under one quiet line that opens it. */
export function Fold({ kind, depth, id, summary, title, children }: FoldProps) {
  return (
    <details className={kind} id={id} data-depth={depth} open={depth === 'core'}>
      <summary title={title}>{summary}</summary>
      {children}
    </details>
  );
}
