// Addresses on a page are relative to it, and name a page's file: so the book works
// below any path of a host, and without one, opened from its folder.

/** An attribute that holds an address from the root of a site. */
const ADDRESS = / (href|src|srcSet|data-(?:live|model|about))="(\/(?!\/)[^"]*)"/g;

/** The HTML of the page at `own`, such as `modules/forward/`, with relative addresses. */
export function relative(html: string, base: string, own: string): string {
  const up = '../'.repeat(own.split('/').length - 1);
  return html.replace(ADDRESS, (_, attribute: string, address: string) => {
    const [path, hash] = address.slice(base.length + 1).split('#');
    const place = hash === undefined ? '' : `#${hash}`;
    if (path === own && place) return ` ${attribute}="${place}"`;
    const file = path === '' || path.endsWith('/') ? `${path}index.html` : path;
    return ` ${attribute}="${up}${file}${place}"`;
  });
}
