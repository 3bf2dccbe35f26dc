// How much code a chapter shows: a choice that is made once and remembered.

export const DEPTHS = ['ideas', 'core', 'everything'] as const;
export type Depth = (typeof DEPTHS)[number];

/** Open what belongs to a depth and close what does not, but leave alone what somebody
 * has opened. Its text also stands in the head of each page, so it uses nothing else. */
export function showDepth(depth: string): void {
  const ranks = ['ideas', 'core', 'everything'];
  for (const box of document.querySelectorAll<HTMLDetailsElement>('details[data-depth]')) {
    if (box.dataset.touched && box.open) continue;
    box.open = ranks.indexOf(box.dataset.depth!) <= ranks.indexOf(depth);
  }
  for (const radio of document.querySelectorAll<HTMLInputElement>('.depth input')) {
    radio.checked = radio.value === depth;
  }
}
