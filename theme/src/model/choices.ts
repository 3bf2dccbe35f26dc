// What a reader can choose of a model at work; the page shows it, the worker does it.
export const SCALES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
export const STEPS = [5, 10, 25, 50];
export const SAMPLERS = ['DDIM', 'ancestral', 'Heun'] as const;

/** What a picture can be asked to show: names, or where they have none, numbers. */
export const kinds = (about: { label_names: string[]; null_label: number | null }) =>
  Array.from({ length: about.null_label ?? 0 }, (_, i) => about.label_names[i] ?? String(i));
