import { find, plainText, walk } from './tree';
import type { Citation, Node, Page } from './types';

/** Every source that some page cites. */
export class Citations {
  private readonly data: Record<string, Citation> = {};
  private readonly names = new Map<string, string>();

  constructor(pages: Map<string, Page>) {
    for (const page of pages.values()) {
      Object.assign(this.data, page.references?.cite?.data);
      for (const node of walk(page.mdast)) {
        if (node.type !== 'cite') continue;
        // In brackets it reads "Efron, 2011": here it stands in running text.
        const name = plainText(node).replace(/, (\d{4}\w?)$/, ' ($1)');
        this.names.set(node.label, name);
      }
    }
  }

  /** "Ho et al. (2020)", once some chapter cites it. */
  name(key: string): string | undefined {
    return this.names.get(key);
  }

  /** Let the page of the ledger end with the sources that the ledger names. */
  listOn(pages: Map<string, Page>, keys: string[]): void {
    const isLedger = (node: Node) => node.type === 'ledger';
    for (const page of pages.values()) {
      if (!find(page.mdast, isLedger)) continue;
      const cite = page.references?.cite ?? { order: [], data: {} };
      const order = [...new Set([...cite.order, ...keys])].filter((key) => this.data[key]);
      page.references = { ...page.references, cite: { order, data: this.data } };
    }
  }
}
