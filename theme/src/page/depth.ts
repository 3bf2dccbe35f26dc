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

/** For the head of each page. Pages are written at the depth "core"; for another one each
 * piece is opened or closed as it arrives, until the page is whole. */
export const earlyDepth = () =>
  "try{(function(d){if(d!=='ideas'&&d!=='everything')return;" +
  `var f=${showDepth},o=new MutationObserver(function(){f(d)});` +
  'o.observe(document,{childList:true,subtree:true});' +
  "document.addEventListener('readystatechange',function(){f(d);o.disconnect()},{once:true})" +
  "})(localStorage.getItem('depth'))}catch(_){}";
