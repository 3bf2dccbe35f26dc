// What a reader can choose of a model at work; the page shows it, the worker does it.
export const SCALES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
export const STEPS = [5, 10, 25, 50];
export const SAMPLERS = ['DDIM', 'ancestral', 'Heun'] as const;
