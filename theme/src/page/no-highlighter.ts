// Stands in for react-syntax-highlighter, which myst-to-react imports but which
// this theme never renders (see build.mjs).
export const LightAsync = () => null;
