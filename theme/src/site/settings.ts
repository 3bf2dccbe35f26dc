// What mystmd tells the theme through its environment.

export function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: mystmd sets it when it runs the theme`);
  return value;
}

/** The path the site lies below, such as `/book`; empty at the root of a host. */
export function basePath(): string {
  const path = (process.env.BASE_URL ?? '').replace(/^\/|\/$/g, '');
  return path ? `/${path}` : '';
}

/** The folder of myst.yml, where the package lies beside the chapters. */
export function bookRoot(): string {
  return process.env.BOOK_ROOT ?? '..';
}
